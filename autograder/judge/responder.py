"""The answer's side: runs what the judge asks for, with the student's own objects.

This process is the student's. Nothing that it says is believed over there, and no check is here.
"""

import contextlib
import copy
import io
import itertools
import signal
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from autograder.judge import traces
from autograder.judge.link import Link
from autograder.judge.values import PlainDataError, Reader, Writer, Written
from autograder.lab import training
from autograder.wire import ProtocolError

SAID = 1 << 20
MOST_COMPARED = 4096  # numbers of a buffer


class Responder:
    """Answers the judge's questions one by one."""

    def __init__(self, link: Link, namespace: dict[str, Any], shell: Any = None):
        self.link, self.namespace, self.shell = link, namespace, shell
        self.fresh = itertools.count(1)
        self.objects: dict[int, Any] = {}  # handle: module or object
        self.handles: dict[int, int] = {}  # id: handle
        self.tensors: dict[int, Tensor] = {}  # number: parameter or buffer
        self.numbers: dict[int, int] = {}  # id: number
        self.seen: dict[int, tuple] = {}  # number: what the judge knows of it
        self.calls: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        self.shown: dict[int, list] = {}  # handle: the structure that the judge knows
        self.gave: Callable[[Any], None] = lambda value: None  # sees what a call gave

    def respond(self) -> None:
        """Take one question and answer it."""
        reader = Reader(self._target)
        question = self.link.receive(reader)
        reply: dict[str, Any] = {"number": question["number"]}
        said = {"stdout": io.StringIO(), "stderr": io.StringIO()}
        writer = Writer(self._refer if question["objects"] else _refer_nothing)
        raised: BaseException | None = None
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with (
                contextlib.redirect_stdout(said["stdout"]),
                contextlib.redirect_stderr(said["stderr"]),
            ):
                self._prepare(question)
                reply |= getattr(self, f"_{question['op']}")(question, reader, writer)
                if "value" in reply:
                    reply["value"] = Written(writer.tree(reply["value"]))
        except BaseException as error:
            raised = error
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if isinstance(raised, PlainDataError):
            raised = TypeError(f"your code gave what no check can read: {raised}")
        if raised is not None:
            reply = {"number": question["number"], "error": traces.told(raised, self._cells())}
            if question["op"] == "backward":
                traces.begin_behind_torch(reply["error"])
            writer = Writer()
        reply["said"] = {name: stream.getvalue()[:SAID] for name, stream in said.items()}
        try:
            self.link.send(reply | self._news(everything="fit" in reply), writer)
        except ProtocolError as error:  # too large, and nothing was sent
            raised = ValueError(f"your code gave more than a check can read: {error}")
            kept = {name: reply[name] for name in ("number", "said")}
            self.link.send(kept | {"error": traces.told(raised, {})}, Writer())

    def _cells(self) -> dict[str, int]:
        """Give the numbers of the cells by the files in which tracebacks find them."""
        return self.shell.compile._filename_map if self.shell else {}

    # ---- questions

    def _prepare(self, question: dict[str, Any]) -> None:
        """Do here what the judge did to its mirrors, and go on from its random numbers."""
        for number in question["drop"]:
            self.calls.pop(number, None)
        if "gone" in question:
            self._forget(question["gone"])
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

    def _get(self, question: dict[str, Any], reader: Reader, writer: Writer) -> dict[str, Any]:
        value = self._target(question["target"])
        if callable(value) and not isinstance(value, Tensor):
            return {"callable": True}
        return {"value": value}

    def _make(self, question: dict[str, Any], reader: Reader, writer: Writer) -> dict[str, Any]:
        made = self._target(question["target"])(*question["args"], **question["kwargs"])
        return {"value": Given(made)}

    def _call(self, question: dict[str, Any], reader: Reader, writer: Writer) -> dict[str, Any]:
        given = reader.tensors[: question["count"]]  # those of the arguments stand first
        grad, (args, kwargs) = question["grad"], question["arguments"]
        for tensor, needs in zip(given, reader.needs_grad, strict=False):
            if needs and grad:
                tensor.requires_grad_(True)
        before = [tensor._version for tensor in given]
        function = self._target(question["target"])
        with torch.set_grad_enabled(grad):
            value = function(*args, **kwargs)
        self.gave(value)
        reply: dict[str, Any] = {"value": Written(writer.tree(value))}
        outputs = list(writer.tensors)
        reply["differentiable"] = [tensor.requires_grad for tensor in outputs]
        if grad and any(reply["differentiable"]):
            weights = [self.tensors[number] for number in question["weights"]]
            self.calls[question["number"]] = ([*given, *weights], outputs)
        changed = zip(given, before, strict=True)
        mutated = [
            [place, tensor.detach().clone()]
            for place, (tensor, version) in enumerate(changed)
            if tensor._version != version
        ]
        return reply | ({"mutated": mutated} if mutated else {})

    def _backward(self, question: dict[str, Any], reader: Reader, writer: Writer) -> dict[str, Any]:
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

    def _fit(self, question: dict[str, Any], reader: Reader, writer: Writer) -> dict[str, Any]:
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

    def _copy(self, question: dict[str, Any], reader: Reader, writer: Writer) -> dict[str, Any]:
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

    def _refer(self, value: Any) -> Any:
        """Give a number to a module, or to what a class made."""
        if isinstance(value, Given):
            value = value.value
        elif not isinstance(value, nn.Module):
            return None
        if id(value) not in self.handles:
            self.handles[id(value)] = next(self.fresh)
            self.objects[self.handles[id(value)]] = value
        kind = "module" if isinstance(value, nn.Module) else "object"
        return [kind, self.handles[id(value)]]

    # ---- mirrors

    def _news(self, everything: bool) -> dict[str, Any]:
        """Tell of modules that are new or have other parts, and of tensors that changed."""
        news: dict[str, Any] = {}
        structures, tensors = [], []
        for handle, module in self.objects.items():
            if isinstance(module, nn.Module):
                key = _key(module)
                if self.shown.get(handle) != key:
                    self.shown[handle] = key
                    structures.append([handle, self._structure(module)])
        for number, tensor in self.tensors.items():
            state = _state(tensor)
            if everything or self.seen.get(number) != state:
                self.seen[number] = state
                tensors.append([number, tensor.detach()])
        if structures:
            news["structures"] = structures
        if tensors:
            news["tensors"] = tensors
        return news

    def _forget(self, handles: list[int]) -> None:
        """Let go of what the judge does not use any more."""
        for handle in handles:
            gone = self.objects.pop(handle, None)
            self.handles.pop(id(gone), None)
            self.shown.pop(handle, None)
        modules = [found for found in self.objects.values() if isinstance(found, nn.Module)]
        used = {id(t) for module in modules for t in [*module.parameters(), *module.buffers()]}
        for number, tensor in list(self.tensors.items()):
            if id(tensor) not in used:
                del self.tensors[number], self.numbers[id(tensor)]
                self.seen.pop(number, None)

    def _number(self, tensor: Tensor) -> int:
        if id(tensor) not in self.numbers:
            self.numbers[id(tensor)] = number = next(self.fresh)
            self.tensors[number] = tensor
            self.seen[number] = _state(tensor)
        return self.numbers[id(tensor)]

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


def _refer_nothing(value: Any) -> None:
    return None


def _key(module: nn.Module) -> list:
    """Say which parts a module has, so that another structure has another key."""
    return [
        [name, *((n, id(t)) for n, t in part._parameters.items() if t is not None),
         *((n, id(t)) for n, t in part._buffers.items() if t is not None)]
        for name, part in module.named_modules()
    ]  # fmt: skip


def _state(tensor: Tensor) -> tuple:
    """Say what a tensor is, so that a changed one is another; F.batch_norm tells no version."""
    content = None
    if not isinstance(tensor, nn.Parameter) and tensor.numel() <= MOST_COMPARED:
        content = repr(tensor.tolist())
    return tensor._version, tensor.data_ptr(), tensor.dtype, content
