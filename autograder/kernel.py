"""A Jupyter kernel without sockets: the same code runs the cells, so they give the same outputs.

It is ipykernel's own class. What that would publish over ZeroMQ goes to a function; text goes
straight to the descriptors of the standard streams, where it outlives a crash.
"""

import asyncio
import inspect
import io
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import ipykernel_launcher
from ipykernel.compiler import XCachingCompiler
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell
from jupyter_client.session import Session
from tornado.ioloop import IOLoop
from traitlets import Type
from traitlets.config import Config

INLINE = "module://matplotlib_inline.backend_inline"
HISTORY = "--HistoryManager.hist_file=:memory:"  # as nbclient starts a kernel; and no thread


class Stream(io.TextIOBase):
    """Standard output or error as a kernel has it: no terminal, no bytes; nothing is held back."""

    encoding = "UTF-8"

    def __init__(self, name: str, descriptor: int):
        self.name = name
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text)}")
        left = memoryview(text.encode("utf-8", "replace"))
        while left:
            left = left[os.write(self._descriptor, left) :]
        return len(text)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._descriptor


class Outbox(Session):
    """Hands what the kernel publishes to `publish`, a function of a message's type and content."""

    publish: Callable[[str, dict], None] = staticmethod(lambda kind, content: None)

    def send(self, stream, msg_or_type, content=None, *_, **__):
        if isinstance(msg_or_type, dict):
            msg_or_type, content = msg_or_type["header"]["msg_type"], msg_or_type["content"]
        self.publish(msg_or_type, content or {})


class Compiler(XCachingCompiler):
    """Tells `inspect` where cells belong, or it searches every module for each frame of them."""

    def cache(self, *arguments, **keywords) -> str:
        name = super().cache(*arguments, **keywords)
        inspect.modulesbyfile[name] = "__main__"
        return name


class Shell(ZMQInteractiveShell):
    """ipykernel's shell, without what only somebody who sits before it would see.

    `trim` takes from an exception the frames that nobody is to see.
    """

    trim: Callable[[BaseException], None] = staticmethod(lambda error: None)

    def _get_exc_info(self, exc_tuple: tuple | None = None) -> tuple:
        kind, error, _ = super()._get_exc_info(exc_tuple)
        self.trim(error)
        sys.last_traceback = error.__traceback__
        return kind, error, error.__traceback__

    def enable_gui(self, gui: str | None = None) -> None:
        # `%matplotlib inline` asks for no event loop, and none could run here.
        self.active_eventloop = gui

    def _format_exception_for_storage(self, *_: object, **__: object) -> dict:
        # Each traceback would be made a second time, for a history that nobody reads.
        return {}


class Kernel(IPythonKernel):
    """The kernel of one process, ready for `run`."""

    shell_class = Type(Shell)
    compiler_class = Type(Compiler)

    @classmethod
    def start(cls) -> "Kernel":
        """Make this process what a fresh kernel's is: shell, streams, arguments, search path."""
        os.environ["MPLBACKEND"] = INLINE
        sys.argv = [ipykernel_launcher.__file__, "-f", "/tmp/kernel.json", HISTORY]
        IPKernelApp.init_path(SimpleNamespace(ignore_cwd=False))
        sys.stdout, sys.stderr = Stream("stdout", 1), Stream("stderr", 2)
        config = Config({"HistoryManager": {"hist_file": ":memory:"}})
        log = logging.getLogger("ipykernel")
        kernel = cls.instance(config=config, session=Outbox(), user_ns=None, log=log)
        # Which thread runs the cells is all that ipykernel asks of the one that reads its sockets.
        kernel.shell_channel_thread = SimpleNamespace(parent_thread=threading.main_thread())
        IPKernelApp.init_pdb(kernel)
        IPKernelApp.patch_io(kernel)
        return kernel

    async def run(self, code: str, count: int) -> dict:
        """Run a cell as number `count`; its outputs are published, the kernel's reply returned."""
        self.io_loop = IOLoop.current()
        self.shell.execution_count = count
        history = self.shell.history_manager
        for texts in (history.input_hist_parsed, history.input_hist_raw):
            texts += [""] * (count - len(texts))  # cells before it that were left out
        try:
            return await self.do_execute(code, silent=False, store_history=True)
        except KeyboardInterrupt:  # an interrupt just before or after the cell's own code
            return {"status": "error", "ename": "KeyboardInterrupt", "evalue": "", "traceback": []}

    def rehearse(self, cells: list[str]) -> None:
        """Run cells for what they import and cache, and leave nothing that a later cell could see.

        Raises: RuntimeError where one of them fails without saying so by `# fails`.
        """
        namespace = dict(self.shell.user_ns)

        async def run_all() -> None:
            for count, code in enumerate(cells, start=1):
                reply = await self.run(code, count)
                if (reply["status"] == "error") != code.endswith("# fails"):
                    raise RuntimeError(f"a rehearsed cell ended otherwise: {code!r}: {reply}")

        loop = asyncio.new_event_loop()
        loop.run_until_complete(run_all())
        loop.close()
        self.shell.reset(new_session=True)
        self.shell.user_ns.update(namespace)
        self.shell.compile._filename_map.clear()
        self.shell._last_traceback = None
        for name in [name for name in vars(sys) if name.startswith("last_")]:
            delattr(sys, name)

    def move(self) -> None:
        """Follow a change of the working folder."""
        self.shell.user_ns["_dh"][:] = [Path.cwd()]
