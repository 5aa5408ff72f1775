"""The two processes of a submission: one runs the student's cells, the other the checks."""

import contextlib
import enum
import socket

from autograder.judge.interface import Interface
from autograder.limits import Limits
from autograder.outputs import Collector
from autograder.process import Ending, Part, Process


class Role(enum.Enum):
    """Where a cell runs."""

    ANSWER = enum.auto()  # the student's
    SET_UP = enum.auto()  # the course's own, which both sides need
    JUDGED = enum.auto()  # a check


class Pair:
    """An answer's process and a judge's, which stand for one: if one is lost, so is the other.

    `controls` lead to the servers of answers and of judges; the judge gets the files `own`.
    """

    def __init__(
        self,
        controls: list[socket.socket],
        limits: Limits,
        files: dict[str, bytes],
        own: dict[str, bytes],
        interface: Interface,
    ):
        self.limits, self.interface = limits, interface
        lines = socket.socketpair()
        with lines[0], lines[1]:
            parts = [
                Part(name, interface, line)
                for name, line in zip(("answer", "judge"), lines, strict=True)
            ]
            self.answer = Process(controls[0], limits, files, parts[0])
            try:
                self.judge = Process(controls[1], limits, own, parts[1])
            except BaseException:
                self.answer.close()
                raise

    @property
    def peak_bytes(self) -> int:
        return self.answer.peak_bytes + self.judge.peak_bytes

    def close(self) -> None:
        with contextlib.ExitStack() as ending:
            ending.callback(self.judge.close)
            ending.callback(self.answer.close)
            self.judge.leave()  # both end at the same time

    def run(
        self, code: str, count: int, sink: Collector, seconds: float, limit: str, name: str
    ) -> Ending:
        """Run the cell of this name where its role says, as `Process.run` does."""
        role = self._role(name)
        if role is Role.SET_UP:
            self.judge.begin(code, count)
        if role is not Role.JUDGED:
            ending = self.answer.run(code, count, sink, seconds, limit)
            if role is Role.SET_UP and ending.reply:
                # What fails here fails in the check that needs it.
                self.judge.run(code, count, Collector.nowhere(self.limits), seconds, limit)
            return ending
        ending = self.judge.run(code, count, sink, seconds, limit, beside=self.answer)
        if ending.reply and ending.stopped:
            # The judge has stopped. The answer may still run what it was asked for.
            grace = self.limits.grace_seconds
            self.answer.run("", count, Collector.nowhere(self.limits), grace, limit)
        ended = self.answer.ended()
        if ended and not ending.stopped:
            return Ending(None, ended.stopped, ended.status, ending.reached)
        if ended:
            ending.reply = None
        return ending

    def _role(self, name: str) -> Role:
        """Say where a cell runs. Its metadata came from a student; its name is the course's."""
        if name in self.interface.judged:
            return Role.JUDGED
        return Role.SET_UP if name in self.interface.set_up else Role.ANSWER

    def ended(self) -> Ending | None:
        return self.answer.ended() or self.judge.ended()
