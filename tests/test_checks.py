"""Each check is shown to pass and to fail, and no message gives an expected value away."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from autograder.lab import checks

RIGHT = torch.tensor([[1.5, 2.5, 3.5], [4.5, 5.5, 6.5]])
NAN, INF = math.nan, math.inf


def changed(place, value):
    wrong = RIGHT.clone()
    wrong[place] = value
    return wrong


def message(check, *arguments, **options):
    """Give the text of the failure; a check that passes here fails the test."""
    with pytest.raises(AssertionError) as caught:
        check(*arguments, **options)
    return str(caught.value)


def unfinished():
    raise NotImplementedError


class Agreeable(torch.Tensor):
    """A tensor that answers every comparison with yes."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return torch.tensor(True)


@pytest.mark.parametrize("true", [True, np.True_, torch.tensor(True), torch.tensor([True])])
def test_that_passes(true):
    checks.that(true, "it holds")


@pytest.mark.parametrize("false", [False, np.False_, torch.tensor(False)])
def test_that_fails(false):
    assert message(checks.that, false, "rows sum to 1", "the softmax") == (
        "rows sum to 1: it does not hold.\nLook at the softmax."
    )


@pytest.mark.parametrize(
    "neither", [NAN, 1, "yes", [False], None, torch.tensor(1.0), torch.tensor([True, True])]
)
def test_that_takes_no_other_value(neither):
    """bool(NaN) and bool([False]) are true."""
    with pytest.raises(TypeError, match="claim: expected True or False, got"):
        checks.that(neither, "claim")


def test_shape():
    checks.shape(RIGHT, (2, 3), "claim")
    checks.shape(RIGHT, RIGHT.shape, "claim")
    assert message(checks.shape, RIGHT, (3, 2), "claim") == (
        "claim: expected shape (3, 2), got (2, 3)."
    )
    assert message(checks.shape, [[1.5]], (1, 1), "claim") == "claim: expected a tensor, got list."


def test_dtype():
    checks.dtype(RIGHT, torch.float32, "claim")
    assert message(checks.dtype, RIGHT, torch.bfloat16, "claim") == (
        "claim: expected torch.bfloat16, got torch.float32."
    )
    assert "expected a tensor, got ndarray" in message(
        checks.dtype, RIGHT.numpy(), torch.float32, "claim"
    )


@pytest.mark.parametrize("dtype", [*checks.TOLERANCE, torch.complex64, torch.int64, torch.bool])
def test_close_and_equal_pass(dtype):
    value = RIGHT.to(dtype)
    for check in (checks.close, checks.equal):
        check(value.clone(), value, "claim")
        check(value[0, 0].clone(), value[0, 0], "claim")
        check(value[:0].clone(), value[:0], "claim")


def test_close_takes_what_trains():
    checks.close(nn.Parameter(RIGHT.clone()), RIGHT, "claim")
    checks.close((RIGHT.clone().requires_grad_() * 2), 2 * RIGHT, "claim")


@pytest.mark.parametrize("dtype", checks.TOLERANCE)
def test_close_has_a_tolerance_for_each_dtype(dtype):
    """Half of it passes, twice of it does not, at a value near 0 and at a large one."""
    rtol, atol = checks.TOLERANCE[dtype]
    for value, allowed in ((0.0, atol), (64.0, atol + 64 * rtol)):
        expected = torch.tensor([value], dtype=dtype)
        checks.close(torch.tensor([value + allowed / 2], dtype=dtype), expected, "claim")
        message(checks.close, torch.tensor([value + allowed * 2], dtype=dtype), expected, "claim")


def test_close_takes_other_tolerances():
    checks.close(RIGHT + 0.1, RIGHT, "claim", atol=0.2)
    checks.close(RIGHT * 1.1, RIGHT, "claim", rtol=0.2)
    message(checks.close, RIGHT * (1 + 2e-5), RIGHT, "claim", rtol=0.0, atol=0.0)


def test_first_wrong_place_is_named_and_the_wrong_ones_counted():
    wrong = changed((1, 0), 7.25)
    wrong[1, 2] = 7.75
    assert message(checks.close, wrong, RIGHT, "claim", "the scale") == (
        "claim: [1, 0] is 7.25; 2 of 6 values are wrong.\nLook at the scale."
    )
    assert message(checks.close, torch.tensor(7.25), torch.tensor(1.5), "claim") == (
        "claim: the value is 7.25; 1 of 1 values are wrong."
    )


@pytest.mark.parametrize("check", [checks.close, checks.equal])
def test_no_message_gives_the_expected_value_away(check):
    text = message(check, RIGHT + 100, RIGHT, "claim", "the scale")
    assert not any(f"{value:g}" in text.split() for value in RIGHT.flatten().tolist())
    assert "100" not in text.replace("101.5", "")
    assert "1.5" not in text.replace("101.5", "")


@pytest.mark.parametrize("check", [checks.close, checks.equal])
def test_nan_is_wrong_wherever_it_stands(check):
    assert "[0, 1] is nan; 1 of 6" in message(check, changed((0, 1), NAN), RIGHT, "claim")
    message(check, RIGHT, changed((0, 1), NAN), "claim")
    message(check, changed((0, 1), NAN), changed((0, 1), NAN), "claim")


@pytest.mark.parametrize("check", [checks.close, checks.equal])
def test_infinity_equals_itself_alone(check):
    """An infinite expected value must not make the tolerance infinite."""
    infinite = changed((0, 1), INF)
    check(infinite.clone(), infinite, "claim")
    for other in (RIGHT, changed((0, 1), -INF)):
        assert "[0, 1] is" in message(check, other, infinite, "claim")
        assert "[0, 1] is" in message(check, infinite, other, "claim")


@pytest.mark.parametrize("check", [checks.close, checks.equal])
def test_shapes_that_broadcast_are_wrong(check):
    row = torch.ones(1, 3)
    assert "expected shape (2, 3), got (1, 3)" in message(check, row, row.expand(2, 3), "claim")
    assert "expected shape (1, 3), got (2, 3)" in message(check, row.expand(2, 3), row, "claim")
    assert "expected shape (1,), got ()" in message(
        check, torch.tensor(1.0), torch.ones(1), "claim"
    )


@pytest.mark.parametrize("check", [checks.close, checks.equal])
def test_another_dtype_is_wrong(check):
    assert "expected torch.float32, got torch.float64" in message(
        check, RIGHT.double(), RIGHT, "claim"
    )


def test_equal_sees_the_last_bit():
    last_bit = torch.nextafter(RIGHT[0, 0], torch.tensor(INF))
    assert "1 of 6" in message(checks.equal, changed((0, 0), last_bit), RIGHT, "claim")
    large = torch.tensor([2**60])
    assert "1 of 1" in message(checks.equal, large + 1, large, "claim")


@pytest.mark.parametrize("other", [[1.5], 1.5, None, "1.5", np.ones(3)])
def test_what_is_no_tensor_is_named(other):
    for check in (checks.close, checks.equal):
        text = message(check, other, RIGHT, "claim")
        assert text == f"claim: expected a tensor, got {type(other).__name__}."
    assert "expected a tensor" in message(checks.finite, other, "claim")


def test_a_tensor_of_its_own_making_is_refused():
    agreeable = RIGHT.as_subclass(Agreeable)
    for check in (checks.close, checks.equal):
        assert "expected a tensor, got Agreeable" in message(check, agreeable, RIGHT, "claim")
    assert "got Agreeable" in message(checks.finite, agreeable, "claim")
    assert "got Agreeable" in message(checks.shape, agreeable, (2, 3), "claim")
    assert "got Agreeable" in message(checks.dtype, agreeable, torch.float32, "claim")


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_finite(value):
    checks.finite(RIGHT, "claim")
    wrong = changed((1, 1), value)
    assert message(checks.finite, wrong, "claim", "empty rows") == (
        f"claim: [1, 1] is {value:g}; 1 of 6 values are wrong.\nLook at empty rows."
    )


def test_bounds():
    checks.at_least(0.9, 0.9, "claim")
    checks.at_most(torch.tensor(0.9), torch.tensor(0.9).item(), "claim")
    assert message(checks.at_least, 0.85, 0.9, "accuracy") == (
        "accuracy: expected at least 0.9, got 0.85."
    )
    assert message(checks.at_most, 0.95, 0.9, "loss", "the rate") == (
        "loss: expected at most 0.9, got 0.95.\nLook at the rate."
    )


def test_nan_is_within_no_bound():
    for value in (NAN, torch.tensor(NAN)):
        assert "got nan" in message(checks.at_least, value, -INF, "claim")
        assert "got nan" in message(checks.at_most, value, INF, "claim")


def test_an_object_is_not_asked_whether_it_is_large_enough():
    class Large:
        def __ge__(self, other):
            return True

    with pytest.raises(TypeError):
        checks.at_least(Large(), 0.9, "claim")


def test_raises():
    checks.raises(ValueError, lambda: int("x"), "claim")
    checks.raises(LookupError, lambda: {}["x"], "a subclass will do")
    assert message(checks.raises, ValueError, lambda: 1, "odd sizes", "the remainder") == (
        "odd sizes: expected ValueError, and nothing was raised.\nLook at the remainder."
    )
    assert "expected ValueError, got ZeroDivisionError: division by zero" in message(
        checks.raises, ValueError, lambda: 1 / 0, "claim"
    )
    assert "got NotImplementedError" in message(checks.raises, ValueError, unfinished, "claim")


def test_by_hand_refuses_the_named_calls_and_gives_them_back():
    q = torch.ones(1, 2, 3)
    names = "torch.nn.functional.scaled_dot_product_attention", "torch.nn.MultiheadAttention"
    with checks.by_hand(*names):
        text = message(F.scaled_dot_product_attention, q, q, q)
        assert text == f"{names[0]} is the answer itself: write this yourself."
        assert message(nn.MultiheadAttention, 4, 2).startswith(names[1])
        F.softmax(q, dim=-1)
    checks.close(F.scaled_dot_product_attention(q, q, q), q, "claim")
    assert nn.MultiheadAttention(4, 2).num_heads == 2


def test_by_hand_gives_back_after_an_error():
    before = F.scaled_dot_product_attention
    with (
        pytest.raises(ZeroDivisionError),
        checks.by_hand("torch.nn.functional.scaled_dot_product_attention"),
    ):
        1 / 0  # noqa: B018
    assert F.scaled_dot_product_attention is before


def test_by_hand_names_must_exist():
    """A misspelt name would refuse nothing."""
    with pytest.raises(AttributeError), checks.by_hand("torch.nn.functional.scaled_dot_product"):
        pass
