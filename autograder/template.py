"""The warm process: everything is imported once, each submission runs in a fork of it.

It reads requests from its one socket, forks, watches what it forked, and never sees a notebook, a
grade or a file of the course. Isolated, it runs in bubblewrap with all rights over its own
namespaces and none outside of them; a fork takes namespaces of its own and then drops every right.
"""

import contextlib
import gc
import importlib
import os
import pkgutil
import select
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

from autograder import confine, lab, wire
from autograder.child import SEED, Child
from autograder.kernel import Kernel
from autograder.limits import Limits

ROOT = Path("/submission")  # isolated: the tmpfs with the work folder, /tmp and /dev/shm
TICK = 0.05  # seconds between two looks at what a submission uses
# Whom a submission is to be: the namespace's only user, its second one, or nobody else.
USERS = {"one": 0, "two": 1000, "open": None}

# What nearly every notebook does first, and slowly: load, differentiate, draw, show a traceback.
# The first step of an optimiser imports torch's compiler, which replaces functions of torch: in a
# submission that would look like tampering.
REHEARSAL = [
    "import math, random, time\nimport matplotlib.pyplot as plt\nimport numpy as np\nimport torch\n"
    "import torch.nn.functional as F\nfrom torch import Tensor, nn",
    "model = nn.Sequential(nn.Embedding(5, 8), nn.LayerNorm(8), nn.Linear(8, 5), nn.Dropout(0.1))\n"
    "tokens = torch.arange(5)[None]\n"
    "for make in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):\n"
    "    optimiser = make(model.parameters(), lr=0.1)\n"
    "    for _ in range(2):\n"
    "        optimiser.zero_grad()\n"
    "        F.cross_entropy(model(tokens).transpose(1, 2), tokens).backward()\n"
    "        nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
    "        optimiser.step()",
    "q = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)\n"
    "mask = torch.ones(3, 3, dtype=torch.bool).tril()\n"
    "F.scaled_dot_product_attention(q, q, q, attn_mask=mask)\n"
    "torch.autograd.gradcheck(lambda x: x.softmax(-1), q)\n"
    "torch.testing.assert_close(q, q)\n"
    "model.load_state_dict(model.state_dict())",
    "import asyncio\nawait asyncio.sleep(0)",
    "figure, axes = plt.subplots(1, 2)\naxes[0].plot([1, 2], label='line')\naxes[0].legend()\n"
    "axes[1].imshow(np.eye(3))\naxes[1].set_title(r'$x_1$')\nfigure.tight_layout()\nplt.show()",
    "{'a': [1.5, torch.ones(2)]}",
    "print('out')\nimport sys\nprint('err', file=sys.stderr)",
    "from autograder.lab import checks\n"
    "checks.close(torch.zeros(2), torch.ones(2), 'the rehearsal fails') # fails",
    "torch.testing.assert_close(torch.zeros(2), torch.ones(2)) # fails",
    "assert torch.allclose(torch.zeros(2), torch.ones(2)), 'text' # fails",
    "nn.Linear(2, 3)(torch.ones(5)) # fails",
    "F.softmax('x', -1) # fails",
    "torch.ones(2) @ torch.ones(3) # fails",
    "input() # fails",
    "def broken(: # fails",
]


def main() -> None:
    """Serve two sockets, answers and judges apart.

    The arguments are one of USERS, lines of imports and the descriptors of the sockets.
    """
    uid, imports = USERS[sys.argv[1]], sys.argv[2]
    controls = [socket.socket(fileno=int(number)) for number in sys.argv[3:]]
    for control in controls:
        control.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kernel = warm(imports)
    confine.hide_memory()
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        raise RuntimeError(f"a fork would lose {len(threads) - 1} threads of the template")
    confine.use_huge_pages()
    for control in controls:
        if os.fork() == 0:
            for other in controls:
                if other is not control:
                    other.close()
            confine.die_with_parent()
            if uid is None:
                confine.adopt_orphans()
            control.sendall(wire.pack({"op": "ready", "language_info": kernel.language_info}))
            Template(control, kernel, uid).serve()
            os._exit(0)
    for control in controls:
        control.close()
    os.waitpid(-1, 0)  # where one of them ends, so does this process, and the other with it


def warm(imports: str = "") -> Kernel:
    """Import, rehearse, and give a kernel in the state of a fresh one."""
    kernel = Kernel.start()
    import numpy as np
    import torch

    from autograder import witness
    from autograder.judge import by_hand, remote, responder  # noqa: F401

    for module in pkgutil.iter_modules(lab.__path__, f"{lab.__name__}."):
        importlib.import_module(module.name)
    for line in imports.splitlines():
        with contextlib.suppress(Exception):  # the cell itself says what is missing or broken
            exec(line, {})
    by_hand.aliases()
    by_hand.kernels()
    kernel.rehearse(REHEARSAL)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    close_fonts()
    witness.prepared(kernel.shell)
    gc.collect()
    gc.freeze()
    return kernel


def close_fonts() -> None:
    """Have matplotlib let go of the font files that it opened.

    A fork closes the numbers of all files. The objects would close them once more, at any time
    later, when another file may have such a number.
    """
    from matplotlib import font_manager, mathtext

    font_manager._get_font.cache_clear()
    mathtext.MathTextParser._parse_cached.cache_clear()


class Template:
    """Runs one submission at a time, as its control socket says."""

    def __init__(self, control: socket.socket, kernel: Kernel, uid: int | None):
        self.control, self.kernel, self.uid = control, kernel, uid
        self.inbox = wire.Inbox()
        self.memory, _ = _status(os.getpid())  # bytes

    def serve(self) -> None:
        """Answer requests until the other side is gone."""
        descriptors: list[int] = []
        while True:
            chunk, came, _, _ = socket.recv_fds(self.control, 1 << 16, 4)
            if not chunk:
                return
            self.inbox.feed(chunk)
            descriptors += came
            while request := self.inbox.next():
                if request["op"] == "run":  # all else came too late: its submission has ended
                    self.run(Limits(**request["limits"]), descriptors)
                    descriptors = []

    def run(self, limits: Limits, descriptors: list[int]) -> None:
        """Fork a process for a submission and watch it until it ends or is to end."""
        with contextlib.ExitStack() as cleanup:
            for descriptor in descriptors:
                cleanup.callback(os.close, descriptor)
            if self.uid is None:
                folder, first = Path(tempfile.mkdtemp(prefix="autograder-")), None
                cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
            else:
                own = os.open("/proc/self/ns/pid", os.O_RDONLY)
                cleanup.callback(os.close, own)
                confine.unshare(confine.CLONE_NEWPID)
                # The first process of the namespace: where it dies, all others are killed.
                folder, first = ROOT, os.posix_spawn("/bin/sleep", ["sleep", "2147483647"], {})
            child = os.fork()
            if child == 0:
                Child(self.kernel, limits, descriptors, folder, self.uid).main()
            if first:
                confine.setns(own, confine.CLONE_NEWPID)
            watch = Watch(self, child, first, limits)
            try:
                watch.until_the_end()
            finally:
                watch.kill()


class Watch:
    """What the template knows of a running submission."""

    def __init__(self, template: Template, child: int, first: int | None, limits: Limits):
        self.template, self.child, self.first, self.limits = template, child, first, limits
        self.status: int | None = None
        self.peak = self.checked = 0
        self.over, self.reached = "", False
        self.space = _space(first) if first else 0

    def until_the_end(self) -> None:
        """Pass on interrupts; say how it ended: by itself, as asked, or over a limit."""
        control = self.template.control
        process = os.pidfd_open(self.child)
        poll = select.poll()
        poll.register(control, select.POLLIN)
        poll.register(process, select.POLLIN)
        try:
            while not self.over and self.status is None:
                ready = dict(poll.poll(TICK * 1000))
                self.look()
                if process in ready:
                    _, self.status = os.waitpid(self.child, 0)
                elif control.fileno() in ready and not self.obey():
                    break
        finally:
            os.close(process)
        end = {"op": "end", "status": self.status, "over": self.over, "peak": self.peak}
        control.sendall(wire.pack(end))

    def obey(self) -> bool:
        """Do what the other side asks; say whether the submission is to go on."""
        inbox = self.template.inbox
        message = wire.receive(self.template.control, inbox)
        if message["op"] == "interrupt":
            with contextlib.suppress(ProcessLookupError):  # it may just have ended
                os.killpg(self.child, signal.SIGINT)
            self.template.control.sendall(wire.pack({"op": "interrupted"}))
            return True
        return False

    def look(self) -> None:
        """Add up what the submission's processes use beyond what the template lent them."""
        pids, most = self.processes(), self.limits.memory_bytes
        used = tasks = 0
        for pid in pids:
            memory, threads = _status(pid)
            used += max(0, memory - self.template.memory)
            tasks += threads
        if used > max(most, self.checked):
            # What processes that forked each other share was counted for each of them. To find out
            # takes longer, so it is done again only when a tenth more is in use.
            self.checked = used + most // 10
            used = max(0, sum(map(_share, pids)) - self.template.memory)
            self.over = "memory" if used > most else ""
        self.peak = max(self.peak, min(used, most))
        if tasks > self.limits.processes:
            self.over = "processes"
        elif tasks == self.limits.processes and not self.reached:
            self.reached = True  # the kernel refuses more, which the student's code may hide
            self.template.control.sendall(wire.pack({"op": "reached", "kind": "processes"}))

    def processes(self) -> list[int]:
        """List the submission's processes: isolated, whatever its own namespace holds."""
        if not self.first:
            return _descendants(os.getpid())
        return [
            int(name)
            for name in os.listdir("/proc")
            if name.isdigit() and int(name) != self.first and _space(int(name)) == self.space
        ]

    def kill(self) -> None:
        """End every process of the submission and wait until they are gone."""
        if self.first:
            os.kill(self.first, signal.SIGKILL)
            if self.status is None:
                os.waitpid(self.child, 0)
            os.waitpid(self.first, 0)
            return
        while left := _descendants(os.getpid()):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, 0)


def _status(pid: int) -> tuple[int, int]:
    """Read a process's memory of its own, in bytes, and its number of threads; 0 when gone."""
    memory = threads = 0
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("RssAnon:"):
                memory = int(line.split()[1]) * 1024
            elif line.startswith("Threads:"):
                threads = int(line.split()[1])
    return memory, threads


def _share(pid: int) -> int:
    """Read a process's share of the memory that it has in common with others, in bytes."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1]) * 1024
    return 0


def _space(pid: int) -> int:
    """Give the number of a process's own namespace of processes; 0 when gone."""
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    return 0


def _descendants(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                for child in map(int, file.read().split()):
                    found += [child, *_descendants(child)]
    return found
