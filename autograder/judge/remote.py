"""The judge's side: what an answer defines, as functions, classes and modules that live elsewhere.

A call sends plain data and gets plain data. A module here *is* an `nn.Module` whose parameters and
buffers mirror the student's; only its forward and its methods are elsewhere. Before each question
the judge tells what it changed of a mirror, and each answer tells what changed over there.
"""

import ast
import builtins
import itertools
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from autograder.judge.interface import CLASS, FUNCTION, VALUE, Interface
from autograder.judge.link import Link
from autograder.judge.values import Reader, Writer
from autograder.lab import errors as lab_errors
from autograder.lab import training
from autograder.wire import ProtocolError

SAID = 1 << 20  # characters that a call may print
NOTE = 20_000
ERRORS = {
    name: found
    for source in (builtins, lab_errors)
    for name, found in vars(source).items()
    if isinstance(found, type)
    and issubclass(found, Exception)
    and not issubclass(found, StopIteration | StopAsyncIteration)
}


class Remote:
    """Asks the answer's process, and keeps the mirrors of its modules up to date."""

    def __init__(self, link: Link, interface: Interface):
        self.link, self.interface = link, interface
        self._numbers = itertools.count(1)
        self._dropped: list[int] = []
        self._roots: weakref.WeakValueDictionary[int, RemoteModule] = weakref.WeakValueDictionary()
        self._parameters: weakref.WeakValueDictionary[int, nn.Parameter] = (
            weakref.WeakValueDictionary()
        )
        self._synced: dict[int, tuple] = {}
        self._modes: dict[tuple[int, str], bool] = {}
        self._random: Tensor | None = None
        self._broken = ""

    # ---- names

    def install(self, namespace: dict[str, Any]) -> None:
        """Define what the checks may use of the answer."""
        for name, kind in self.interface.names.items():
            if kind == FUNCTION:
                namespace[name] = RemoteFunction(self, ["name", name], name)
            elif kind == CLASS:
                namespace[name] = RemoteClass(self, name)
        local = training.fit

        def fit(model: Any, *arguments: Any, **keywords: Any) -> Any:
            """Train where the model lives."""
            __tracebackhide__ = True
            if isinstance(model, RemoteModule):
                return self.fit(model, *arguments, **keywords)
            return local(model, *arguments, **keywords)

        fit.__wrapped__ = local
        training.fit = fit

    def refresh(self, namespace: dict[str, Any], code: str) -> None:
        """Fetch the plain values that a cell uses; what cannot be had is not defined."""
        try:
            used = {n.id for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Name)}
        except SyntaxError:
            return
        for name in sorted(used):
            if self.interface.names.get(name) == VALUE:
                namespace.pop(name, None)
                try:
                    namespace[name] = self.ask("get", target=["name", name])["value"]
                except Exception as error:
                    print(f"{name} of the answer: {error}", file=sys.stderr)

    # ---- questions

    def ask(self, op: str, give_objects: bool = False, **content: Any) -> dict[str, Any]:
        """Ask one question and give the answer to it.

        Raises: what the student's code raised, with its traceback; ClosedError, ProtocolError.
        """
        __tracebackhide__ = True
        if self._broken:
            raise ProtocolError(self._broken)
        number = next(self._numbers)
        # The content goes first: an answerer counts on the order of its tensors.
        message = {"op": op, "number": number, **content, **self._changes()}
        message["drop"], self._dropped = self._dropped, []
        self.link.send(message, Writer(_refer))
        new: dict[int, RemoteModule | RemoteObject] = {}
        try:
            reply = self._reply(number, new, give_objects)
        except ProtocolError as error:
            self._broken = f"the answer's process sent what is no message: {error}"
            raise
        for name in ("stdout", "stderr"):
            if text := _text(reply["said"], name, SAID):
                getattr(sys, name).write(text)
        self._adopt(reply)
        if "error" in reply:
            raise _exception(reply["error"])
        return reply

    def _reply(self, number: int, new: dict, give_objects: bool) -> dict[str, Any]:
        """Wait for the answer to question `number`; older ones were given up by an interrupt."""

        def resolve(named: Any) -> Any:
            if not give_objects:
                raise ProtocolError("expected plain data, got an object")
            kind, handle = named
            if type(handle) is not int or kind not in ("module", "object"):
                raise ProtocolError("expected an object's number")
            if handle not in new:
                known = self._roots.get(handle) if kind == "module" else None
                make = RemoteModule._make if kind == "module" else RemoteObject
                new[handle] = known if known is not None else make(self, handle)
            return new[handle]

        while True:
            reply = self.link.receive(Reader(resolve))
            if type(reply) is not dict or type(reply.get("number")) is not int:
                raise ProtocolError("expected an answer with a number")
            if reply["number"] == number and type(reply.get("said")) is dict:
                return reply

    # ---- calls

    def call(
        self,
        target: list,
        args: tuple,
        kwargs: dict,
        *,
        modules: tuple["RemoteModule", ...] = (),
        give_objects: bool = False,
    ) -> Any:
        """Call something over there; gradients flow through."""
        __tracebackhide__ = True
        grad = torch.is_grad_enabled()
        writer = Writer(_refer)
        writer.tree([args, kwargs])  # finds the tensors, each once, in their order
        given = writer.tensors
        passed = [value for value in _leaves([args, kwargs]) if isinstance(value, RemoteModule)]
        uids = self._uids([*modules, *passed]) if grad else []
        weights = {uid: weight for uid in uids if (weight := self._parameters[uid]).requires_grad}
        question = {
            "args": args,
            "kwargs": kwargs,
            "given": len(given),
            "target": target,
            "grad": grad,
            "weights": list(weights),
        }
        inputs = [*given, *weights.values()]
        if not (grad and any(tensor.requires_grad for tensor in inputs)):
            reply = self.ask("call", give_objects, **question)
            self._mutate(given, reply)
            return reply["value"]
        call = _Call(self, question, given, give_objects)
        outputs = _Differentiable.apply(call, *inputs)
        return call.rebuilt(outputs)

    def _mutate(self, given: list[Tensor], reply: dict[str, Any]) -> None:
        """Change here what a call changed of its arguments over there."""
        for place, value in reply.get("mutated", []):
            tensor = given[place]
            if type(value) is not Tensor or value.shape != tensor.shape:
                raise ProtocolError("expected an argument's new values")
            with torch.no_grad():
                tensor.copy_(value)

    def fit(
        self,
        model: "RemoteModule",
        loss_of_batch: Callable,
        batches: Any,
        steps: int,
        *,
        validate: Callable | None = None,
        **keywords: Any,
    ) -> training.History:
        """Have `training.fit` run over there at plain speed."""
        __tracebackhide__ = True
        reply = self.ask(
            "fit",
            model=model,
            loss=_name(loss_of_batch),
            validate=None if validate is None else _name(validate),
            batches=_plain_batches(batches),
            steps=steps,
            keywords=keywords,
        )
        history = reply["value"]
        if type(history) is not training.History:
            raise ProtocolError("expected a history")
        model.eval()
        self._note_modes()
        return history

    def drop(self, call: int) -> None:
        self._dropped.append(call)

    # ---- mirrors

    def _uids(self, modules: list["RemoteModule"]) -> list[int]:
        found: dict[int, None] = {}
        for module in modules:
            for part in module.modules():
                if isinstance(part, RemoteModule):
                    found |= dict.fromkeys(part._weight_uids.values())
        return [uid for uid in found if uid in self._parameters]

    def _mirrored(self) -> Iterator[tuple[int, Tensor]]:
        """List every mirrored tensor once, with its number."""
        seen = set()
        for root in list(self._roots.values()):
            for module in root.modules():
                if not isinstance(module, RemoteModule):
                    continue
                places = (
                    (module._weight_uids, module._parameters),
                    (module._buffer_uids, module._buffers),
                )
                for uids, store in places:
                    for name, uid in uids.items():
                        tensor = store.get(name)
                        if tensor is not None and uid not in seen:
                            seen.add(uid)
                            yield uid, tensor

    def _changes(self) -> dict[str, Any]:
        """Tell what changed here since the last question."""
        changes: dict[str, Any] = {}
        pushed = []
        for uid, tensor in self._mirrored():
            if isinstance(tensor, nn.Parameter):
                self._parameters[uid] = tensor
            state = _state(tensor)
            if self._synced.get(uid) != state:
                pushed.append([uid, tensor.detach(), tensor.requires_grad])
                self._synced[uid] = state
        if pushed:
            changes["push"] = pushed
        modes = [
            [handle, path, mode]
            for handle, path, mode in self._current_modes()
            if self._modes.get((handle, path)) is not mode
        ]
        if modes:
            changes["modes"] = modes
            self._note_modes()
        random = torch.get_rng_state()
        # Sent only where it changed here: two calls in a row draw on over there, as they would.
        if self._random is None or not torch.equal(random, self._random):
            changes["random"] = self._random = random
        return changes

    def _current_modes(self) -> Iterator[tuple[int, str, bool]]:
        for handle, root in list(self._roots.items()):
            for path, module in root.named_modules():
                if isinstance(module, RemoteModule):
                    yield handle, path, module.training

    def _note_modes(self) -> None:
        self._modes = {(handle, path): mode for handle, path, mode in self._current_modes()}

    def _adopt(self, reply: dict[str, Any]) -> None:
        """Take over what changed over there."""
        for handle, structure in _pairs(reply.get("structures")):
            if handle in self._roots:
                self._roots[handle]._adopt(structure)
        fresh = dict(_pairs(reply.get("tensors")))
        if not fresh:
            return
        for uid, tensor in self._mirrored():
            value = fresh.get(uid)
            if type(value) is Tensor:
                tensor.data = value.to(tensor.device)
                self._synced[uid] = _state(tensor)


class _Call:
    """One differentiable call, from its question to the gradients."""

    def __init__(self, remote: Remote, question: dict, given: list[Tensor], give_objects: bool):
        self.remote, self.question, self.given = remote, question, given
        self.give_objects = give_objects
        self.number = 0
        self.value: Any = None
        self.outputs: list[Tensor] = []

    def run(self) -> tuple[list[Tensor], list[bool]]:
        """Ask; give the tensors of the result and which of them have gradients."""
        reply = self.remote.ask("call", self.give_objects, **self.question)
        self.remote._mutate(self.given, reply)
        self.value, self.number = reply["value"], reply["number"]
        self.outputs = list({id(t): t for t in _leaves(self.value) if type(t) is Tensor}.values())
        flags = reply.get("differentiable")
        if type(flags) is not list or len(flags) != len(self.outputs):
            raise ProtocolError("expected to be told which outputs have gradients")
        return self.outputs, [flag is True for flag in flags]

    def rebuilt(self, outputs: tuple[Tensor, ...]) -> Any:
        """Give the result with tensors that are part of the graph here."""
        new = {id(old): tensor for old, tensor in zip(self.outputs, outputs, strict=True)}
        return _replaced(self.value, new)

    def __del__(self):
        if self.number:
            self.remote.drop(self.number)


class _Differentiable(torch.autograd.Function):
    """A call whose backward asks the answer's process."""

    @staticmethod
    def forward(ctx, call: _Call, *inputs: Tensor):
        __tracebackhide__ = True
        ctx.call = call
        ctx.shapes = [tensor.shape for tensor in inputs]
        ctx.set_materialize_grads(False)
        outputs, flags = call.run()
        given = {id(tensor) for tensor in inputs}
        fresh = [o.clone() if id(o) in given else o for o in outputs]
        call.outputs = outputs
        ctx.mark_non_differentiable(*[o for o, f in zip(fresh, flags, strict=True) if not f])
        return tuple(fresh)

    @staticmethod
    def backward(ctx, *grads: Tensor | None):
        __tracebackhide__ = True
        call = ctx.call
        reply = call.remote.ask("backward", call=call.number, grads=list(grads))
        found = reply.get("value")
        fits = type(found) is list and len(found) == len(ctx.shapes)
        if not fits or not all(
            g is None or (type(g) is Tensor and g.shape == shape)
            for g, shape in zip(found, ctx.shapes, strict=True)
        ):
            raise ProtocolError("expected a gradient of the shape of each input")
        return None, *found


class RemoteFunction:
    """Something over there that can be called."""

    def __init__(
        self, remote: Remote, target: list, name: str, modules: tuple["RemoteModule", ...] = ()
    ):
        self._remote, self._target, self._modules = remote, target, modules
        self.__name__ = self.__qualname__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return self._remote.call(
            self._target,
            args,
            kwargs,
            modules=self._modules,
            give_objects=self.__name__ in self._remote.interface.objects,
        )

    def __repr__(self) -> str:
        return f"<{self.__name__} of the answer>"


class RemoteClass:
    """A class over there: calling it makes a module or an object."""

    def __init__(self, remote: Remote, name: str):
        self._remote, self.__name__ = remote, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        reply = self._remote.ask(
            "make", True, target=["name", self.__name__], args=args, kwargs=kwargs
        )
        made = reply["value"]
        if not isinstance(made, RemoteModule | RemoteObject):
            raise ProtocolError(f"expected an object of {self.__name__}")
        made._made_by = self
        return made

    def __getattr__(self, name: str) -> Any:
        __tracebackhide__ = True
        return _attribute(self._remote, ["name", self.__name__], name, ())

    def __instancecheck__(self, instance: object) -> bool:
        return getattr(instance, "__dict__", {}).get("_made_by") is self

    def __repr__(self) -> str:
        return f"<class {self.__name__} of the answer>"


class RemoteObject:
    """An object over there that is no module."""

    def __init__(self, remote: Remote, handle: int):
        self._remote, self._handle, self._made_by = remote, handle, None

    def __getattr__(self, name: str) -> Any:
        __tracebackhide__ = True
        return _attribute(self._remote, ["object", self._handle], name, ())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return self._remote.call(["object", self._handle], args, kwargs)


class RemoteModule(nn.Module):
    """A module over there, and the mirror of its parameters and buffers."""

    @classmethod
    def _make(cls, remote: Remote, handle: int, path: str = "") -> "RemoteModule":
        module = cls()
        own = {"_remote": remote, "_handle": handle, "_path": path, "_made_by": None}
        own |= {"_weight_uids": {}, "_buffer_uids": {}, "_class": "Module"}
        module.__dict__.update(own)
        if not path:
            remote._roots[handle] = module
        return module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        target = ["module", self._handle, self._path]
        return self._remote.call(target, args, kwargs, modules=(self._root(),))

    def __getattr__(self, name: str) -> Any:
        __tracebackhide__ = True
        for store in ("_parameters", "_buffers", "_modules"):
            if name in self.__dict__.get(store, {}):
                return self.__dict__[store][name]
        if "_remote" not in self.__dict__:
            raise AttributeError(name)
        target = ["module", self._handle, self._path]
        return _attribute(self._remote, target, name, (self._root(),))

    def __deepcopy__(self, memo: dict) -> "RemoteModule":
        copied = self._remote.ask("copy", True, model=self)["value"]
        copied._made_by = self._made_by
        return copied

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._modules.values())

    def __getitem__(self, place: int) -> nn.Module:
        return list(self._modules.values())[place]

    def __bool__(self) -> bool:
        return True

    def _get_name(self) -> str:
        return self._class

    def _root(self) -> "RemoteModule":
        return self._remote._roots.get(self._handle, self)

    def _adopt(self, structure: Any) -> None:
        """Become what the answer's process says that the module is."""
        if type(structure) is not dict:
            raise ProtocolError("expected the structure of a module")
        remote, own = self._remote, self.__dict__
        own["_class"] = str(structure["class"])[:80]
        self.training = structure["training"] is True
        own["_weight_uids"], own["_buffer_uids"] = {}, {}
        self._parameters.clear()
        self._buffers.clear()
        self._non_persistent_buffers_set.clear()
        for name, uid, tensor, needs in structure["parameters"]:
            _fits(name, uid, tensor)
            weight = remote._parameters.get(uid)
            if weight is None:
                weight = nn.Parameter(tensor, requires_grad=needs is True)
                remote._parameters[uid] = weight
                remote._synced[uid] = _state(weight)
            self._parameters[name] = weight
            own["_weight_uids"][name] = uid
        for name, uid, tensor, persistent in structure["buffers"]:
            _fits(name, uid, tensor)
            self._buffers[name] = tensor
            remote._synced[uid] = _state(tensor)
            own["_buffer_uids"][name] = uid
            if persistent is not True:
                self._non_persistent_buffers_set.add(name)
        before = dict(self._modules)
        self._modules.clear()
        for name, child in structure["children"]:
            _fits(name, 0, None)
            path = f"{self._path}.{name}" if self._path else name
            known = before.get(name)
            if not isinstance(known, RemoteModule):
                known = RemoteModule._make(remote, self._handle, path)
            self._modules[name] = known
            known._adopt(child)


def _attribute(remote: Remote, target: list, name: str, modules: tuple) -> Any:
    """Read an attribute: plain data, or something to call."""
    __tracebackhide__ = True
    if name.startswith("__"):
        raise AttributeError(name)
    reply = remote.ask("get", target=[*target, "." + name])
    if reply.get("callable") is True:
        return RemoteFunction(remote, [*target, "." + name], name, modules)
    return reply["value"]


def _refer(value: Any) -> Any:
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


def _name(function: Callable) -> str:
    """Name a function that the set-up cells define on both sides."""
    name = getattr(function, "__name__", "")
    if not name.isidentifier():
        raise TypeError(
            "expected a function that a set-up cell defines, so that both sides have it"
        )
    return name


def _plain_batches(batches: Any) -> Any:
    if type(batches) is training.Batches:
        return {
            "columns": tuple(batches.columns),
            "size": batches.size,
            "seed": batches.seed,
            "padding": batches.padding,
        }
    return list(batches)


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


def _fits(name: Any, uid: Any, tensor: Any) -> None:
    named = type(name) is str and name and "." not in name and len(name) < 200
    if not named or type(uid) is not int or not (tensor is None or type(tensor) is Tensor):
        raise ProtocolError("expected a part of a module: a name, a number, a tensor")


def _leaves(value: Any) -> Iterator[Any]:
    if type(value) in (list, tuple, set):
        for item in value:
            yield from _leaves(item)
    elif type(value) is dict:
        for item in value.values():
            yield from _leaves(item)
    else:
        yield value


def _replaced(value: Any, new: dict[int, Tensor]) -> Any:
    if type(value) in (list, tuple):
        return type(value)(_replaced(item, new) for item in value)
    if type(value) is dict:
        return {key: _replaced(item, new) for key, item in value.items()}
    return new.get(id(value), value) if type(value) is Tensor else value


def _text(said: Any, name: str, most: int) -> str:
    text = said.get(name, "") if type(said) is dict else ""
    return text[:most] if type(text) is str else ""


def _exception(told: Any) -> Exception:
    """Make the exception that the student's code raised, as one of a known kind."""
    if type(told) is not dict or type(told.get("kinds")) is not list:
        raise ProtocolError("expected an error's kinds and text")
    kinds = [kind for kind in told["kinds"] if type(kind) is str]
    base = next((ERRORS[kind] for kind in kinds if kind in ERRORS), Exception)
    name = kinds[0] if kinds and kinds[0].isidentifier() else "Exception"
    if base.__name__ != name:
        base = type(name, (base,), {"__module__": "builtins"})
    text = _text(told, "text", NOTE)
    try:
        error = base(text)
    except TypeError:  # UnicodeDecodeError, for one, wants five arguments
        error = RuntimeError(text)
    if where := _text(told, "traceback", NOTE):
        error.add_note(where)
    return error
