"""In the answer's process: what is changed of torch, numpy, Python, IPython and the library.

It compares with what was there before the student's first cell, listens to Python's audit events,
which no Python code can turn off, and notices each setting of a name in a watched module, so that
a patch which is put back is seen too. It says what it saw and keeps nobody from anything.
All of it lives where the student's code does, and can be deceived: see `tampering`.
"""

import builtins
import gc
import math
import os
import random
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from ctypes import c_uint64, c_void_p, sizeof
from dataclasses import is_dataclass
from functools import cache, partial
from operator import is_
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import _get_current_function_mode_stack as function_modes
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack as dispatch_modes

from autograder.lab import checks

MISSING = object()
WORD = sizeof(c_void_p)
STANDARD = os.path.dirname(os.path.dirname(re.__file__)) + os.sep  # where Python's own files are
PACKAGES = "-packages" + os.sep
COURSE = os.path.dirname(os.path.dirname(checks.__file__)) + os.sep
OWN = "autograder."
MODULES = (
    builtins, math, random, gc, signal, os,
    torch, torch.nn, nn.functional, nn.init, torch.autograd, torch.linalg, torch.testing,
    torch.optim, torch.random, sys.modules["torch.autograd.gradcheck"],
    np, np.random, np.testing, np.linalg,
)  # fmt: skip
CLASSES = (torch.Tensor, nn.Module, nn.Parameter, torch.Generator, np.ndarray)
SIGNALS = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGTERM, signal.SIGUSR1)
SHELL = ("IPython.", "ipykernel.", "traitlets.", "jupyter_client.", OWN)
DECIDES = {"__eq__", "__class__", "__torch_function__", "__torch_dispatch__", "__getattribute__"}
# What an answer calls by itself, or through these files of Python's own.
USED = {
    "sys._getframe": ("inspect.py",),
    "sys._current_frames": (),
    "gc.get_objects": (),
    "gc.get_referrers": (),
    "gc.get_referents": (),
    "sys.settrace": ("threading.py",),
    "sys.setprofile": ("threading.py",),
    "sys.addaudithook": (),
    "ctypes.addressof": ("ctypes/__init__.py",),
    "ctypes.cdata": ("ctypes/__init__.py",),
    "ctypes.cdata/buffer": ("ctypes/__init__.py",),
    "ctypes.dlopen": ("ctypes/__init__.py",),
    "ctypes.dlsym": ("ctypes/__init__.py",),
    "ctypes.string_at": ("ctypes/__init__.py",),
    "os.kill": (),
    "os.killpg": (),
    "os.exec": ("os.py",),
    "os.fork": ("pty.py",),
    "os.forkpty": ("pty.py",),
    "signal.pthread_kill": (),
}
INSIDE = {"__code__", "__defaults__", "__kwdefaults__", "__bases__"}
MEMORY = re.compile(r"/proc/\w+/(mem|maps|fd/.*|task/.*)")
BOOK = "gradebook.db"
SHELL_OPENS = "IPython/core/interactiveshell.py"  # it gives cells an `open` of its own
CELL = "ipykernel_"  # what the file name of a cell's code holds
MOST_PARTS = 10  # of what is returned


class Watched(ModuleType):
    """A module that notices who sets its names, once somebody watches."""

    witness: "Witness | None" = None

    def __setattr__(self, name: str, value: object) -> None:
        if Watched.witness:
            Watched.witness.written(self, name, value)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if Watched.witness:
            Watched.witness.written(self, name, MISSING)
        super().__delattr__(name)


class Place:
    """What the names of a module, a class or an object stand for."""

    def __init__(self, label: str, owner: Any):
        self.label, self.owner, self.names = label, owner, vars(owner)
        self.tag = _tag(self.names)
        self.settle()

    def settle(self) -> None:
        """Take what is there for what is right."""
        self.before = dict(self.names)
        self.seen = self.tag.value if self.tag else None

    def is_changed(self) -> bool:
        """Say whether something was set; where Python does not tell, it may have been."""
        return self.tag is None or self.tag.value != self.seen

    def replaced(self) -> Iterator[str]:
        """Name what is not what it was, and what hides something of the class or its bases."""
        names, before = self.names, self.before
        if not self.is_changed():
            return
        self.settle()
        for name, old in before.items():
            if names.get(name, MISSING) is not old and _acts(old):
                yield name
        if not isinstance(self.owner, ModuleType):
            for name in names.keys() - before.keys():
                if _acts(self._hidden(name)) and not _is_librarys(names[name]):
                    yield name

    def _hidden(self, name: str) -> Any:
        if not isinstance(self.owner, type):
            return getattr(type(self.owner), name, None)
        bases = self.owner.__mro__[1:]
        return next((vars(base)[name] for base in bases if name in vars(base)), None)


class Witness:
    """Watches a process from before the student's first cell, and tells each thing once.

    It is made in the template: a fork that looks at thousands of objects has to copy their memory.
    """

    def __init__(self, shell: Any):
        self.shell = shell
        self.told: set[tuple[str, str]] = set()
        self.answering = False  # a check waits for this process
        own = [module for name, module in sys.modules.items() if name.startswith(OWN)]
        self.modules = {module.__name__: module for module in (*MODULES, *own)}
        for module in self.modules.values():
            module.__class__ = Watched
        modules = [Place(name, module) for name, module in self.modules.items()]
        kinds = dict.fromkeys([*CLASSES, *self._kinds()])
        classes = [Place(f"{kind.__module__}.{kind.__qualname__}", kind) for kind in kinds]
        objects = [Place(f"get_ipython(){name}", found) for name, found in self._objects().items()]
        self.places = [*modules, *classes, *objects]
        near = (builtins, checks, *CLASSES[:2])
        self.near = [place for place in self.places if place.owner in near]
        self.inside = {f: _inside(f) for f in vars(checks).values() if type(f) is FunctionType}
        self.tolerance = dict(checks.TOLERANCE)
        self.kernels = set(torch.library._impls)
        self.handlers = {number: signal.getsignal(number) for number in SIGNALS}

    def watch(self, namespace: dict[str, Any], tell: Callable[[str, str], None]) -> None:
        """Begin, in the process in which cells will run with these names; notes go to `tell`."""
        self.namespace, self.tell = namespace, tell
        self.folder = os.getcwd() + os.sep
        self.lists = {name: list(found) for name, found in self._lists().items()}
        for place in self.places:
            if place.is_changed():
                place.settle()
        Watched.witness = self
        sys.addaudithook(self.heard)

    # ---- what is there now

    def glance(self) -> None:
        """Compare what checks lean on most."""
        self._compare(self.near)

    def look(self) -> None:
        """Compare everything."""
        self._compare(self.places)
        for name, module in self.modules.items():
            if sys.modules.get(name) is not module:
                self.note("replaced", f"sys.modules[{name}]")
        for name, found in self._lists().items():
            known = self.lists[name]
            if any(not any(map(is_, [item] * len(known), known)) and not _is_librarys(item)
                   for item in found):  # fmt: skip
                self.note("left", name)
        for function, before in self.inside.items():
            code, *rest = _inside(function)
            if code is not before[0] or rest != before[1:]:
                self.note("code", function.__qualname__)
        if self.tolerance != checks.TOLERANCE:
            self.note("replaced", "checks.TOLERANCE")
        named = self.namespace.get("checks", checks)
        if named is not checks and (isinstance(named, ModuleType) or _is_students(type(named))):
            self.note("replaced", "checks")
        if any(_is_students(type(mode)) for mode in (*function_modes(), *dispatch_modes())):
            self.note("left", "the modes of torch")
        if len(torch.library._impls) > len(self.kernels):
            for name in torch.library._impls - self.kernels:
                if name.startswith("aten/") and not name.endswith("Meta"):
                    self.note("replaced", f"the kernel {name}")
            self.kernels = set(torch.library._impls)
        for number, before in self.handlers.items():
            handler = signal.getsignal(number)
            if handler is not before and callable(handler) and not _is_librarys(handler):
                self.note("left", f"the handler of {number.name}")

    def gave(self, value: Any) -> None:
        """Look at what a check is to get: a type may be made to agree with everything."""
        for found in value[:MOST_PARTS] if type(value) in (list, tuple) else [value]:
            kind = type(found)
            if _is_students(kind) and not is_dataclass(kind) and not DECIDES.isdisjoint(vars(kind)):
                self.note("gave", kind.__name__)

    def note(self, code: str, subject: str) -> None:
        if (code, subject) not in self.told:
            self.told.add((code, subject))
            self.tell(code, subject)

    def _compare(self, places: list[Place]) -> None:
        for place in places:
            for name in place.replaced():
                self.note("replaced", f"{place.label}.{name}")

    def _objects(self) -> dict[str, Any]:
        """Give what the shell is made of, by what leads there from it."""
        shell, parts = self.shell, ("kernel", "compile", "events", "displayhook", "display_pub")
        found = {f".{name}": getattr(shell, name) for name in parts}
        transformers = shell.input_transformer_manager
        return {"": shell, ".input_transformer_manager": transformers, **found,
                ".kernel.session": shell.kernel.session}  # fmt: skip

    def _kinds(self) -> Iterator[type]:
        """Give the classes of the shell's parts, and those of this package."""
        for found in self._objects().values():
            yield from (kind for kind in type(found).__mro__ if kind.__module__.startswith(SHELL))
        for name, module in self.modules.items():
            if name.startswith(OWN):
                yield from (kind for kind in vars(module).values()
                            if isinstance(kind, type) and kind.__module__ == name)  # fmt: skip

    def _lists(self) -> dict[str, list]:
        """Give what is called beside a cell, or before a module is found."""
        shell = self.shell
        transformers = shell.input_transformer_manager
        return {
            "get_ipython().ast_transformers": shell.ast_transformers,
            "get_ipython().input_transformers_post": shell.input_transformers_post,
            "the shell's transformers of input": [
                *transformers.cleanup_transforms,
                *transformers.line_transforms,
                *transformers.token_transformers,
            ],
            "get_ipython().events": [f for named in shell.events.callbacks.values() for f in named],
            "the shell's handlers of errors": list(shell.custom_exceptions),
            "sys.meta_path": sys.meta_path,
            "sys.path_hooks": sys.path_hooks,
        }

    # ---- what is done

    def written(self, module: ModuleType, name: str, value: object) -> None:
        """Notice that a name of a watched module is set or deleted."""
        old = vars(module).get(name, MISSING)
        if old is not value and (_acts(old) or name == "__class__") and self._is_by(_is_standard):
            self.note("replaced", f"{module.__name__}.{name}")

    def heard(self, event: str, arguments: tuple) -> None:
        """Take one of Python's audit events, nearly all of which say nothing here."""
        if event in USED:
            if event == "os.fork" and not self.answering:
                return
            if event in ("os.kill", "os.killpg") and arguments[1] == 0:
                return
            between = USED[event]
            if self._is_by(lambda file: file.startswith(STANDARD) and file.endswith(between)):
                self.note("used", event)
        elif event in ("object.__setattr__", "object.__delattr__"):
            owner, name = arguments[:2]
            module = getattr(owner, "__module__", "")
            if name in INSIDE and module != "__main__" and self._is_by(lambda file: False):
                self.note("code", f"{module}.{getattr(owner, '__qualname__', '')}")
        elif event == "open" and isinstance(arguments[0], str):
            path, mode, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR) or (mode or "r")[0] in "wax"
            graded = writes and path.endswith((".ipynb", "gradebook.db"))
            if (graded or MEMORY.fullmatch(path)) and self._is_by(_opens):
                self.note("opened", path[-60:])
        elif event == "sqlite3.connect" and str(arguments[0]).rpartition("?")[0].endswith(BOOK):
            self.note("opened", BOOK)

    def _is_by(self, between: Callable[[str], Any]) -> bool:
        """Say whether the student's code acts, by itself or through files `between`."""
        try:
            raise LookupError
        except LookupError as error:
            frame = error.__traceback__.tb_frame
        while frame is not None and frame.f_globals is globals():
            frame = frame.f_back
        while frame is not None:
            file = frame.f_code.co_filename
            if frame.f_globals is self.namespace or file.startswith(self.folder) or CELL in file:
                return True
            if not between(file):
                return False
            frame = frame.f_back
        return False


@cache
def prepared(shell: Any) -> Witness:
    """Give the one witness of this process, which knows by now what is there."""
    return Witness(shell)


def _tag(names: Mapping[str, Any]) -> c_uint64 | None:
    """Give the number that Python changes whenever a dict is; None where it keeps none."""
    if not TAGGED:
        return None
    wrapped = type(names) is not dict  # as a class's is
    place = c_void_p.from_address(id(names) + 2 * WORD).value if wrapped else id(names)
    return c_uint64.from_address(place + 3 * WORD)


def _is_tagged() -> bool:
    """Say whether this Python has such numbers: CPython up to 3.12 does."""
    found = {}
    tag = c_uint64.from_address(id(found) + 3 * WORD)
    before = tag.value
    found["name"] = None
    middle = tag.value
    found["name"] = found
    return len({before, middle, tag.value}) == 3


TAGGED = sys.implementation.name == "cpython" and _is_tagged()


def _acts(value: Any) -> bool:
    """Say whether something does things, so that another in its place would do others."""
    return callable(value) or isinstance(value, ModuleType | property | classmethod | staticmethod)


def _inside(function: FunctionType) -> list:
    keywords = function.__kwdefaults__
    return [function.__code__, function.__defaults__, keywords and dict(keywords)]


def _is_standard(file: str) -> bool:
    return file.startswith(STANDARD) and PACKAGES not in file


def _opens(file: str) -> bool:
    return _is_standard(file) or file.endswith(SHELL_OPENS)


def _is_students(kind: type) -> bool:
    return type.__getattribute__(kind, "__module__") == "__main__"


def _is_librarys(value: Any) -> bool:
    """Say whether something that can be called is written in Python's files, a package or here."""
    while isinstance(value, MethodType | partial):
        value = value.__func__ if isinstance(value, MethodType) else value.func
    if isinstance(value, FunctionType):
        file = value.__code__.co_filename
        return file.startswith((STANDARD, COURSE, "<frozen")) or PACKAGES in file
    made = value if isinstance(value, type) else type(value)
    return made is not BuiltinFunctionType and not _is_students(made)
