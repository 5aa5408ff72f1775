"""One environment for every test and notebook, and one closing line that counts them all."""

import contextlib
import multiprocessing
import os
import sys
from pathlib import Path

import pytest

from autograder.course import Course
from autograder.notebooks import environment

ROOT = Path(__file__).resolve().parent.parent

os.environ.update(environment(ROOT))
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.fixture(scope="session")
def course() -> Course:
    return Course(ROOT)


def pytest_terminal_summary(terminalreporter, config):
    counts = {name: len(terminalreporter.stats.get(name, [])) for name in ("passed", "skipped")}
    failed = sum(len(terminalreporter.stats.get(name, [])) for name in ("failed", "error"))
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    config.closing_line = f"{counts['passed']} passed, {failed} failed{skipped}"


def pytest_unconfigure(config):
    if hasattr(config, "closing_line"):
        print(config.closing_line, flush=True)


@pytest.fixture(scope="session")
def run():
    """Run a notebook's code cells in a fork, on past errors; give the graded cells that failed."""
    import matplotlib

    import autograder.lab.checks
    import autograder.lab.plots  # noqa: F401

    matplotlib.use("agg")

    def call(notebook, stop_after=None):
        here, there = multiprocessing.get_context("fork").Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=_run_cells, args=(notebook, stop_after, there)
        )
        process.start()
        there.close()
        lost = here.recv()
        process.join()
        return lost

    return call


def _run_cells(notebook, stop_after, pipe):
    space, lost = {"__name__": "__main__"}, {}
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        for cell in notebook.cells:
            if cell.cell_type != "code" or "book-only" in cell.metadata.get("tags", []):
                continue
            nbgrader = cell.metadata.get("nbgrader", {})
            try:
                exec(compile(cell.source, nbgrader.get("grade_id", cell.id), "exec"), space)
            except Exception as error:
                if nbgrader.get("grade"):
                    lost[nbgrader["grade_id"]] = f"{type(error).__name__}: {error}"
            if nbgrader.get("grade_id") == stop_after and stop_after:
                break
    pipe.send(lost)
