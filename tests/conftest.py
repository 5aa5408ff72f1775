"""One environment for every test and notebook, and one closing line that counts them all."""

import functools
import os
import shutil
import sys
from pathlib import Path

import nbgrader.api
import pytest
from xdist.scheduler import LoadFileScheduling

from autograder import tampering
from autograder.answers import imports
from autograder.course import Course
from autograder.judge.interface import Interface
from autograder.notebooks import environment, read, reasons
from autograder.sandbox import Sandbox, can_isolate

ROOT = Path(__file__).resolve().parent.parent

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
browser_test = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is missing; install it to run browser tests"),
]

os.environ.update(environment(ROOT))
os.environ["PATH"] = os.pathsep.join(
    [str(Path(sys.executable).absolute().parent), os.environ["PATH"]]
)


# nbgrader asks a process of its own, for two seconds, which version a new gradebook is of.
nbgrader.api.get_alembic_version = functools.cache(nbgrader.api.get_alembic_version)


@pytest.fixture(scope="session")
def course() -> Course:
    return Course(ROOT)


class ByFileOrAnswer(LoadFileScheduling):
    """Gives a worker a file at a time, but of the answers, which are most of the work, one."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return nodeid if file.endswith("test_problems.py") else file


def pytest_xdist_make_scheduler(config, log):
    return ByFileOrAnswer(config, log)


def pytest_terminal_summary(terminalreporter, config):
    counts = {name: len(terminalreporter.stats.get(name, [])) for name in ("passed", "skipped")}
    failed = sum(len(terminalreporter.stats.get(name, [])) for name in ("failed", "error"))
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    config.closing_line = f"{counts['passed']} passed, {failed} failed{skipped}"


def pytest_unconfigure(config):
    if hasattr(config, "closing_line"):
        print(config.closing_line, flush=True)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def run():
    """Run a problem's notebook in the engine; give the graded cells that failed, and why."""
    course = Course(ROOT)
    sources = [read(course.source(stem)) for stem in course.stems]
    imported = dict.fromkeys(line for source in sources for line in imports(source))
    with Sandbox(isolate=can_isolate() is None, imports=imported) as sandbox:

        def call(course, stem, notebook):
            files, interface = course.files(stem), Interface.of_source(read(course.source(stem)))
            done = sandbox.run(notebook, files, interface=interface, own=files)
            # No honest answer tampers, right or wrong.
            assert [str(event) for event in done.events if event.kind == tampering.KIND] == []
            return reasons(done.notebook)

        yield call
