"""The engine in the place of nbgrader's executor: `nbgrader autograde` and formgrader run it."""

import atexit
import os
import sys
import threading
from dataclasses import asdict, fields
from pathlib import Path
from textwrap import dedent
from typing import Any

from nbformat import NotebookNode
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import Execute
from traitlets import Bool, Dict, TraitError, validate

from autograder.judge.interface import Interface
from autograder.repair import kept
from autograder.sandbox import Limits, Sandbox

FIELDS = {field.name: type(field.default) for field in fields(Limits)}
_lock = threading.Lock()
_sandboxes: dict[tuple[int, bool], Sandbox] = {}  # by process and isolation


class Executor(Execute):
    """Runs a submission in a fork of a warm process, isolated.

    Only Linux can. Elsewhere nbgrader's own executor does the work, and the log says that it does
    not isolate. What happened goes to the log too, and to resources["autograder"]: isolated,
    seconds, peak_bytes and events.
    """

    isolate = Bool(
        True,
        help="Keep student code from the network, other files and other processes; "
        "grading refuses where the host cannot.",
    ).tag(config=True)

    limits = Dict(
        help=dedent(
            f"""
            What a submission may use, by name: {", ".join(FIELDS)}. The seconds of a cell come
            from `timeout` unless cell_seconds is given.
            """
        )
    ).tag(config=True)

    @validate("limits")
    def _validate_limits(self, proposal: dict) -> dict:
        for name, value in proposal["value"].items():
            kind = FIELDS.get(name)
            if kind is None:
                raise TraitError(f"no limit is called {name!r}; there are {', '.join(FIELDS)}")
            if isinstance(value, bool) or not isinstance(value, (int, kind)) or value <= 0:
                raise TraitError(f"{name}: expected a positive {kind.__name__}, got {value!r}")
        return proposal["value"]

    def preprocess(
        self, nb: NotebookNode, resources: dict[str, Any] | None = None, km: object = None
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Execute a notebook in the folder resources["metadata"]["path"].

        Raises: IsolationError where this host cannot isolate, GradingError where the engine itself
        cannot run.
        """
        resources = {} if resources is None else resources
        if sys.platform != "linux":
            self.log.warning("student code runs without isolation: this host is not Linux")
            record = {"isolated": False, "events": [], **kept(nb)}
            nb.metadata["autograder"] = resources["autograder"] = record
            return super().preprocess(nb, resources, km)
        if not self.isolate:
            self.log.warning("student code runs without isolation, as c.Executor.isolate says")
        limits = self.chosen_limits()
        files = beside(resources, limits.file_bytes + 1)
        interface, own = self.judged(resources)
        done = shared(self.isolate).run(nb, files, limits=limits, interface=interface, own=own)
        # The graded notebook keeps it: whether it was isolated, and which limits were hit.
        record = done.record() | kept(nb)
        done.notebook.metadata["autograder"] = resources["autograder"] = record
        student = resources.get("nbgrader", {}).get("student", "")
        for event in done.events:
            self.log.warning("%s", f"{student}: {event}" if student else event)
        return done.notebook, resources

    def judged(self, resources: dict[str, Any]) -> tuple[Interface | None, list[str]]:
        """Read what the checks may reach, and which files are the course's own.

        A notebook that nbgrader has not released is run in one process.
        """
        names = resources.get("nbgrader", {})
        if "db_url" not in names:
            return None, []
        with Gradebook(names["db_url"]) as gradebook:
            try:
                notebook = gradebook.find_notebook(names["notebook"], names["assignment"])
            except MissingEntry:
                return None, []
            directory = CourseDirectory(parent=self)
            source = Path(directory.format_path("source", ".", names["assignment"]))
            interface = Interface.find(source / f"{names['notebook']}.ipynb", notebook)
        return interface, [path.relative_to(source).as_posix() for path in source.rglob("*")]

    def chosen_limits(self) -> Limits:
        """Give the limits of the configuration."""
        seconds = {"cell_seconds": float(self.timeout)} if self.timeout else {}
        return Limits(**{**asdict(Limits()), **seconds, **self.limits})


def shared(isolate: bool) -> Sandbox:
    """Give this process's sandbox; it stays warm from one notebook to the next."""
    with _lock:
        # That of a process which forked this one is not ours to use.
        return _sandboxes.setdefault((os.getpid(), isolate), Sandbox(isolate=isolate))


def beside(resources: dict[str, Any], most: int) -> dict[str, bytes]:
    """Read the files that stand beside the notebook: no notebook, and nothing behind a link.

    Units: `most` is how many bytes of a file are read.
    """
    folder = resources.get("metadata", {}).get("path")
    files = {}
    for root, _, names in os.walk(folder) if folder else []:
        for name in names:
            path = Path(root, name)
            if path.suffix != ".ipynb" and path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    files[path.relative_to(folder).as_posix()] = file.read(most)
    return files


@atexit.register
def _close() -> None:
    for (process, _), sandbox in _sandboxes.items():
        if process == os.getpid():
            sandbox.close()
