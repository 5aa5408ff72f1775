"""The grader's side of the engine: one warm template, and submissions that run in forks of it."""

import contextlib
import socket
import subprocess
import sys
import tempfile
import threading
from typing import BinaryIO

from nbformat import NotebookNode

from autograder import wire
from autograder.errors import GradingError, IsolationError
from autograder.isolation import START, Launcher, can_isolate
from autograder.limits import Event, Limits
from autograder.process import Process, TemplateDiedError
from autograder.submission import Execution, Submission, fitting

__all__ = ["Event", "Execution", "Limits", "Sandbox", "can_isolate"]

START_SECONDS = 120  # imports from a cold disk
CLOSE_SECONDS = 5


class Sandbox:
    """Executes notebooks, one at a time; the template starts with the first and stays warm.

    Without isolation, student code runs with the rights of this process, under limits that the
    kernel keeps for a process alone.
    """

    def __init__(self, limits: Limits | None = None, isolate: bool = True):
        self.limits, self.isolate = limits or Limits(), isolate
        self._lock = threading.Lock()
        self._closing = False
        self._process: subprocess.Popen | None = None
        self._control: socket.socket | None = None
        self._language: dict = {}

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self,
        notebook: NotebookNode,
        files: dict[str, bytes],
        *,
        stop_after: str | None = None,
        limits: Limits | None = None,
    ) -> Execution:
        """Execute a copy of a notebook beside `files`, up to the cell called `stop_after`.

        Whatever the notebook's code does, each graded cell ends with outputs that give its points.
        `limits` are for this notebook alone.
        Raises: IsolationError where this host cannot isolate, GradingError where the engine itself
        cannot run.
        """
        limits = limits or self.limits
        kept, events = fitting(files, limits)

        def attempt() -> Execution:
            try:
                self._start()
                submission = Submission(notebook, self.isolate, limits)
                submission.execution.events += events
                return submission.run(lambda: Process(self._control, limits, kept), stop_after)
            except BaseException as error:
                if isinstance(error, TemplateDiedError) or not isinstance(error, GradingError):
                    self._end()  # after Ctrl-C, for one, nobody knows what it still does
                raise

        with self._lock:
            try:
                done = attempt()
            except TemplateDiedError:
                if self._closing:
                    raise
                done = attempt()  # isolated code cannot end a template: it was something else
            done.notebook.metadata.language_info = self._language
            return done

    def close(self) -> None:
        """End the template, and with it what another thread runs in it; it raises GradingError."""
        self._closing = True
        while not self._lock.acquire(timeout=0.1):
            process, control = self._process, self._control
            if process is not None and self.isolate:
                process.kill()
            elif control is not None:  # not by force: the template has to end what it forked
                with contextlib.suppress(OSError):
                    control.shutdown(socket.SHUT_RDWR)
        try:
            self._end()
        finally:
            self._closing = False
            self._lock.release()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._end()
        if sys.platform != "linux":
            raise IsolationError("the engine needs Linux; elsewhere use 'nbgrader autograde'")
        reason = can_isolate() if self.isolate else None
        if reason:
            raise IsolationError(reason)
        self._control, theirs = socket.socketpair()
        launcher = Launcher(self.isolate)
        with theirs, tempfile.TemporaryFile() as errors:
            arguments = [str(theirs.fileno()), launcher.mode]
            self._process = launcher.start(START, arguments, [theirs.fileno()], errors)
            theirs.close()
            self._language = self._greet(errors)

    def _greet(self, errors: BinaryIO) -> dict:
        """Wait until the template is warm."""
        self._control.settimeout(START_SECONDS)
        try:
            hello = wire.receive(self._control, wire.Inbox())
        except (OSError, wire.ClosedError) as error:
            self._end()
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
            raise GradingError(f"the template did not start: {said or error}") from error
        self._control.settimeout(None)
        return hello["language_info"]

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()  # on which the template ends, and all that it forked
            self._control = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(CLOSE_SECONDS)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process = None
