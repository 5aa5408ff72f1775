"""Library calls that would be the whole answer: in the answer's process they raise.

A function is refused wherever it is reached from: by other names of the same object, by the
kernels that it is made of, in torch.ops, and in modules that are imported later.
"""

import functools
import importlib
import importlib.abc
import importlib.machinery
import inspect
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import torch

from autograder.lab.checks import refusal

# Where torch keeps its compiled functions; every other place has them from here.
HOMES = (torch, torch._C._nn, torch.nn.functional)
TEMPLATE = "def refused(*_, **__): raise AssertionError({text!r})"


def refuse(names: Iterable[str]) -> None:
    """Make calls of the functions and classes of these full names raise AssertionError."""
    later = defaultdict(list)
    for name in names:
        package = name.partition(".")[0]
        if package in sys.modules:
            _refuse(name)
        else:
            later[package].append(name)
    if later:
        sys.meta_path.insert(0, Later(later))


def _refuse(name: str) -> None:
    path, _, last = name.rpartition(".")
    owner = _found(path)
    target = getattr(owner, last)
    refused = refusal(name)
    if inspect.isclass(target):
        target.__init__ = refused
    elif isinstance(target, FunctionType) and not target.__code__.co_freevars:
        # Its other names are this same object.
        space: dict[str, Any] = {}
        exec(TEMPLATE.format(text=_text(refused)), space)
        target.__code__ = space["refused"].__code__
        target.__defaults__ = target.__kwdefaults__ = None
    else:
        for module, attribute in aliases().get(id(target), ()):
            setattr(module, attribute, refused)
        setattr(owner, last, refused)
        _refuse_kernels(last, refused)


def _refuse_kernels(name: str, refused: Callable) -> None:
    """Refuse what carries the function's name: torch.ops, and the kernels behind it."""
    operator = Operator(refused)
    for home, attribute in min((kernels().get(word, []) for word in name.split("_")), key=len):
        if is_kernel(attribute, name):
            if isinstance(home, str):
                setattr(getattr(torch.ops, home), attribute, operator)
            else:
                setattr(home, attribute, refused)
    look_up = torch._C._jit_get_operation
    torch._C._jit_get_operation = lambda found: (
        operator if is_kernel(found.rpartition(":")[2], name) else look_up(found)
    )
    torch._C._VariableFunctions = Without(torch._C._VariableFunctions, name, refused)


@functools.cache
def aliases() -> dict[int, list[tuple[ModuleType, str]]]:
    """Find every place in a module that holds a compiled function; once, in the template."""
    found = defaultdict(list)
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType):
            for attribute, value in list(vars(module).items()):
                if type(value) is BuiltinFunctionType:
                    found[id(value)].append((module, attribute))
    return dict(found)


@functools.cache
def kernels() -> dict[str, list[tuple[ModuleType | str, str]]]:
    """Find by each word of their names the compiled functions, and the operators by their space.

    This is done once, in the template.
    """
    found = defaultdict(list)
    places = [(home, attribute) for home in HOMES for attribute in dir(home)]
    for operator in torch._C._dispatch_get_all_op_names():
        space, _, rest = operator.partition("::")
        places.append((space, rest.partition(".")[0]))
    for place in dict.fromkeys(places):
        for word in set(place[1].split("_")):
            found[word].append(place)
    return dict(found)


def is_kernel(attribute: str, name: str) -> bool:
    """Say whether a compiled function is the one of this name, or a kernel of it."""
    words = set(name.split("_"))
    return attribute.strip("_") == name or (len(words) > 2 and words <= set(attribute.split("_")))


class Operator:
    """Stands for an operator of torch.ops, and for each of its overloads."""

    def __init__(self, refused: Callable):
        self._refused = refused

    def __call__(self, *arguments: Any, **keywords: Any) -> None:
        self._refused()

    def __getattr__(self, name: str) -> "Operator":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __iter__(self) -> Iterator["Operator"]:  # what looks an operator up gives it and a list
        return iter((self, []))

    def __getitem__(self, place: int) -> "Operator":
        return list(self)[place]


class Without:
    """Stands for an object that cannot be changed, less the attributes that carry a name."""

    def __init__(self, whole: object, name: str, refused: Callable):
        self._whole, self._name, self._refused = whole, name, refused

    def __getattr__(self, attribute: str) -> Any:
        if is_kernel(attribute, self._name):
            return self._refused
        return getattr(self._whole, attribute)


class Later(importlib.abc.MetaPathFinder):
    """Refuses the names of a package as soon as somebody imports it."""

    def __init__(self, names: dict[str, list[str]]):
        self.names = names

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname not in self.names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            run, names = spec.loader.exec_module, self.names.pop(fullname)

            def exec_module(module: ModuleType) -> None:
                run(module)
                for name in names:
                    _refuse(name)

            spec.loader.exec_module = exec_module
        return spec


def _found(path: str) -> Any:
    """Give what a dotted name means: a module, or a class in one."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        owner, _, last = path.rpartition(".")
        return getattr(_found(owner), last)


def _text(refused: Callable) -> str:
    try:
        refused()
    except AssertionError as error:
        return str(error)
    raise TypeError("expected a function that refuses")
