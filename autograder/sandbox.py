"""The grader's side of the engine: one warm template, and submissions that run in forks of it."""

import contextlib
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from typing import BinaryIO

from nbformat import NotebookNode

from autograder import tampering, wire
from autograder.errors import GradingError, IsolationError
from autograder.isolation import START, Launcher, can_isolate
from autograder.judge.interface import Interface
from autograder.limits import Event, Limits
from autograder.pair import Pair
from autograder.process import Process, TemplateDiedError
from autograder.submission import Execution, Submission, fitting

__all__ = ["Event", "Execution", "Limits", "Sandbox", "can_isolate"]

START_SECONDS = 120  # imports from a cold disk
CLOSE_SECONDS = 5


class Sandbox:
    """Executes notebooks, one at a time; the template starts with the first and stays warm.

    Without isolation, student code runs with the rights of this process, under limits that the
    kernel keeps for a process alone. `imports` are statements that the template runs once, for all
    notebooks that would: those of set-ups and checks, never a student's.
    """

    def __init__(
        self, limits: Limits | None = None, isolate: bool = True, imports: Iterable[str] = ()
    ):
        self.limits, self.isolate, self.imports = limits or Limits(), isolate, tuple(imports)
        self._lock = threading.Lock()
        self._closing = False
        self._process: subprocess.Popen | None = None
        self._controls: list[socket.socket] = []  # of the answers, and of the judges
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
        to_first_loss: bool = False,
        limits: Limits | None = None,
        interface: Interface | None = None,
        own: Iterable[str] = (),
    ) -> Execution:
        """Execute a copy of a notebook beside `files`, up to the cell called `stop_after`, or to
        the first check that fails.

        With an interface, the checks run in a process that no student's code reaches, and call
        what it names in the other; of the files, that process gets those that `own` names.

        Whatever the notebook's code does, each graded cell ends with outputs that give its points.
        `limits` are for this notebook alone.
        Raises: IsolationError where this host cannot isolate, GradingError where the engine itself
        cannot run.
        """
        limits = limits or self.limits
        kept, events = fitting(files, limits)
        own = list(own)
        if interface is not None:
            signs = tampering.of_files(kept, own)
            events += [Event("", tampering.KIND, text) for text in signs]

        def attempt() -> Execution:
            try:
                self._start()
                submission = Submission(notebook, self.isolate, limits)
                submission.execution.events += events
                start = self._starter(limits, kept, interface, own)
                return submission.run(start, stop_after, to_first_loss)
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

    def _starter(
        self,
        limits: Limits,
        files: dict[str, bytes],
        interface: Interface | None,
        own: Iterable[str],
    ) -> Callable[[], Process | Pair]:
        if interface is None:
            return lambda: Process(self._controls[0], limits, files)
        trusted = {name: files[name] for name in own if name in files}
        return lambda: Pair(self._controls, limits, files, trusted, interface)

    def close(self) -> None:
        """End the template, and with it what another thread runs in it; it raises GradingError."""
        self._closing = True
        while not self._lock.acquire(timeout=0.1):
            process, controls = self._process, self._controls
            if process is not None and self.isolate:
                process.kill()
            for control in controls:  # not by force: the template has to end what it forked
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
        pairs = [socket.socketpair() for _ in range(2)]
        self._controls = [ours for ours, _ in pairs]
        launcher = Launcher(self.isolate)
        with tempfile.TemporaryFile() as errors:
            ends = [theirs.fileno() for _, theirs in pairs]
            try:
                arguments = [launcher.mode, "\n".join(self.imports), *map(str, ends)]
                self._process = launcher.start(START, arguments, ends, errors)
            finally:
                for _, theirs in pairs:
                    theirs.close()
            for control in self._controls:
                self._language = self._greet(control, errors)

    def _greet(self, control: socket.socket, errors: BinaryIO) -> dict:
        """Wait until the template is warm."""
        control.settimeout(START_SECONDS)
        try:
            hello = wire.receive(control, wire.Inbox())
        except (OSError, wire.ClosedError) as error:
            self._end()
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
            raise GradingError(f"the template did not start: {said or error}") from error
        control.settimeout(None)
        return hello["language_info"]

    def _end(self) -> None:
        for control in self._controls:
            control.close()  # on which the template ends, and all that it forked
        self._controls = []
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(CLOSE_SECONDS)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process = None
