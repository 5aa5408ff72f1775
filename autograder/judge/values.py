"""Plain data as bytes: exact types, bounded in size and depth, checked on arrival.

A message is a JSON tree and the raw bytes of its tensors. Reading one builds numbers, text,
containers and tensors, and runs nothing of the other side's.
"""

import dataclasses
import json
import math
import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autograder.wire import ProtocolError

HEAD = struct.Struct(">II")  # the lengths of the tree and of all raw bytes
MOST_TREE, MOST_RAW = 16 << 20, 512 << 20  # bytes of one message
LARGE = 1 << 16  # bytes that are not copied once more
MOST_ITEMS = 1_000_000
MOST_AXES = 64
MOST_BITS = 10_000  # of an integer; Python reads no more than 4,300 digits
DEEPEST = 60  # containers in each other, in a value; around it are those of the message
AROUND = 5
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16,
        torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
    )
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
NUMPY = {"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"}
NUMPY |= {"complex64", "complex128"}
# Dataclasses of the course's own library may cross: configurations, histories.
LIBRARY = "autograder.lab."
ATOMS = frozenset({bool, int, float, str, type(None)})
SEQUENCES = {list: "list", tuple: "tuple", set: "set", torch.Size: "size"}
MAKERS = {name: kind for kind, name in SEQUENCES.items()} | {"slice": slice, "range": range}
ENCODE = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


class PlainDataError(TypeError):
    """A value is of a type that does not cross."""


class Written:
    """Part of a message that its writer has taken apart before."""

    def __init__(self, tree: Any):
        self.tree = tree


class Writer:
    """Takes one message apart. `refer` names what stays on this side, as JSON, or gives None."""

    def __init__(self, refer: Callable[[Any], Any] = lambda value: None):
        self.refer = refer
        self.tensors: list[Tensor] = []
        self.described: list[list] = []
        self.raw: list[bytes] = []
        self._known: dict[int, int] = {}

    def pack(self, value: Any) -> list[bytes]:
        """Write a message, in pieces.

        Raises: PlainDataError for a value of another type; ProtocolError where it is too large.
        """
        tree = [self.tree(value), self.described, [len(part) for part in self.raw]]
        text = ENCODE(tree).encode("utf-8", "replace")
        size = sum(map(len, self.raw))
        if len(text) > MOST_TREE or size > MOST_RAW:
            raise ProtocolError(f"expected at most {MOST_RAW} bytes of data, got {size}")
        head = HEAD.pack(len(text), size) + text
        return [head, *self.raw] if size > LARGE else [b"".join([head, *self.raw])]

    def tree(self, value: Any, depth: int = DEEPEST) -> Any:
        if depth == 0:
            raise PlainDataError(f"expected at most {DEEPEST} containers in each other")
        kind = type(value)
        if kind in ATOMS:
            if kind is int and value.bit_length() > MOST_BITS:
                raise PlainDataError(f"expected an integer of at most {MOST_BITS} bits")
            return value
        if kind is Written:
            return value.tree
        if kind is Tensor or kind is nn.Parameter:
            return ["tensor", self._tensor(value)]
        if kind in SEQUENCES:
            return [SEQUENCES[kind], [self.tree(item, depth - 1) for item in value]]
        if kind is dict:
            if all(type(key) is str for key in value):
                return {key: self.tree(item, depth - 1) for key, item in value.items()}
            pairs = value.items()
            return ["dict", [[self.tree(k, depth - 1), self.tree(v, depth - 1)] for k, v in pairs]]
        if (named := self.refer(value)) is not None:
            return ["ref", named]
        if kind in (slice, range):
            parts = [value.start, value.stop, value.step]
            return [kind.__name__, [self.tree(part, depth - 1) for part in parts]]
        if kind is complex:
            return ["complex", [value.real, value.imag]]
        if kind is bytes:
            return ["bytes", self._blob(value)]
        if kind is torch.dtype and value in NAMES:
            return ["dtype", NAMES[value]]
        if kind is torch.device:
            return ["device", str(value)]
        if value is Ellipsis:
            return ["ellipsis", None]
        if kind is np.ndarray and value.dtype.name in NUMPY:
            native = value.astype(value.dtype.newbyteorder("="), copy=False)
            return ["array", [value.dtype.name, list(value.shape), self._blob(native.tobytes())]]
        if isinstance(value, np.generic) and kind.__module__ == "numpy":
            return self.tree(value.item(), depth)
        if kind.__module__.startswith(LIBRARY) and dataclasses.is_dataclass(kind):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(kind)}
            return ["library", [kind.__module__, kind.__name__, self.tree(fields, depth - 1)]]
        raise PlainDataError(
            f"expected tensors, numbers, text, or lists, tuples and dicts of them, "
            f"got {kind.__module__}.{kind.__qualname__}"
        )

    def _tensor(self, tensor: Tensor) -> int:
        """Describe a tensor; the same one twice is one."""
        if id(tensor) in self._known:
            return self._known[id(tensor)]
        if tensor.layout != torch.strided or tensor.dtype not in NAMES or tensor.is_quantized:
            raise PlainDataError(f"expected a dense tensor, got {tensor.layout}, {tensor.dtype}")
        plain = tensor.detach()
        if not tensor.is_cpu or tensor.is_conj() or tensor.is_neg():
            plain = plain.cpu().resolve_conj().resolve_neg()
        if tensor.dtype is torch.bfloat16:  # which numpy has not
            plain = plain.contiguous().view(torch.int16)
        raw = plain.numpy().tobytes()
        needs = tensor.requires_grad
        self.described.append([NAMES[tensor.dtype], list(tensor.shape), self._blob(raw), needs])
        self.tensors.append(tensor)
        self._known[id(tensor)] = len(self.tensors) - 1
        return len(self.tensors) - 1

    def _blob(self, raw: bytes) -> int:
        self.raw.append(raw)
        return len(self.raw) - 1


class Reader:
    """Puts one message together. `resolve` turns what `refer` named into an object."""

    def __init__(self, resolve: Callable[[Any], Any] | None = None):
        self.resolve = resolve
        self.tensors: list[Tensor] = []
        self.needs_grad: list[bool] = []
        self._left = MOST_ITEMS

    def unpack(self, text: bytes, raw: bytes | memoryview) -> Any:
        """Read a message whose two parts have come.

        Raises: ProtocolError where it is none.
        """
        try:
            tree = json.loads(text.decode("utf-8"))
            value, described, sizes = tree
            self._cut(raw, sizes)
            for entry in described:
                self._describe(*entry)
            return self._value(value, DEEPEST + AROUND)
        except ProtocolError:
            raise
        except Exception as error:  # whatever a forged message makes json, numpy or torch trip over
            text = str(error)[:200]
            raise ProtocolError(f"expected plain data, got what is none: {text}") from None

    def _cut(self, raw: bytes | memoryview, sizes: list) -> None:
        if not all(type(size) is int and size >= 0 for size in sizes) or sum(sizes) != len(raw):
            raise ProtocolError(f"expected {len(raw)} bytes to be told apart")
        self._raw: list[bytes | memoryview | None] = []
        start = 0
        for size in sizes:
            self._raw.append(raw[start : start + size])
            start += size

    def _blob(self, number: Any) -> bytes | memoryview:
        """Give a block of bytes, each once: many copies of one would need memory without bound."""
        if type(number) is not int or not 0 <= number < len(self._raw):
            raise ProtocolError("expected the number of a block of bytes")
        block, self._raw[number] = self._raw[number], None
        if block is None:
            raise ProtocolError("expected each block of bytes once")
        return block

    def _describe(self, name: Any, shape: Any, number: Any, needs: Any) -> None:
        dtype, shape = DTYPES[name], _shape(shape)
        raw = self._blob(number)
        if len(raw) != math.prod(shape) * dtype.itemsize or type(needs) is not bool:
            raise ProtocolError(f"expected {name} of shape {shape}, got {len(raw)} bytes")
        if not raw:
            tensor = torch.empty(shape, dtype=dtype)
        elif dtype is torch.bool:  # another byte than 0 and 1 would be a third truth value
            tensor = torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape(shape) != 0
        else:
            tensor = torch.frombuffer(bytearray(raw), dtype=dtype).reshape(shape)
        self.tensors.append(tensor)
        self.needs_grad.append(needs)

    def _value(self, tree: Any, depth: int) -> Any:
        self._left -= 1
        if depth == 0 or self._left < 0:
            raise ProtocolError(f"expected at most {DEEPEST} deep and {MOST_ITEMS} items")
        if type(tree) in ATOMS:
            return tree
        if type(tree) is dict:
            return {key: self._value(item, depth - 1) for key, item in tree.items()}
        kind, content = tree
        if kind == "tensor":
            if type(content) is not int or not 0 <= content < len(self.tensors):
                raise ProtocolError("expected the number of a tensor")
            return self.tensors[content]
        if kind in MAKERS:
            items = [self._value(item, depth - 1) for item in _items(content)]
            return MAKERS[kind](*items) if kind in ("slice", "range") else MAKERS[kind](items)
        if kind == "dict":
            pairs = [_items(pair) for pair in _items(content)]
            return {self._value(k, depth - 1): self._value(v, depth - 1) for k, v in pairs}
        if kind == "complex":
            real, imaginary = content
            return complex(float(real), float(imaginary))
        if kind == "bytes":
            return bytes(self._blob(content))
        if kind == "dtype":
            return DTYPES[content]
        if kind == "device":
            return torch.device(_string(content))
        if kind == "ellipsis":
            return ...
        if kind == "array":
            name, shape, number = content
            if name not in NUMPY:
                raise ProtocolError(f"expected an array of numbers, got {name!r}")
            array = np.frombuffer(self._blob(number), dtype="uint8" if name == "bool" else name)
            array = array.reshape(_shape(shape))
            return array.astype(name)
        if kind == "library":
            return self._library(*content, depth)
        if kind == "ref" and self.resolve is not None:
            return self.resolve(content)
        raise ProtocolError(f"expected a kind of plain data, got {str(kind)[:80]!r}")

    def _library(self, module: Any, name: Any, fields: Any, depth: int) -> Any:
        """Make a dataclass of the course's own library, field by field."""
        module, name = _string(module), _string(name)
        found = getattr(sys.modules.get(module), name, None) if module.startswith(LIBRARY) else None
        if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
            raise ProtocolError(f"expected a dataclass of {LIBRARY}, got {name[:80]!r}")
        return found(**self._value(fields, depth - 1))


def _string(value: Any) -> str:
    if type(value) is not str:
        raise ProtocolError(f"expected text, got {type(value).__name__}")
    return value


def _shape(shape: Any) -> tuple[int, ...]:
    if (
        type(shape) is not list
        or len(shape) > MOST_AXES
        or not all(type(n) is int and 0 <= n < 2**40 for n in shape)
    ):
        raise ProtocolError(f"expected a shape, got {str(shape)[:80]}")
    return tuple(shape)


def _items(content: Any) -> list:
    if type(content) is not list:
        raise ProtocolError(f"expected a list, got {type(content).__name__}")
    return content
