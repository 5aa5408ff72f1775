"""What the judge knows of the modules over there: their parameters, buffers and modes.

Before each question the judge tells what it changed of a mirror, and each answer tells what
changed over there.
"""

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from autograder.judge.proxies import RemoteModule, named
from autograder.wire import ProtocolError

Place = tuple[dict[str, Tensor | None], str, int]  # where a tensor stands: store, name, number


class Life:
    """Ends with the last proxy of an object."""


class Mirrors:
    """The mirrors of all modules that live over there and are in use here."""

    def __init__(self) -> None:
        self._parts: weakref.WeakValueDictionary[tuple[int, str], RemoteModule] = (
            weakref.WeakValueDictionary()
        )
        self._weights: weakref.WeakValueDictionary[int, nn.Parameter] = (
            weakref.WeakValueDictionary()
        )
        self._synced: dict[int, tuple] = {}  # number of a tensor: what they know of it over there
        self._modes: dict[tuple[int, str], bool] = {}
        self._gone: list[int] = []  # handles that nothing here needs any more
        self._random: bytes | None = None
        self.seeded = False  # since the last question

    def life(self, handle: int) -> Life:
        """Give what all that needs an object over there is to hold on to."""
        life = Life()
        weakref.finalize(life, self._gone.append, handle).atexit = False
        return life

    def add(self, module: RemoteModule) -> None:
        self._parts[module._handle, module._path] = module

    def find(self, handle: int, path: str = "") -> RemoteModule | None:
        return self._parts.get((handle, path))

    def weights_of(self, modules: list[RemoteModule]) -> dict[int, nn.Parameter]:
        """Give the parameters of modules that have gradients, each once, by number."""
        found: dict[int, nn.Parameter] = {}
        for module in modules:
            for part in module.modules():
                if isinstance(part, RemoteModule):
                    for name, number in part._weight_numbers.items():
                        weight = part._parameters.get(name)
                        if weight is not None and weight.requires_grad:
                            found[number] = weight
        return found

    def changes(self) -> dict[str, Any]:
        """Tell what changed here since the last question."""
        told: dict[str, Any] = {}
        pushed, modes, seen = [], [], set()
        for key, part in list(self._parts.items()):
            if self._modes.get(key) is not part.training:
                modes.append([*key, part.training])
                self._modes[key] = part.training
            for store, name, number in _places(part):
                tensor = store.get(name)
                if tensor is None or number in seen:
                    continue
                seen.add(number)
                state = _state(tensor)
                if self._synced.get(number) != state:
                    pushed.append([number, tensor.detach(), tensor.requires_grad])
                    self._synced[number] = state
                    if isinstance(tensor, nn.Parameter):
                        self._weights[number] = tensor
        told |= {"push": pushed} if pushed else {}
        told |= {"modes": modes} if modes else {}
        if self._gone:
            told["gone"] = self._gone[:]
            self._forget(told["gone"])
        random = torch.get_rng_state()
        # Sent only where it changed here: two calls in a row draw on over there, as they would.
        if (known := random.numpy().tobytes()) != self._random or self.seeded:
            told["random"], self._random, self.seeded = random, known, False
        return told

    def adopt(self, reply: dict[str, Any]) -> None:
        """Take over what changed over there.

        Raises: ProtocolError where that is no part of a module.
        """
        for handle, structure in _pairs(reply.get("structures")):
            if (root := self.find(handle)) is not None:
                self._rebuild(root, structure)
        fresh = dict(_pairs(reply.get("tensors")))
        if not fresh:
            return
        seen = set()
        for part in list(self._parts.values()):
            for store, name, number in _places(part):
                tensor, value = store.get(name), fresh.get(number)
                if tensor is not None and type(value) is Tensor and number not in seen:
                    seen.add(number)
                    tensor.data = value
                    self._synced[number] = _state(tensor)

    def tell_all_again(self) -> None:
        """Forget what they know over there: the last changes did not get there."""
        self._synced.clear()
        self._modes.clear()
        self._random = None

    def note_modes(self, root: RemoteModule, training: bool) -> None:
        """Take over the mode that a module has over there by now."""
        nn.Module.train(root, training)
        for key, part in self._parts.items():
            self._modes[key] = part.training

    def _forget(self, handles: list[int]) -> None:
        del self._gone[: len(handles)]
        gone = set(handles)
        self._modes = {key: mode for key, mode in self._modes.items() if key[0] not in gone}

    def _rebuild(self, module: RemoteModule, structure: Any) -> None:
        """Make a mirror what the answer's process says that the module is."""
        if type(structure) is not dict:
            raise ProtocolError("expected the structure of a module")
        own = module.__dict__
        module.__class__ = named(structure["class"])
        module.training = structure["training"] is True
        own["_weight_numbers"], own["_buffer_numbers"] = {}, {}
        module._parameters.clear()
        module._buffers.clear()
        module._non_persistent_buffers_set.clear()
        for name, number, tensor, needs in structure["parameters"]:
            _fits(name, number, tensor)
            weight = self._weights.get(number)
            if weight is None:
                weight = nn.Parameter(tensor, requires_grad=needs is True)
                self._weights[number] = weight
                self._synced[number] = _state(weight)
            module._parameters[name] = weight
            own["_weight_numbers"][name] = number
        for name, number, tensor, persistent in structure["buffers"]:
            _fits(name, number, tensor)
            module._buffers[name] = tensor
            self._synced[number] = _state(tensor)
            own["_buffer_numbers"][name] = number
            if persistent is not True:
                module._non_persistent_buffers_set.add(name)
        before = dict(module._modules)
        module._modules.clear()
        for name, child in structure["children"]:
            _fits(name, 0, None)
            known = before.get(name)
            if not isinstance(known, RemoteModule):
                path = f"{module._path}.{name}" if module._path else name
                known = RemoteModule.make(module._remote, module._handle, path, module._life)
            module._modules[name] = known
            self._rebuild(known, child)


def _places(part: RemoteModule) -> Iterator[Place]:
    """Say where the mirrored tensors of one module stand."""
    for name, number in part._weight_numbers.items():
        yield part._parameters, name, number
    for name, number in part._buffer_numbers.items():
        yield part._buffers, name, number


def _state(tensor: Tensor) -> tuple:
    return id(tensor), tensor._version, tensor.data_ptr(), tensor.dtype, tensor.requires_grad


def _pairs(found: Any) -> list[tuple[int, Any]]:
    if found is None:
        return []
    if type(found) is not list or not all(
        type(pair) is list and len(pair) == 2 and type(pair[0]) is int for pair in found
    ):
        raise ProtocolError("expected numbered parts")
    return [(number, part) for number, part in found]


def _fits(name: Any, number: Any, tensor: Any) -> None:
    named = type(name) is str and name and "." not in name and len(name) < 200
    if not named or type(number) is not int or not (tensor is None or type(tensor) is Tensor):
        raise ProtocolError("expected a part of a module: a name, a number, a tensor")
