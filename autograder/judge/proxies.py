"""What an answer defines, as the judge sees it: functions, classes, modules and objects elsewhere.

A module here *is* an `nn.Module` whose parameters and buffers mirror the student's; only its
forward and its methods are over there.
"""

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import nn

from autograder.wire import ProtocolError

if TYPE_CHECKING:
    from autograder.judge.remote import Remote

MOST_NAME = 200  # characters
COUNT = "num_batches_tracked"


class RemoteFunction:
    """Something over there that can be called."""

    def __init__(self, remote: "Remote", target: list, name: str, owners: tuple[object, ...] = ()):
        self._remote, self._target, self._owners = remote, target, owners
        self.__name__ = self.__qualname__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._remote.call(
            self._target,
            args,
            kwargs,
            owners=self._owners,
            objects=self.__name__ in self._remote.interface.objects,
        )

    def __repr__(self) -> str:
        return f"<{self.__name__} of the answer>"


class RemoteClass:
    """A class over there: calling it makes a module or an object."""

    def __init__(self, remote: "Remote", name: str):
        self._remote, self.__name__ = remote, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        target = ["name", self.__name__]
        made = self._remote.ask("make", objects=True, target=target, args=args, kwargs=kwargs)[
            "value"
        ]
        if not isinstance(made, RemoteModule | RemoteObject):
            raise ProtocolError(f"expected an object of {self.__name__}")
        made._made_by = self
        return made

    def __getattr__(self, name: str) -> Any:
        return attribute(self._remote, ["name", self.__name__], name, ())

    def __instancecheck__(self, instance: object) -> bool:
        return getattr(instance, "__dict__", {}).get("_made_by") is self

    def __repr__(self) -> str:
        return f"<class {self.__name__} of the answer>"


class RemoteObject:
    """An object over there that is no module."""

    def __init__(self, remote: "Remote", handle: int, life: object):
        self._remote, self._handle, self._made_by = remote, handle, None
        self._life = life

    def __getattr__(self, name: str) -> Any:
        return attribute(self._remote, ["object", self._handle], name, (self,))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._remote.call(["object", self._handle], args, kwargs)


class RemoteModule(nn.Module):
    """A module over there, and the mirror of its parameters and buffers."""

    @classmethod
    def make(cls, remote: "Remote", handle: int, path: str, life: object) -> "RemoteModule":
        """Make the proxy of a module, or of the part of it at `path`; it has no parts yet."""
        module = cls()
        own = {"_remote": remote, "_handle": handle, "_path": path, "_life": life}
        own |= {"_weight_numbers": {}, "_buffer_numbers": {}, "_made_by": None}
        module.__dict__.update(own)
        remote.mirrors.add(module)
        return module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        target = ["module", self._handle, self._path]
        return self._remote.call(target, args, kwargs, owners=(self._root(),))

    def __getattr__(self, name: str) -> Any:
        for store in ("_parameters", "_buffers", "_modules"):
            if name in self.__dict__.get(store, {}):
                return self.__dict__[store][name]
        if "_remote" not in self.__dict__:
            raise AttributeError(name)
        target = ["module", self._handle, self._path]
        return attribute(self._remote, target, name, (self._root(),))

    def __deepcopy__(self, memo: dict) -> "RemoteModule":
        copied = self._remote.ask("copy", objects=True, model=self)["value"]
        if not isinstance(copied, RemoteModule):
            raise ProtocolError("expected the copy of a module")
        copied._made_by = self._made_by
        return copied

    # A norm over the batch stores the second version of its state, and fills in what the first
    # one lacked: the mirror, too, takes what any plain kernel takes.
    @property
    def _version(self) -> int:
        return 1 if self._buffers.get(COUNT) is None else 2

    def _load_from_state_dict(self, state: dict, prefix: str, metadata: dict, *more: Any) -> None:
        if self._version == 2 and (metadata.get("version") or 1) < 2:
            state.setdefault(prefix + COUNT, self._buffers[COUNT])
        super()._load_from_state_dict(state, prefix, metadata, *more)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._modules.values())

    def __getitem__(self, place: int) -> nn.Module:
        return list(self._modules.values())[place]

    def __bool__(self) -> bool:
        return True

    def _root(self) -> "RemoteModule":
        return self._remote.mirrors.find(self._handle) or self


@functools.lru_cache(1000)
def named(name: Any) -> type[RemoteModule]:
    """Make a kind of proxy that is called as the student's class is, which messages show."""
    if type(name) is not str or not name.isidentifier() or len(name) > MOST_NAME:
        raise ProtocolError("expected the name of a class")
    return type(name, (RemoteModule,), {"__module__": "__main__"})


def attribute(remote: "Remote", target: list, name: str, owners: tuple) -> Any:
    """Read an attribute: plain data, or something to call."""
    if name.startswith("__"):
        raise AttributeError(name)
    reply = remote.ask("get", target=[*target, "." + name])
    if reply.get("callable") is True:
        return RemoteFunction(remote, [*target, "." + name], name, owners)
    if "value" not in reply:
        raise ProtocolError(f"expected {name}")
    return reply["value"]


def refer(value: Any) -> list | None:
    """Name what lives over there."""
    if isinstance(value, RemoteModule):
        return ["module", value._handle, value._path]
    if isinstance(value, RemoteObject):
        return ["object", value._handle]
    if isinstance(value, RemoteFunction):
        return value._target
    if isinstance(value, RemoteClass):
        return ["name", value.__name__]
    return None
