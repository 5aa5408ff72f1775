"""A call with gradients: its backward asks the answer's process too."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from autograder.wire import ProtocolError

if TYPE_CHECKING:
    from autograder.judge.remote import Remote


class Call:
    """One differentiable call, from its question to the gradients."""

    def __init__(self, remote: "Remote", ask: Callable[[], dict[str, Any]]):
        self.remote, self.ask = remote, ask
        self.number = 0
        self.value: Any = None
        self.outputs: list[Tensor] = []

    def run(self) -> tuple[list[Tensor], list[bool]]:
        """Ask; give the tensors of the result and which of them have gradients."""
        reply = self.ask()
        self.value, self.number = reply["value"], reply["number"]
        flags = reply.get("differentiable")
        self.outputs = list({id(t): t for t in leaves(self.value) if type(t) is Tensor}.values())
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


class Differentiable(torch.autograd.Function):
    """A call whose backward asks the answer's process."""

    @staticmethod
    def forward(ctx, call: Call, *inputs: Tensor):
        ctx.call = call
        ctx.shapes = [tensor.shape for tensor in inputs]
        ctx.set_materialize_grads(False)
        outputs, flags = call.run()
        ctx.mark_non_differentiable(*[o for o, f in zip(outputs, flags, strict=True) if not f])
        return tuple(outputs)

    @staticmethod
    def backward(ctx, *grads: Tensor | None):
        call = ctx.call
        reply = call.remote.ask("backward", call=call.number, grads=list(grads))
        found = reply["value"]
        fits = type(found) is list and len(found) == len(ctx.shapes)
        if not fits or not all(
            g is None or (type(g) is Tensor and g.shape == shape)
            for g, shape in zip(found, ctx.shapes, strict=True)
        ):
            raise ProtocolError("expected a gradient of the shape of each input")
        return None, *found


def mutate(given: Sequence[Tensor], reply: dict[str, Any]) -> None:
    """Change here what a call changed of its arguments over there."""
    for place, value in reply.get("mutated", []):
        if type(place) is not int or not 0 <= place < len(given):
            raise ProtocolError("expected the place of an argument")
        tensor = given[place]
        if type(value) is not Tensor or value.shape != tensor.shape:
            raise ProtocolError("expected an argument's new values")
        with torch.no_grad():
            tensor.copy_(value)


def leaves(value: Any) -> Iterator[Any]:
    """List what containers hold."""
    if type(value) in (list, tuple, set):
        for item in value:
            yield from leaves(item)
    elif type(value) is dict:
        for item in value.values():
            yield from leaves(item)
    else:
        yield value


def _replaced(value: Any, new: dict[int, Tensor]) -> Any:
    if type(value) in (list, tuple):
        return type(value)(_replaced(item, new) for item in value)
    if type(value) is dict:
        return {key: _replaced(item, new) for key, item in value.items()}
    return new.get(id(value), value) if type(value) is Tensor else value
