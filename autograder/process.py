"""One process of a submission, as the grader sees it from outside."""

import os
import select
import socket
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from autograder import tampering, wire
from autograder.errors import GradingError
from autograder.judge.interface import Interface
from autograder.limits import Limits
from autograder.outputs import Bystander, Collector, is_error

START_SECONDS = 60  # for a fork, on a busy host
STOP_SECONDS = 20
LOOK_SECONDS = 1
CHUNK = 1 << 16
SPARE = 1 << 20  # bytes that a message may have beyond the output in it


class TemplateDiedError(GradingError):
    """The template ended while a submission ran in its fork."""


@dataclass
class Ending:
    """How a cell ended."""

    reply: dict[str, Any] | None = None
    """The kernel's reply; None where the process was lost."""
    stopped: str = ""
    """The limit for which the cell was interrupted or killed."""
    status: int | None = None
    """The process's wait status where it ended by itself."""
    reached: list[str] = field(default_factory=list)
    """Limits that were reached without stopping the cell."""


@dataclass(frozen=True)
class Part:
    """What one of a submission's two processes is, and its end of the line between them."""

    name: str
    """answer or judge."""
    interface: Interface
    line: socket.socket


class Process:
    """A fork of the template, ready to run cells. Use it in a `with` block.

    Without a part it is the submission's only process.
    Raises: TemplateDiedError at any time.
    """

    def __init__(
        self,
        control: socket.socket,
        limits: Limits,
        files: dict[str, bytes],
        part: Part | None = None,
    ):
        self.limits, self.control = limits, control
        self.peak_bytes = 0
        self._end: dict[str, Any] | None = None  # the template's last word
        self.noted: dict[str, None] = {}  # signs of tampering
        self._interrupting = False
        self._count = 0  # the number of the cell that runs
        self._stopping = False
        self._orders, self._inbox = wire.Inbox(), wire.Inbox(limits.output_bytes + SPARE)
        self._queue: deque[dict[str, Any]] = deque()
        self._connection, theirs = socket.socketpair()
        self._streams: dict[int, str] = {}
        ends = []
        for name in ("stdout", "stderr"):
            ours, end = os.pipe()
            os.set_blocking(ours, False)
            self._streams[ours] = name
            ends.append(end)
        self._watched = {control.fileno(), self._connection.fileno(), *self._streams}
        self._ready = False
        try:
            try:
                request = wire.pack({"op": "run", "limits": asdict(limits)})
                line = [part.line.fileno()] if part else []
                self._order(request, [theirs.fileno(), *ends, *line])
            finally:
                theirs.close()
                for end in ends:
                    os.close(end)
            sizes = [[name, len(content)] for name, content in files.items()]
            start = {"op": "start", "files": sizes}
            if part:
                start |= {"part": part.name, "interface": part.interface.data()}
            self._send(wire.pack(start), *files.values())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process and all that it started."""
        try:
            self._stop()
        finally:
            self._connection.close()
            for descriptor in self._streams:
                os.close(descriptor)
            self._streams = {}

    def run(
        self,
        code: str,
        count: int,
        sink: Collector,
        seconds: float,
        limit: str,
        name: str = "",
        beside: "Process | None" = None,
    ) -> Ending:
        """Run a cell as number `count` for at most `seconds`, the limit called `limit`.

        It may have begun before. What the cell is called does not matter here. The process `beside`
        answers what the cell asks. It is interrupted with this one, and of what it sends, only text
        and displays are the cell's.
        """
        if self._count != count:
            self.begin(code, count, judged=beside is not None)
        ending = Ending()
        deadline = time.monotonic() + seconds
        while True:
            try:
                message = self._next(deadline, sink, beside, stop_floods=not ending.stopped)
            except wire.ProtocolError:
                ending.stopped = "protocol"
                self._stop()
                return ending
            if message is None and ending.stopped:
                self._stop()
                return ending
            if message is None:
                ending.stopped = "flood" if sink.flooded else limit
                self._interrupt()
                if beside:
                    beside._interrupt()
                deadline = time.monotonic() + self.limits.grace_seconds
            elif message["kind"] == "done":
                ending.reply = message["content"]
                self._await("interrupted")
                if beside:
                    beside._await("interrupted")
                return ending
            elif message["kind"] == "reached":
                ending.reached.append(message["limit"])
            elif message["kind"] == "end":
                return replace(
                    ending, stopped=ending.stopped or message["over"], status=message["status"]
                )

    def look(self) -> None:
        """Have the process look once more for signs of tampering, and wait for them a little."""
        self._drop_ends()
        self._send(wire.pack({"op": "look"}))
        deadline, sink = time.monotonic() + LOOK_SECONDS, Collector.nowhere(self.limits)
        try:
            while message := self._next(deadline, sink):
                if message["kind"] in ("looked", "end"):
                    break
        except wire.ProtocolError:
            self.note("protocol")
        self._drop_ends()

    def note(self, code: object, subject: object = "") -> None:
        """Keep a sign of tampering."""
        if len(self.noted) < tampering.MOST:
            self.noted[tampering.text(code, subject)] = None

    def _drop_ends(self) -> None:
        """Forget the ends that no cell is waiting for: an earlier one sent its end twice."""
        left = deque(message for message in self._queue if message["kind"] != "done")
        if len(left) < len(self._queue):
            self.note("twice")
        self._queue = left

    def begin(self, code: str, count: int, *, judged: bool = False) -> None:
        """Have a cell run at once; `run` then waits for it and takes its outputs."""
        self.start()
        self._count = count
        self._drop_ends()
        self._send(wire.pack({"op": "cell", "code": code, "count": count, "judged": judged}))

    def ended(self) -> Ending | None:
        """Say how the process ended between two cells; None where it did not."""
        while self._end is None and select.select([self.control], [], [], 0)[0]:
            self._hear()
        return self._end and Ending(stopped=self._end["over"], status=self._end["status"])

    def start(self) -> None:
        """Wait until it is ready; the fork has been ordered before.

        Raises: GradingError where it says that it is not.
        """
        if self._ready:
            return
        sink = Collector.nowhere(self.limits)
        message = self._next(time.monotonic() + START_SECONDS, sink)
        if message is None or message["kind"] != "ready":
            sink.flush()
            said = "".join(output.get("text", "") for output in sink.cell.outputs).strip()
            raise GradingError(f"a submission's process did not start: {said or 'it was silent'}")
        self._ready = True

    def _next(
        self,
        deadline: float,
        sink: Collector,
        beside: "Process | None" = None,
        *,
        stop_floods: bool = True,
    ) -> dict[str, Any] | None:
        """Hand outputs to the sink until there is other news; None at the deadline or in a flood.

        Raises: ProtocolError where the process sends what is no message.
        """
        while not self._queue:
            if self._end:
                return self._end
            wait = deadline - time.monotonic()
            if wait <= 0 or (stop_floods and sink.flooded):
                return None
            watched = self._watched | (beside._watched if beside else set())
            poll = select.poll()
            for descriptor in watched:
                poll.register(descriptor, select.POLLIN)
            ready = [descriptor for descriptor, _ in poll.poll(wait * 1000)]
            self._pump(ready, sink)
            if beside:
                beside._pump(ready, Bystander(sink, beside.note))
        return self._queue.popleft()

    def _pump(self, ready: list[int], sink: Collector) -> None:
        """Take what has come."""
        for descriptor in self._streams.keys() & ready:
            self._read(descriptor, sink)
        if self._connection.fileno() in ready:
            self._listen(sink)
        if self.control.fileno() in ready:
            self._hear()
            if self._end:  # what the process wrote before it ended is still on the way
                self._watched.discard(self.control.fileno())
                self._drain(sink)
                while not sink.flooded and self._listen(sink):
                    pass

    def _read(self, descriptor: int, sink: Collector) -> bool:
        """Pass on a piece of text; say whether there may be more."""
        try:
            chunk = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return False
        if chunk:
            sink.text(self._streams[descriptor], chunk)
        else:
            self._forget(descriptor)
        return bool(chunk)

    def _drain(self, sink: Collector) -> None:
        """Pass on all text that has been written."""
        for descriptor in self._streams:
            while not sink.flooded and self._read(descriptor, sink):
                pass

    def _listen(self, sink: Collector) -> bool:
        """Take messages of the process, outputs behind the text before them; say as `_read`."""
        try:
            chunk = self._connection.recv(CHUNK)
        except (BlockingIOError, ConnectionError):
            return False
        if not chunk:
            self._forget(self._connection.fileno())
            return False
        self._inbox.feed(chunk)
        while (message := self._inbox.next()) is not None:
            self._take(message, sink)
        return True

    def _take(self, message: dict[str, Any], sink: Collector) -> None:
        kind, content = message.get("kind"), message.get("content")
        length, number = message.get("length", 0), message.get("number")
        if not isinstance(kind, str) or not isinstance(content, dict):
            raise wire.ProtocolError(f"expected a kind and a content, got {sorted(message)}")
        if kind == "done" and not (
            content.get("count") == self._count
            and (content.get("status") == "ok" or is_error(content))
        ):
            raise wire.ProtocolError(
                f"expected how cell {self._count} ended, got {sorted(content)}"
            )
        self._drain(sink)
        if kind in ("ready", "done", "looked"):
            self._queue.append({"kind": kind, "content": content})
        elif kind == "noted":
            self.note(content.get("code"), content.get("subject"))
        else:
            length = max(self._inbox.length, length if isinstance(length, int) else 0)
            sink.message(kind, content, length)
        with suppress(OSError):
            answer = wire.pack({"op": "taken", "number": number})
            self._connection.send(answer)

    def _hear(self) -> None:
        """Take what the template says."""
        try:
            chunk = self.control.recv(CHUNK)
        except ConnectionError:
            chunk = b""
        if not chunk:
            self._end = {"kind": "end", "over": "", "status": None}
            raise TemplateDiedError("the template ended")
        self._orders.feed(chunk)
        while message := self._orders.next():
            if message["op"] == "end":
                self._end = {"kind": "end", **message}
                self.peak_bytes = message["peak"]
            elif message["op"] == "interrupted":
                self._interrupting = False
            elif message["op"] == "reached":
                self._queue.append({"kind": "reached", "limit": message["kind"]})

    def _forget(self, descriptor: int) -> None:
        self._watched.discard(descriptor)

    def _send(self, *parts: bytes) -> None:
        """Send to the process; if it does not listen, a limit or its end will tell."""
        self._connection.settimeout(START_SECONDS)
        with suppress(OSError):
            self._connection.sendall(b"".join(parts))
        self._connection.setblocking(False)

    def _order(self, request: bytes, descriptors: list[int] | None = None) -> None:
        try:
            socket.send_fds(self.control, [request], descriptors or [])
        except OSError as error:
            self._end = {"kind": "end", "over": "", "status": None}
            raise TemplateDiedError("the template ended") from error

    def _interrupt(self) -> None:
        self._interrupting = True
        self._order(wire.pack({"op": "interrupt"}))

    def leave(self) -> None:
        """Have the process end; `close` waits until it has."""
        if self._end is None and not self._stopping:
            self._stopping = True
            self._order(wire.pack({"op": "stop"}))

    def _stop(self) -> None:
        self.leave()
        if self._end is None:
            self._await("end")

    def _await(self, op: str) -> None:
        """Wait until the template has done what was asked: an interrupt must not hit the next cell.

        Raises: TemplateDiedError where it takes longer than STOP_SECONDS.
        """
        deadline = time.monotonic() + STOP_SECONDS
        while self._end is None and (op == "end" or self._interrupting):
            self.control.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                self._hear()
            except TimeoutError as error:
                self._end = {"kind": "end", "over": "", "status": None}
                raise TemplateDiedError("the template does not answer") from error
            finally:
                self.control.settimeout(None)
