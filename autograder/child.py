"""The process of one submission: a fork of the template that gives up every right and runs cells.

It stays under the control of the student's code from the first cell on. Nothing that it sends is
believed: `process` and `outputs` check and bound it.
"""

import asyncio
import contextlib
import fcntl
import os
import random
import select
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from autograder import confine, wire
from autograder.judge.interface import Interface
from autograder.kernel import Kernel
from autograder.limits import Limits

if TYPE_CHECKING:
    from autograder.judge.remote import Remote
    from autograder.judge.responder import Responder
    from autograder.witness import Witness

INODES = 20_000  # files and folders that the tmpfs may hold
# Where a notebook seeds nothing, a kernel's random numbers differ; here they and scores repeat.
SEED = 0
SOON = 50  # milliseconds
REPLY_LETTERS, REPLY_LINES = 2000, 100


class Child:
    """The process of one submission.

    `descriptors` are its connection, its two standard streams and, where there is another process
    that judges or answers, the line to it; `folder` is what it may write in, `uid` whom it is to
    be in the current namespace; None leaves it what it is, unisolated.
    """

    def __init__(
        self,
        kernel: Kernel,
        limits: Limits,
        descriptors: list[int],
        folder: Path,
        uid: int | None,
    ):
        self.kernel, self.limits, self.descriptors = kernel, limits, descriptors
        self.folder, self.uid = folder, uid
        self.pid = os.getpid()
        self.inbox = wire.Inbox()
        self.sent = 0
        self.lock = threading.Lock()
        self.notes: list[tuple[str, str]] = []  # that are not yet on their way
        self.responder: Responder | None = None  # in the answer's process
        self.witness: Witness | None = None  # there too
        self.remote: Remote | None = None  # in the judge's

    def main(self) -> NoReturn:
        """Give up every right, then run the cells that come."""
        try:
            os.setsid()
            if self.uid is not None:
                self.enter_namespaces(self.uid)
            self.keep_descriptors()
            if self.uid is not None:
                confine.become_nobody(self.uid)
                confine.filter_calls()
            else:
                confine.die_with_parent()
            confine.limit(self.limits, count_processes=self.uid is not None)
            os.makedirs(self.folder / "work", exist_ok=True)
            os.chdir(self.folder / "work")
            self.kernel.move()
            self.kernel.session.publish = self.publish
            random.seed(SEED)  # Python seeds it anew in every fork
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            loop.run_until_complete(self.serve())
        except wire.ClosedError:
            os._exit(0)
        except BaseException as error:
            os.write(2, f"the submission's process failed: {error!r}\n".encode())
        os._exit(70)

    def enter_namespaces(self, uid: int) -> None:
        """See only this submission's processes, and have nothing to write but one bounded tmpfs."""
        confine.unshare(confine.CLONE_NEWNS | confine.CLONE_NEWIPC)
        confine.mount("none", "/", flags=confine.MS_REC | confine.MS_PRIVATE)
        quiet = confine.MS_NOSUID | confine.MS_NODEV
        confine.mount("proc", "/proc", "proc", quiet | confine.MS_NOEXEC)
        options = f"size={self.limits.disk_bytes},nr_inodes={INODES},mode=755,uid={uid},gid={uid}"
        confine.mount("tmpfs", str(self.folder), "tmpfs", quiet, options)
        for name in ("work", "tmp", "shm"):
            (self.folder / name).mkdir()
            os.chown(self.folder / name, uid, uid)
        with open("/proc/self/mountinfo") as file:  # which writes a space as \040
            points = [line.split()[4].encode().decode("unicode_escape") for line in file]
        for point in points:
            if point.startswith("/tmp/"):  # an environment that lies there has to stay in sight
                target = self.folder / point[1:]
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    target.mkdir() if os.path.isdir(point) else target.touch()
                confine.mount(point, str(target), flags=confine.MS_BIND)
        confine.mount(f"{self.folder}/tmp", "/tmp", flags=confine.MS_BIND | confine.MS_REC)
        confine.mount(f"{self.folder}/shm", "/dev/shm", flags=confine.MS_BIND)

    def keep_descriptors(self) -> None:
        """Keep the connections and the standard streams; close everything else."""
        null = os.open(os.devnull, os.O_RDONLY)
        # Out of the way first: the new numbers may be in use.
        connection, stdout, stderr, *line = self.descriptors
        wanted = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in (null, stdout, stderr)]
        wanted += [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in (connection, *line)]
        for number, descriptor in enumerate(wanted):
            os.dup2(descriptor, number, inheritable=number < 3)
        os.closerange(len(wanted), os.sysconf("SC_OPEN_MAX"))
        self.connection = socket.socket(fileno=3)
        self.line = socket.socket(fileno=4) if line else None

    async def serve(self) -> None:
        """Write the assignment's files, then run cells as they come."""
        start = self.receive("start")
        for name, length in start["files"]:
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.inbox.take(self.connection, length))
        if self.line:
            self.take_part(start["part"], start["interface"])
        self.publish("ready", {})
        while True:
            request = await self.wait_for("cell", "look")
            if request["op"] == "look":
                self.look(everywhere=True)
                self.publish("looked", {})
                continue
            signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                if self.remote and request["judged"]:
                    self.remote.refresh(self.kernel.shell.user_ns, request["code"])
                reply = await self.kernel.run(request["code"], request["count"])
            finally:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            if os.getpid() != self.pid:
                os._exit(0)  # a process that the cell's code forked and did not end
            self.look(everywhere=True)
            self.publish("done", {"count": request["count"], **_short(reply)})

    async def wait_for(self, *ops: str) -> dict:
        """Wait for a message of some kinds; what earlier cells left in the event loop goes on."""
        loop = asyncio.get_running_loop()
        while True:
            while (message := self.inbox.next()) is None:
                if await self.readable(loop) is self.line:
                    self.respond()
                else:
                    self.inbox.feed(wire.chunk(self.connection))
            if message["op"] in ops:
                return message

    async def readable(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        """Wait until there is something to read, and say where."""
        ready = loop.create_future()
        watched = [self.connection, self.line] if self.responder else [self.connection]
        for connection in watched:
            loop.add_reader(connection, lambda c=connection: ready.done() or ready.set_result(c))
        found = await ready
        for connection in watched:
            loop.remove_reader(connection)
        return found

    def take_part(self, part: str, told: dict) -> None:
        """Become the process of the answer or that of the judge."""
        # They import torch, which in a kernel comes behind IPython: warning filters have an order.
        from autograder import witness
        from autograder.judge import by_hand, link, remote, responder, traces

        interface = Interface.told(told)
        namespace = self.kernel.shell.user_ns
        if part == "answer":
            by_hand.refuse(interface.by_hand)
            self.responder = responder.Responder(link.Link(self.line), namespace, self.kernel.shell)
            self.witness = witness.prepared(self.kernel.shell)
            self.witness.watch(namespace, self.note)
            self.responder.gave = self.witness.gave
        elif part == "judge":
            patience = self.limits.grace_seconds / 2
            self.remote = remote.Remote(link.Link(self.line), interface, patience)
            self.kernel.shell.trim = traces.trim
            self.remote.install(namespace)

    def respond(self) -> None:
        """Answer a question and those that follow at once: an event loop is slow to wake up."""
        poll = select.poll()
        for connection in (self.line, self.connection):
            poll.register(connection, select.POLLIN)
        while True:
            self.witness.answering = True
            try:
                self.responder.respond()
            finally:
                self.witness.answering = False
            self.look(everywhere=False)
            if [descriptor for descriptor, _ in poll.poll(SOON)] != [self.line.fileno()]:
                return

    def look(self, everywhere: bool) -> None:
        """Have the witness look, and send what it noted."""
        if self.witness:
            with contextlib.suppress(Exception):  # what it looks at may be made to raise one
                self.witness.look() if everywhere else self.witness.glance()
            self.send_notes()

    def note(self, code: str, subject: str) -> None:
        """Take a note of the witness: it is sent at once where that disturbs nothing."""
        self.notes.append((code, subject))
        if threading.get_ident() == threading.main_thread().ident and not self.lock.locked():
            self.send_notes()

    def send_notes(self) -> None:
        while self.notes:
            code, subject = self.notes.pop(0)
            self.publish("noted", {"code": code, "subject": subject})

    def receive(self, op: str) -> dict:
        """Wait for a message of one kind; what an interrupt left unread goes by."""
        while True:
            message = wire.receive(self.connection, self.inbox)
            if message["op"] == op:
                return message

    def publish(self, kind: str, content: dict) -> None:
        """Send an output and wait until it has been taken, so that text before it comes first."""
        if os.getpid() != self.pid:
            return
        with self.lock, _undisturbed():
            self.sent += 1
            message = {"kind": kind, "content": content, "number": self.sent}
            packed = wire.pack(message)
            if len(packed) > self.limits.output_bytes and kind != "done":
                # It would not be kept: say how long it is, and spare both sides the rest.
                message |= {"content": {}, "length": len(packed)}
                packed = wire.pack(message)
            self.connection.sendall(packed)
            while self.receive("taken")["number"] < self.sent:
                pass


def _short(reply: dict) -> dict:
    """Keep of a kernel's reply what decides about points, at a length that always arrives."""
    if reply["status"] != "error":
        return {"status": "ok"}
    lines = [str(line)[:REPLY_LETTERS] for line in reply["traceback"][:REPLY_LINES]]
    short = {name: str(reply[name])[:REPLY_LETTERS] for name in ("ename", "evalue")}
    return {"status": "error", **short, "traceback": lines}


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Put an interrupt off: half a message would make the rest unreadable."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
