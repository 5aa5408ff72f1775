"""The judge's side: asks the answer's process, one question after the other."""

import ast
import itertools
import sys
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor

from autograder.judge import traces
from autograder.judge.calls import Call, Differentiable, leaves, mutate
from autograder.judge.interface import CLASS, FUNCTION, VALUE, Interface
from autograder.judge.link import Link
from autograder.judge.mirrors import Mirrors
from autograder.judge.proxies import RemoteClass, RemoteFunction, RemoteModule, RemoteObject, refer
from autograder.judge.values import Reader, Writer, Written
from autograder.lab import training
from autograder.wire import ProtocolError

SAID = 1 << 20  # characters that a call may print
# What an answer that is none makes its reader trip over.
FORGED = (
    ProtocolError, TypeError, ValueError, LookupError, AttributeError, RuntimeError, MemoryError,
)  # fmt: skip


class Remote:
    """Asks the answer's process; where a cell is interrupted, waits so long for what that says.

    Units: `patience` is in seconds.
    """

    def __init__(self, link: Link, interface: Interface, patience: float = 0.0):
        self.link, self.interface, self.patience = link, interface, patience
        self.mirrors = Mirrors()
        self._numbers = itertools.count(1)
        self._given_up: set[int] = set()  # questions whose answers may still come
        self._dropped: list[int] = []
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
            if isinstance(model, RemoteModule):
                return self.fit(model, *arguments, **keywords)
            return local(model, *arguments, **keywords)

        fit.__wrapped__ = local
        training.fit = fit
        for name in ("manual_seed", "set_rng_state"):
            seed = self._noting(getattr(torch, name))
            setattr(torch, name, seed)
            setattr(torch.random, name, seed)

    def _noting(self, seed: Callable) -> Callable:
        """Have the answer's process seeded again too, though the state here may be the same."""

        @wraps(seed)
        def noted(*arguments: Any, **keywords: Any) -> Any:
            self.mirrors.seeded = True
            return seed(*arguments, **keywords)

        return noted

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

    def ask(
        self,
        op: str,
        *,
        objects: bool = False,
        writer: Writer | None = None,
        given: Sequence[Tensor] = (),
        **content: Any,
    ) -> dict[str, Any]:
        """Ask one question and give the answer to it, which may name objects where that is said.

        `given` are tensors that what is asked for may change; the writer has written them.
        Raises: what the student's code raised, with its traceback; ClosedError, ProtocolError.
        """
        if not self._broken and not self._given_up and not self.link.is_empty():
            self._broken = "the answer's process sent what is no answer: nobody had asked"
        if self._broken:
            raise ProtocolError(self._broken)
        writer = writer or Writer(refer)
        # The content goes first: an answerer counts on the order of its tensors.
        content = {name: Written(writer.tree(value)) for name, value in content.items()}
        number = next(self._numbers)
        self._send({"op": op, "number": number, "objects": objects, **content}, writer)
        try:
            reply = self._reply(number, objects)
            if "error" not in reply and "value" not in reply and op != "get":
                raise ProtocolError("expected a value or an error")
            for name in ("stdout", "stderr"):
                if text := _text(reply["said"], name, SAID):
                    getattr(sys, name).write(text)
            self.mirrors.adopt(reply)
            mutate(given, reply)
            error = traces.rebuilt(reply["error"]) if "error" in reply else None
        except FORGED as fault:
            self._broken = f"the answer's process sent what is no answer: {fault}"
            raise ProtocolError(self._broken) from None
        if error is not None:
            raise error
        return reply

    def _send(self, message: dict[str, Any], writer: Writer) -> None:
        message |= self.mirrors.changes()
        message["drop"], self._dropped = self._dropped, []
        try:
            self.link.send(message, writer)
        except ProtocolError:  # too large, and nothing was sent
            self.mirrors.tell_all_again()
            raise
        except KeyboardInterrupt:
            self._broken = "a question to the answer's process was broken off"
            raise

    def _reply(self, number: int, objects: bool) -> dict[str, Any]:
        """Wait for the answer to question `number`; older ones were given up by an interrupt."""
        resolve = _Resolver(self) if objects else None
        while True:
            try:
                reply = self.link.receive(Reader(resolve))
            except KeyboardInterrupt:
                reply = self._last_word(number)
                if reply is None:
                    raise
            if type(reply) is not dict or type(reply.get("said")) is not dict:
                raise ProtocolError("expected an answer")
            came = reply.get("number")
            if type(came) is int and came == number:
                return reply
            if type(came) is not int or came not in self._given_up:
                raise ProtocolError(f"expected answer {number}, got {came!r}"[:80])
            self._given_up.remove(came)

    def _last_word(self, number: int) -> dict[str, Any] | None:
        """Wait a little for what an interrupted answer says; None where that is not an error."""
        self.link.connection.settimeout(max(0.01, self.patience))
        try:
            reply = self.link.receive(Reader(lambda named: None))
        except TimeoutError:
            reply = None
        finally:
            self.link.connection.settimeout(None)
        if type(reply) is dict and reply.get("number") == number and "error" in reply:
            return reply
        self._given_up.add(number)
        return None

    # ---- calls

    def call(
        self,
        target: list,
        args: tuple,
        kwargs: dict,
        *,
        owners: tuple[object, ...] = (),
        objects: bool = False,
    ) -> Any:
        """Call something over there; gradients flow through."""
        grad = torch.is_grad_enabled()
        writer = Writer(refer)
        written = Written(writer.tree([args, kwargs]))
        given = list(writer.tensors)
        weights = {}
        if grad:
            passed = [value for value in leaves([args, kwargs]) if isinstance(value, RemoteModule)]
            modules = [owner for owner in owners if isinstance(owner, RemoteModule)]
            weights = self.mirrors.weights_of([*modules, *passed])
        ask = partial(
            self.ask,
            "call",
            objects=objects,
            writer=writer,
            given=given,
            arguments=written,
            count=len(given),
            target=target,
            grad=grad,
            weights=list(weights),
        )
        ask = partial(self._without_changes, ask, target)
        inputs = [*given, *weights.values()]
        if not (grad and any(tensor.requires_grad for tensor in inputs)):
            return ask()["value"]
        call = Call(self, ask)
        outputs = Differentiable.apply(call, *inputs)
        return call.rebuilt(outputs)

    def _without_changes(self, ask: Callable[[], dict[str, Any]], target: list) -> dict[str, Any]:
        """Ask for a call that may change its arguments only where its signature says so.

        An oracle that is asked after it would err as the answer does.
        """
        reply = ask()
        called = "forward" if target[0] == "module" and len(target) == 3 else str(target[-1])
        called = called.removeprefix(".")
        if reply.get("mutated") and called not in self.interface.changing:
            raise AssertionError(f"{called} changed in place what it was given: work on a copy")
        return reply

    def fit(
        self,
        model: RemoteModule,
        loss_of_batch: Callable,
        batches: Any,
        steps: int,
        *,
        validate: Callable | None = None,
        **keywords: Any,
    ) -> training.History:
        """Have `training.fit` run over there at plain speed."""
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
        self.mirrors.note_modes(model, training=False)
        return history

    def drop(self, call: int) -> None:
        self._dropped.append(call)


class _Resolver:
    """Gives the proxies of the objects that one answer names."""

    def __init__(self, remote: Remote):
        self.remote = remote
        self.new: dict[int, RemoteModule | RemoteObject] = {}

    def __call__(self, named: Any) -> RemoteModule | RemoteObject:
        kind, handle = named
        if type(handle) is not int or kind not in ("module", "object"):
            raise ProtocolError("expected an object's number")
        if handle not in self.new:
            mirrors = self.remote.mirrors
            known = mirrors.find(handle) if kind == "module" else None
            if known is None and kind == "module":
                known = RemoteModule.make(self.remote, handle, "", mirrors.life(handle))
            elif known is None:
                known = RemoteObject(self.remote, handle, mirrors.life(handle))
            self.new[handle] = known
        return self.new[handle]


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


def _text(said: dict, name: str, most: int) -> str:
    text = said.get(name, "")
    return text[:most] if type(text) is str else ""
