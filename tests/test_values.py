"""Plain data across the line: what goes in comes out, and bytes that are none are refused."""

import math
import random
import resource
import socket

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from autograder.judge.link import Link
from autograder.judge.values import (
    DEEPEST,
    DTYPES,
    HEAD,
    MOST_BITS,
    MOST_RAW,
    PlainDataError,
    Reader,
    Writer,
)
from autograder.lab.training import History
from autograder.wire import ClosedError, ProtocolError

FORGERIES = 25_000
LARGEST = 512 << 20  # bytes that all of them together may add to this process
KINDS = {
    type(None), bool, int, float, complex, str, bytes, list, tuple, set, dict, slice, range,
    type(...), torch.Tensor, torch.Size, torch.dtype, torch.device, np.ndarray, History,
}  # fmt: skip


def packed(value):
    return b"".join(Writer().pack(value))


def unpacked(message):
    length, size = HEAD.unpack_from(message)
    text, raw = message[HEAD.size : HEAD.size + length], message[HEAD.size + length :]
    assert len(raw) == size
    return Reader().unpack(text, raw)


def equal(one, other):
    """Compare type by type; NaN is NaN, and -0.0 is not 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape
        return same and one.tolist().__repr__() == other.tolist().__repr__()
    if isinstance(one, np.ndarray):
        same = one.dtype == other.dtype and one.shape == other.shape
        return same and one.tobytes() == other.tobytes()
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return all(map(equal, [*one.keys(), *one.values()], [*other.keys(), *other.values()]))
    return repr(one) == repr(other) if isinstance(one, float | complex) else one == other


atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(),
    st.complex_numbers(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(max_size=20),
    st.sampled_from([..., torch.float16, torch.bool, torch.device("cpu"), torch.Size([2, 3])]),
    st.builds(slice, st.none() | st.integers(-5, 5), st.integers(-5, 5)),
    st.builds(range, st.integers(-5, 5), st.integers(-5, 5)),
)
shapes = st.lists(st.integers(0, 3), max_size=4)


@st.composite
def tensors(draw):
    """Draw tensors of every dtype and shape, views among them."""
    dtype, shape = draw(st.sampled_from(list(DTYPES.values()))), draw(shapes)
    numbers = [draw(st.integers(0, 200)) for _ in range(math.prod(shape))]
    made = torch.tensor(numbers, dtype=torch.int64).reshape(shape)
    made = made.to(dtype) / 0 if dtype.is_floating_point and draw(st.booleans()) else made.to(dtype)
    return made.transpose(0, -1) if made.dim() and draw(st.booleans()) else made


@st.composite
def arrays(draw):
    kind = draw(st.sampled_from(["bool", "uint8", "int16", "int64", "float16", "float64"]))
    return np.full(draw(shapes), draw(st.integers(0, 200))).astype(kind)


leaves = st.one_of(atoms, tensors(), arrays())
plain = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=3) | st.integers() | st.booleans(), inner, max_size=4),
        st.sets(st.integers() | st.text(max_size=3), max_size=4),
    ),
    max_leaves=12,
)


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(plain)
def test_plain_data_come_out_as_they_went_in(value):
    assert equal(unpacked(packed(value)), value)


@settings(max_examples=100, derandomize=True, database=None, deadline=None)
@given(tensors())
def test_one_tensor_in_two_places_stays_one(tensor):
    one, (other,) = unpacked(packed([tensor, (tensor,)]))
    assert one is other
    assert equal(one, tensor)


def test_numbers_of_numpy_and_parameters_become_plain():
    found = unpacked(
        packed([np.float32(0.5), np.int64(3), np.bool_(True), nn.Parameter(torch.ones(2))])
    )
    assert equal(found, [0.5, 3, True, torch.ones(2)])
    assert equal(unpacked(packed(np.array([1, 2], dtype=">i4"))), np.array([1, 2], dtype="int32"))


def test_dataclass_of_the_library_crosses():
    history = History([0.5], [(1, 0.25)], 1)
    assert unpacked(packed({"history": history})) == {"history": history}


class Sub(torch.Tensor):
    pass


class Number(int):
    pass


class Agreeing:
    __class__ = property(lambda self: int)

    def __eq__(self, other):
        return True

    __hash__ = None


class Named(str):
    pass


@pytest.mark.parametrize(
    "value",
    [
        object(), Agreeing(), Number(1), Named("x"), {Named("x"): 1},
        torch.ones(2).as_subclass(Sub), torch.eye(2).to_sparse(), nn.Linear(1, 1),
        print, int, [1, (2, {"a": object()})], 1 << (MOST_BITS + 1),
        np.array(["text"]), np.array([object()]), frozenset(), b"x".join,
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_other_types_are_refused(value):
    with pytest.raises(PlainDataError, match="expected"):
        packed(value)


def test_depth_is_bounded():
    value = 1
    for _ in range(DEEPEST - 1):
        value = [value]
    assert equal(unpacked(packed(value)), value)
    with pytest.raises(PlainDataError, match="containers"):
        packed([value])


def allowed(value):
    """Say whether a value is built of exactly the types that may cross."""
    if type(value) in (list, tuple, set):
        return all(map(allowed, value))
    if type(value) is dict:
        return all(map(allowed, [*value.keys(), *value.values()]))
    return type(value) in KINDS


def size(value):
    if type(value) in (torch.Tensor, np.ndarray):
        return value.nbytes
    if type(value) in (list, tuple, set):
        return sum(map(size, value))
    return sum(map(size, value.values())) if type(value) is dict else 0


def seeds():
    """Give whole messages of every kind, from which forgeries are made."""
    dense = [torch.arange(6).to(dtype).reshape(2, 3) for dtype in DTYPES.values()]
    return [
        packed(value)
        for value in (
            None, [1, -2.5, "ü", None, True], {"a": {"b": (1, {2, 3})}, "c": slice(1, 2)}, dense,
            {"number": 1, "said": {"out": "x"}, "value": torch.ones(2), "tensors": [[1, dense[8]]]},
            [range(3), 1j, b"bytes", ..., torch.Size([2]), torch.float16, torch.device("cpu")],
            [np.arange(3), np.ones((2, 2), bool), History([0.5], [(1, 0.25)], 1)],
            {1: {2: {3: []}}},
        )
    ]  # fmt: skip


TOKENS = [b"[", b"]", b"{", b"}", b",", b'"list"', b'"tensor"', b'"array"', b'"library"', b"-1",
          b"1e999", b"NaN", b"99999999999", b'"ref"', b'"slice"', b'"range"', b"null", b'"\\ud800"',
          b'"autograder.lab.training"', b'"float64"', b'"device"', b'"set"', b"true"]  # fmt: skip


def forged(chance, messages):
    """Change a message: bits, bytes, tokens, numbers, pieces of another, lengths, its end."""
    text = bytearray(chance.choice(messages))
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(text)) if text else 0
        way = chance.randrange(8)
        if way == 0 and text:
            text[place] ^= 1 << chance.randrange(8)
        elif way == 1 and text:
            text[place] = chance.randrange(256)
        elif way == 2:
            text[place:place] = chance.choice(TOKENS)
        elif way == 3:
            text[place : place + chance.randint(1, 6)] = chance.choice(TOKENS)
        elif way == 4:
            del text[place : place + chance.randint(1, 9)]
        elif way == 5:
            other = chance.choice(messages)
            start = chance.randrange(len(other))
            text[place:place] = other[start : start + chance.randint(1, 40)]
        elif way == 6:
            text = text[:place] if chance.random() < 0.3 else text + text[place:]
        else:
            text[:0] = chance.randbytes(chance.randint(1, 12))
    if chance.random() < 0.8 and len(text) > HEAD.size:  # else the lengths lie, too
        body = bytes(text[HEAD.size :])
        length = chance.randint(0, len(body)) if chance.random() < 0.2 else _tree(body)
        return HEAD.pack(length, len(body) - length) + body
    return bytes(text)


def _tree(body):
    """Guess where the tree ends: at the last bracket."""
    return body.rfind(b"]") + 1


def test_forged_messages_are_refused_or_plain():
    """Of 25,000 forgeries each gives plain data of exact types or an error of the protocol."""
    chance, messages = random.Random(0), seeds()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ended = {"plain": 0, "refused": 0, "unfinished": 0}
    for _ in range(FORGERIES):
        message = forged(chance, messages)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(message)
            theirs.shutdown(socket.SHUT_WR)
            try:
                value = Link(ours, 1 << 12).receive(Reader())
            except ProtocolError:
                ended["refused"] += 1
            except ClosedError:
                ended["unfinished"] += 1
            else:
                ended["plain"] += 1
                assert allowed(value), message
                assert size(value) <= len(message), message
    assert sum(ended.values()) == FORGERIES
    assert all(count > FORGERIES // 100 for count in ended.values()), ended
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # kilobytes
    assert grown * 1024 < LARGEST


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (HEAD.pack(0xFFFFFFFF, 0), "at most"),
        (HEAD.pack(2, MOST_RAW + 1), "at most"),
        (HEAD.pack(2, 0) + b"[]", "plain data"),
        (HEAD.pack(9, 0) + b"[1,[],[]]", None),
    ],
)
def test_length_is_believed_only_within_bounds(head, said):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(head)
        if said is None:
            assert Link(ours).receive(Reader()) == 1
        else:
            with pytest.raises(ProtocolError, match=said):
                Link(ours).receive(Reader())


def test_messages_stay_apart():
    """Two messages in one piece, then one in many."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        link = Link(ours)
        theirs.sendall(packed([1, torch.ones(2)]) + packed("two"))
        assert equal(link.receive(Reader()), [1, torch.ones(2)])
        assert link.receive(Reader()) == "two"
        theirs.close()
        with pytest.raises(ClosedError):
            link.receive(Reader())
