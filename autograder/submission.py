"""One submission: its cells in order, and what becomes of the rest when a process is lost."""

import copy
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from nbformat import NotebookNode
from nbgrader.preprocessors import Execute

from autograder import tampering
from autograder.answers import grading
from autograder.errors import GradingError
from autograder.limits import Event, Limits, refusal
from autograder.outputs import Collector, error, is_error
from autograder.pair import Pair
from autograder.process import Ending, Process

MOST_FILES = 5000
SKIP_TAG = "skip-execution"  # nbclient's
CRASH = "CellCrashError"
LIMIT = "CellLimitError"
TIMEOUT = "CellTimeoutError"  # nbgrader's name for it
TIME = ("timeout", "notebook")
NOT_RUN = "NotRunError"


@dataclass
class Execution:
    """An executed submission."""

    notebook: NotebookNode
    """A copy with outputs; a graded cell that was not run holds an error that says why."""
    isolated: bool
    events: list[Event] = field(default_factory=list)
    seconds: float = 0.0
    """Wall time from the first process to the end of the last cell."""
    cell_seconds: dict[str, float] = field(default_factory=dict)
    """Wall time of each cell that was run, by its name."""
    peak_bytes: int = 0
    """The most memory that its processes were seen to add; what they change of the template's
    own is not counted."""

    def record(self) -> dict[str, Any]:
        """Give what is kept with the grade, as plain data."""
        return {
            "isolated": self.isolated,
            "seconds": round(self.seconds, 3),
            "peak_bytes": self.peak_bytes,
            "events": [asdict(event) for event in self.events],
        }


class Submission:
    """Runs the cells of one notebook in as many processes as it takes.

    `start` gives a process that has the assignment's files and has run nothing.
    """

    def __init__(self, notebook: NotebookNode, isolated: bool, limits: Limits):
        self.execution = Execution(copy.deepcopy(notebook), isolated)
        self.limits = limits
        self.collector = Collector(self.execution.notebook, limits)
        self.process: Process | Pair | None = None
        self.completed: list[int] = []  # places in self.cells that a new process runs again
        self.lost = 0
        self.named: set[str] = set()  # signs of tampering

    def run(
        self, start: Callable[[], Process | Pair], stop_after: str | None, to_first_loss: bool
    ) -> Execution:
        """Run the cells, the last of them the one called `stop_after`, or the first check lost.

        Raises: GradingError where no cell is called so, TemplateDiedError.
        """
        begin = time.monotonic()
        self.deadline = begin + self.limits.notebook_seconds
        self.start = start
        self.cells = list(self._cells())
        stop = self._place(stop_after)
        try:
            place, why = self._run_until(stop, to_first_loss)
            self._look_once_more(max(0, place - 1))
        finally:
            self._let_go()
        self._leave_out(place, why, stop_after)
        self.collector.close()
        self.execution.seconds = time.monotonic() - begin
        return self.execution

    def _cells(self) -> Iterator[tuple[int, NotebookNode]]:
        """Find the cells to run; all lose what they hold of an earlier run."""
        for index, cell in enumerate(self.execution.notebook.cells):
            if cell.cell_type != "code":
                continue
            cell.outputs, cell.execution_count = [], None
            # A student's tag does not keep a check from running: without outputs it earns points.
            skipped = SKIP_TAG in cell.metadata.get("tags", []) and not grading(cell).get("grade")
            if cell.source.strip() and not skipped:
                yield index, cell

    def _place(self, stop_after: str | None) -> int:
        """Count the cells up to the one to stop after."""
        names = [grading(cell).get("grade_id") for _, cell in self.cells]
        if stop_after is None:
            return len(names)
        if stop_after not in names:
            known = ", ".join(name for name in names if name)
            raise GradingError(f"no code cell is called {stop_after!r}; there are {known}")
        return names.index(stop_after) + 1

    def _run_until(self, stop: int, to_first_loss: bool) -> tuple[int, str]:
        """Run cells; give the place of the first that was left, and the limit that is behind it."""
        for place in range(stop):
            if why := self._renew(place):
                return place, why
            self._run(place)
            if to_first_loss and self._is_lost(place):
                return place + 1, ""
        return stop, ""

    def _is_lost(self, place: int) -> bool:
        _, cell = self.cells[place]
        return bool(grading(cell).get("grade")) and any(map(is_error, cell.outputs))

    def _renew(self, next_place: int) -> str:
        """Have a process in which all completed cells have run; say which limit forbids it."""
        ending = self.process and self.process.ended()
        if ending:
            self._lose()
            kind, text = self._blame(ending)
            last = max(0, next_place - 1)  # what it left behind must have done it
            self._note(last, kind, f"after its end, {text}")
            self.completed = [place for place in self.completed if place != last]
        while True:
            again: list[int] = []
            if self.process is None:
                if self.lost > self.limits.restarts:
                    return "restarts"
                self.process = self.start()
                again = list(self.completed)
            for place in again:
                if self._left() <= 0:
                    return "notebook"
                ending = self._execute(place, Collector.nowhere(self.limits))
                if ending.stopped or ending.reply is None:
                    # It is not run a third time; what it defined is missing from here on.
                    self.completed.remove(place)
                    kind, text = self._blame(ending)
                    self._note(place, kind, f"run again in a new process, {text}")
                if self.process is None:
                    break
            if self.process is not None:
                return "" if self._left() > 0 else "notebook"

    def _run(self, place: int) -> None:
        """Run a cell for the first time and fill in its outputs."""
        index, cell = self.cells[place]
        self.collector.begin(cell, index)
        cell.execution_count = place + 1
        begin = time.monotonic()
        ending = self._execute(place, self.collector)
        self.execution.cell_seconds[self._name(place)] = time.monotonic() - begin
        errors = []
        if ending.stopped or ending.reply is None:
            kind, text = self._blame(ending)
            self._note(place, kind, text)
            name = CRASH if kind == "crash" else TIMEOUT if kind in TIME else LIMIT
            errors.append(error(name, text))
        else:
            self.completed.append(place)
            if ending.reply["status"] == "error":
                kind = refusal(ending.reply["ename"], ending.reply["evalue"])
                if kind:
                    self._note(place, kind, self.limits.text(kind))
                    errors.append(error(LIMIT, self.limits.text(kind)))
        for kind in ending.reached:
            self._note(place, kind, self.limits.text(kind))
        if self.collector.cut:
            self._note(place, "output", self.limits.text("output"))
        if self.collector.blind:
            errors.append(error(LIMIT, self.limits.text("output")))
        self.collector.finish()
        if ending.reply is not None and not ending.stopped:
            Execute.on_cell_executed(None, cell=cell, execute_reply={"content": ending.reply})
        cell.outputs += errors

    def _execute(self, place: int, sink: Collector) -> Ending:
        """Run a cell in the current process, and let go of that where it is lost."""
        limit, seconds = "timeout", self.limits.cell_seconds
        if self._left() < seconds:
            limit, seconds = "notebook", max(0.0, self._left())
        _, cell = self.cells[place]
        name = grading(cell).get("grade_id", "")
        ending = self.process.run(cell.source, place + 1, sink, seconds, limit, name)
        if isinstance(self.process, Pair):
            self._name_tampering(place, tampering.of_ending(ending))
        if ending.reply is None:
            self._lose()
        return ending

    def _look_once_more(self, place: int) -> None:
        """Ask what the last checks left behind; the cell at a place was the last that was run."""
        if isinstance(self.process, Pair) and not self.process.ended():
            self.process.answer.look()
            self._name_tampering(place, [])

    def _name_tampering(self, place: int, found: list[str]) -> None:
        """Make events of signs of tampering, of each the first time."""
        for text in [*self.process.answer.noted, *found]:
            if text not in self.named:
                self.named.add(text)
                self._note(place, tampering.KIND, text)

    def _lose(self) -> None:
        self._let_go()
        self.lost += 1

    def _let_go(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.close()
            self.execution.peak_bytes = max(self.execution.peak_bytes, process.peak_bytes)

    def _leave_out(self, place: int, why: str, stop_after: str | None) -> None:
        """Mark the graded cells from a place on as not run: without outputs they earn points."""
        ends = stop_after or "the first check that fails"
        reason = self.limits.text(why) if why else f"this run ends with {ends}"
        names = []
        for left in range(place, len(self.cells)):
            _, cell = self.cells[left]
            if grading(cell).get("grade"):
                cell.outputs = [error(NOT_RUN, reason)]
                names.append(self._name(left))
        if why:
            what = f"not run: {', '.join(names) or 'cells that are not graded'}; {reason}"
            self.execution.events.append(Event("", why, what))

    def _blame(self, ending: Ending) -> tuple[str, str]:
        """Say why a cell was stopped or lost its process: a kind of event, and a text."""
        if ending.stopped:
            how = "was stopped" if ending.reply else "was killed"
            return ending.stopped, f"{how}: {self.limits.text(ending.stopped)}"
        status = ending.status or 0
        if not os.WIFSIGNALED(status):
            return "crash", f"ended its process with status {os.waitstatus_to_exitcode(status)}"
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            return "cpu", f"was killed: {self.limits.text('cpu')}"
        name = signal.Signals(number).name if number in set(signal.Signals) else "unknown"
        hint = "; the host may have run out of memory" if number == signal.SIGKILL else ""
        return "crash", f"lost its process to signal {number} ({name}){hint}"

    def _note(self, place: int, kind: str, text: str) -> None:
        self.execution.events.append(Event(self._name(place), kind, text))

    def _name(self, place: int) -> str:
        index, cell = self.cells[place]
        return grading(cell).get("grade_id") or cell.get("id") or f"cell {index}"

    def _left(self) -> float:
        return self.deadline - time.monotonic()


def fitting(files: dict[str, bytes], limits: Limits) -> tuple[dict[str, bytes], list[Event]]:
    """Choose the files that a submission gets, the small ones first, and name the others."""
    kept: dict[str, bytes] = {}
    events, room = [], limits.disk_bytes // 2  # the other half is for what the notebook writes
    for name, content in sorted(files.items(), key=lambda item: (len(item[1]), item[0])):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.name or "\0" in name:
            events.append(Event("", "file", f"left out {name!r}: it lies outside of its folder"))
        elif len(content) > limits.file_bytes:
            events.append(Event("", "file", f"left out {name!r}: {limits.text('file')}"))
        elif len(content) > room or len(kept) >= MOST_FILES:
            events.append(Event("", "disk", f"left out {name!r}: {limits.text('disk')}"))
        else:
            kept[name] = content
            room -= len(content)
    return kept, events
