"""The answer's side: runs what the judge asks for, with the student's own objects.

This process is the student's. Nothing that it says is believed over there, and no check is here.
"""

import contextlib
import copy
import io
import signal
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from autograder.judge.link import Link
from autograder.judge.values import PlainDataError, Reader, Writer
from autograder.lab import training

SAID = 1 << 20
CELLS = "ipykernel_"  # what the file name of a cell's code holds


class Responder:
    """Answers the judge's questions one by one."""

    def __init__(self, link: Link, namespace: dict[str, Any]):
        self.link, self.namespace = link, namespace
        self.objects: dict[int, Any] = {}  # handle: module or object
        self.handles: dict[int, int] = {}  # id: handle
        self.tensors: dict[int, Tensor] = {}  # number: parameter or buffer
        self.numbers: dict[int, int] = {}  # id: number
        self.seen: dict[int, tuple] = {}  # number: what the judge knows of it
        self.calls: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        self.shown: dict[int, Any] = {}  # handle: the structure that the judge knows

    def respond(self) -> None:
        """Take one question and answer it."""
        reader = Reader(self._resolve)
        question = self.link.receive(reader)
        reply: dict[str, Any] = {"number": question["number"]}
        said = {"stdout": io.StringIO(), "stderr": io.StringIO()}
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with (
                contextlib.redirect_stdout(said["stdout"]),
                contextlib.redirect_stderr(said["stderr"]),
            ):
                self._prepare(question)
                reply |= getattr(self, f"_{question['op']}")(question, reader)
        except BaseException as error:
            reply["error"] = _told(error)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        reply["said"] = {name: stream.getvalue()[:SAID] for name, stream in said.items()}
        self._send(reply)

    def _send(self, reply: dict[str, Any]) -> None:
        try:
            writer = Writer(self._refer)
            writer.tree(reply.get("value"))  # new modules get their numbers
            reply |= self._news(everything="fit" in reply)
            self.link.send(reply, Writer(self._refer))
        except PlainDataError as error:
            told = {
                "kinds": ["TypeError"],
                "text": f"your code gave what no check can read: {error}",
            }
            kept = {name: reply[name] for name in ("number", "said")}
            self.link.send({**kept, "error": told}, Writer())

    # ---- questions

    def _prepare(self, question: dict[str, Any]) -> None:
        """Do here what the judge did to its mirrors, and go on from its random numbers."""
        for number in question["drop"]:
            self.calls.pop(number, None)
        for number, value, needs in question.get("push", []):
            tensor = self.tensors[number]
            tensor.data = value
            if tensor.is_leaf and tensor.requires_grad != needs:
                tensor.requires_grad_(needs)
            self.seen[number] = _state(tensor)
        for handle, path, mode in question.get("modes", []):
            self.objects[handle].get_submodule(path).training = mode
        if "random" in question:
            torch.set_rng_state(question["random"])

    def _get(self, question: dict[str, Any], reader: Reader) -> dict[str, Any]:
        value = self._target(question["target"])
        if callable(value) and not isinstance(value, Tensor):
            return {"callable": True}
        return {"value": value}

    def _make(self, question: dict[str, Any], reader: Reader) -> dict[str, Any]:
        made = self._target(question["target"])(*question["args"], **question["kwargs"])
        return {"value": Given(made)}

    def _call(self, question: dict[str, Any], reader: Reader) -> dict[str, Any]:
        given = reader.tensors[: question["given"]]  # those of the arguments stand first
        for tensor, needs in zip(given, reader.needs_grad, strict=False):
            if needs and question["grad"]:
                tensor.requires_grad_(True)
        before = [tensor._version for tensor in given]
        function = self._target(question["target"])
        with torch.set_grad_enabled(question["grad"]):
            value = function(*question["args"], **question["kwargs"])
        reply: dict[str, Any] = {"value": value}
        changed = zip(given, before, strict=True)
        reply["mutated"] = [
            [place, tensor.detach().clone()]
            for place, (tensor, version) in enumerate(changed)
            if tensor._version != version
        ]
        writer = Writer(self._refer)
        writer.tree(value)
        outputs = [t for t in writer.tensors if t.requires_grad]
        if question["grad"] and outputs:
            weights = [self.tensors[number] for number in question["weights"]]
            self.calls[question["number"]] = ([*given, *weights], writer.tensors)
        reply["differentiable"] = [t.requires_grad for t in writer.tensors]
        return reply

    def _backward(self, question: dict[str, Any], reader: Reader) -> dict[str, Any]:
        inputs, outputs = self.calls[question["call"]]
        given = zip(outputs, question["grads"], strict=True)
        pairs = [(out, grad) for out, grad in given if grad is not None and out.requires_grad]
        wanted = [tensor for tensor in inputs if tensor.requires_grad]
        found: list[Tensor | None] = [None] * len(wanted)
        if pairs and wanted:
            found = torch.autograd.grad(
                [out for out, _ in pairs],
                wanted,
                [grad for _, grad in pairs],
                retain_graph=True,
                allow_unused=True,
            )
        left = iter(found)
        return {"value": [next(left) if tensor.requires_grad else None for tensor in inputs]}

    def _fit(self, question: dict[str, Any], reader: Reader) -> dict[str, Any]:
        batches = question["batches"]
        if type(batches) is dict:
            columns = batches.pop("columns")
            batches = training.Batches(*columns, **batches)
        validate = question["validate"]
        history = training.fit(
            question["model"],
            self.namespace[question["loss"]],
            batches,
            question["steps"],
            validate=validate and self.namespace[validate],
            **question["keywords"],
        )
        return {"value": history, "fit": True}

    def _copy(self, question: dict[str, Any], reader: Reader) -> dict[str, Any]:
        return {"value": Given(copy.deepcopy(question["model"]))}

    # ---- objects

    def _target(self, target: list) -> Any:
        """Find what is meant: a name, a module by its path or an object, and then attributes."""
        attributes = [part[1:] for part in target if isinstance(part, str) and part[:1] == "."]
        kind, name, *path = [part for part in target if not str(part).startswith(".")]
        if kind == "name":
            if name not in self.namespace:
                raise NameError(f"name {name!r} is not defined")
            found = self.namespace[name]
        else:
            found = self.objects[name]
            if kind == "module" and path and path[0]:
                found = found.get_submodule(path[0])
        for attribute in attributes:
            found = getattr(found, attribute)
        return found

    def _resolve(self, named: list) -> Any:
        return self._target(named)

    def _refer(self, value: Any) -> Any:
        """Give a number to a module, or to what a class made."""
        if isinstance(value, Given):
            value = value.value
        elif not isinstance(value, nn.Module):
            return None
        if id(value) not in self.handles:
            self.handles[id(value)] = len(self.handles) + 1
            self.objects[self.handles[id(value)]] = value
        kind = "module" if isinstance(value, nn.Module) else "object"
        return [kind, self.handles[id(value)]]

    # ---- mirrors

    def _news(self, everything: bool) -> dict[str, Any]:
        """Tell of modules that are new or have other parts, and of tensors that changed."""
        news: dict[str, Any] = {}
        structures, tensors = [], []
        for handle, module in self.objects.items():
            if not isinstance(module, nn.Module):
                continue
            key = self._key(module)
            if self.shown.get(handle) != key:
                self.shown[handle] = key
                structures.append([handle, self._structure(module)])
        for number, tensor in self.tensors.items():
            if everything or self.seen.get(number) != _state(tensor):
                self.seen[number] = _state(tensor)
                tensors.append([number, tensor.detach()])
        if structures:
            news["structures"] = structures
        if tensors:
            news["tensors"] = tensors
        return news

    def _number(self, tensor: Tensor) -> int:
        if id(tensor) not in self.numbers:
            self.numbers[id(tensor)] = number = len(self.numbers) + 1
            self.tensors[number] = tensor
            self.seen[number] = _state(tensor)
        return self.numbers[id(tensor)]

    def _key(self, module: nn.Module) -> list:
        return [
            (path, list(_own(part._parameters)), list(_own(part._buffers)))
            for path, part in module.named_modules()
        ]

    def _structure(self, module: nn.Module) -> dict[str, Any]:
        return {
            "class": type(module).__name__,
            "training": module.training,
            "parameters": [
                [name, self._number(tensor), tensor.detach(), tensor.requires_grad]
                for name, tensor in module._parameters.items()
                if tensor is not None
            ],
            "buffers": [
                [name, self._number(t), t.detach(), name not in module._non_persistent_buffers_set]
                for name, t in module._buffers.items()
                if t is not None
            ],
            "children": [
                [name, self._structure(child)]
                for name, child in module._modules.items()
                if child is not None
            ],
        }


class Given:
    """What a class made: it crosses as a number, whatever it is."""

    def __init__(self, value: Any):
        self.value = value


def _own(store: dict[str, Tensor | None]) -> Iterator[tuple[str, int]]:
    return ((name, id(tensor)) for name, tensor in store.items() if tensor is not None)


def _state(tensor: Tensor) -> tuple:
    return tensor._version, tensor.data_ptr(), tensor.dtype


def _told(error: BaseException) -> dict[str, Any]:
    """Say what was raised: its kinds, its text, and where in the student's code."""
    found = traceback.TracebackException.from_exception(error, lookup_lines=True)
    own = [frame for frame in found.stack if CELLS in frame.filename]
    lines = [
        f"line {frame.lineno}, in {frame.name}\n    {frame.line or ''}".rstrip() for frame in own
    ]
    where = "In your code:\n" + "\n".join(lines) if lines else ""
    text = str(error)[:SAID]
    kinds = [kind.__name__ for kind in type(error).__mro__]
    return {"kinds": kinds, "text": text, "traceback": where[-8000:]}
