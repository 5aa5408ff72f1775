"""What this host has, and what to do about what it lacks."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from autograder.errors import AutograderError

NEEDED = ("nbgrader", "torch", "jupyterlab", "matplotlib", "ipykernel")
OPTIONAL = {
    "jupyter-book": "the book: pip install 'autograder[book]'",
    "distributed": "grading on a cluster: pip install 'autograder[cluster]'",
    "nbval": "the tests: pip install 'autograder[test]'",
}


@dataclass(frozen=True)
class Finding:
    """One row of the table; `remedy` is empty where all is well."""

    what: str
    found: str
    remedy: str = ""
    needed: bool = False


def findings() -> Iterator[Finding]:
    """Look at the host, the versions and the course."""
    yield Finding("python", sys.version.split()[0])
    for name in NEEDED:
        yield _package(name, f"pip install {name}", needed=True)
    for name, remedy in OPTIONAL.items():
        yield _package(name, remedy, needed=False)
    yield _isolation()
    alembic = shutil.which("alembic")
    yield Finding(
        "nbgrader's database commands",
        "alembic" if alembic else "alembic is not on the path",
        "" if alembic else "put the environment's bin folder on PATH",
        needed=True,
    )
    browser = next(
        (n for n in ("chromium", "chromium-browser", "google-chrome") if shutil.which(n)), ""
    )
    yield Finding("browser tests", browser or "no Chromium", "" if browser else "install chromium")
    yield _course()


def _package(name: str, remedy: str, *, needed: bool) -> Finding:
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        return Finding(name, "missing", remedy, needed)


def _isolation() -> Finding:
    from autograder.sandbox import can_isolate

    refuse = can_isolate()
    return Finding("isolation", "no" if refuse else "yes", refuse or "", needed=True)


def _course() -> Finding:
    from autograder.course import Course

    try:
        course = Course.find()
    except AutograderError as error:
        return Finding("course", "none here", str(error))
    if not (course.root / "gradebook.db").exists():
        return Finding("gradebook", "none yet", "autograder release")
    return Finding("gradebook", "gradebook.db")
