"""Assertions for graded cells: each names the claim, the first wrong place and what to look at.

No message shows an expected value, so a hidden check stays hidden when it fails.
A comparison holds only where it is true: NaN fails every one of them.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

# What two correct programs that sum in another order may differ by: (relative, absolute).
TOLERANCE = {
    torch.float64: (1e-9, 1e-9),
    torch.float32: (1e-4, 1e-5),
    torch.float16: (1e-2, 1e-2),
    torch.bfloat16: (3e-2, 3e-2),
}


def that(condition: bool | Tensor, claim: str, look_at: str = "") -> None:
    """Check that a condition holds: a bool, or a tensor of one.

    Raises: AssertionError with the claim and what to look at; TypeError for any other value,
    since Python takes NaN and every object for true.
    """
    __tracebackhide__ = True
    if type(condition) is Tensor and condition.dtype == torch.bool and condition.numel() == 1:
        condition = condition.item()
    if not isinstance(condition, bool | np.bool_):
        raise TypeError(f"{claim}: expected True or False, got {type(condition).__name__}")
    if not condition:
        _fail(claim, "it does not hold", look_at)


def shape(actual: Tensor, expected: tuple[int, ...], claim: str, look_at: str = "") -> None:
    """Check that a value is a tensor of exactly this shape.

    Raises: AssertionError with both shapes.
    """
    __tracebackhide__ = True
    _tensor(actual, claim, look_at)
    if tuple(actual.shape) != tuple(expected):
        _fail(claim, f"expected shape {tuple(expected)}, got {tuple(actual.shape)}", look_at)


def dtype(actual: Tensor, expected: torch.dtype, claim: str, look_at: str = "") -> None:
    """Check the dtype of a tensor.

    Raises: AssertionError with both dtypes.
    """
    __tracebackhide__ = True
    _tensor(actual, claim, look_at)
    if actual.dtype != expected:
        _fail(claim, f"expected {expected}, got {actual.dtype}", look_at)


def close(
    actual: Tensor,
    expected: Tensor,
    claim: str,
    look_at: str = "",
    *,
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """Check |actual - expected| <= atol + rtol |expected| everywhere, after shape and dtype.

    The tolerances come from TOLERANCE for the expected dtype unless they are given.
    Raises: AssertionError with the first wrong place and how many are wrong.
    """
    __tracebackhide__ = True
    shape(actual, tuple(expected.shape), claim, look_at)
    dtype(actual, expected.dtype, claim, look_at)
    default_rtol, default_atol = TOLERANCE.get(expected.dtype, (0.0, 0.0))
    rtol = default_rtol if rtol is None else rtol
    atol = default_atol if atol is None else atol
    wide = torch.complex128 if expected.is_complex() else torch.float64
    came, wanted = actual.detach().to(wide), expected.detach().to(wide)
    near = (came - wanted).abs() <= atol + rtol * wanted.abs()
    # An infinite value has an infinite tolerance, and large integers are not exact in float64.
    right = (actual == expected) | (near & torch.isfinite(wanted) & (atol + rtol > 0))
    _require(right, actual, claim, look_at)


def equal(actual: Tensor, expected: Tensor, claim: str, look_at: str = "") -> None:
    """Check that two tensors agree exactly: shape, dtype and every value.

    Raises: AssertionError with the first wrong place and how many are wrong.
    """
    __tracebackhide__ = True
    close(actual, expected, claim, look_at, rtol=0.0, atol=0.0)


def finite(actual: Tensor, claim: str, look_at: str = "") -> None:
    """Check that no value is NaN or infinite.

    Raises: AssertionError with the first such place.
    """
    __tracebackhide__ = True
    _tensor(actual, claim, look_at)
    _require(torch.isfinite(actual), actual, claim, look_at)


def at_least(value: float, bound: float, claim: str, look_at: str = "") -> None:
    """Check value >= bound; NaN is not.

    Raises: AssertionError with both.
    """
    __tracebackhide__ = True
    value = float(value)
    if not value >= bound:
        _fail(claim, f"expected at least {bound:g}, got {value:.4g}", look_at)


def at_most(value: float, bound: float, claim: str, look_at: str = "") -> None:
    """Check value <= bound; NaN is not.

    Raises: AssertionError with both.
    """
    __tracebackhide__ = True
    value = float(value)
    if not value <= bound:
        _fail(claim, f"expected at most {bound:g}, got {value:.4g}", look_at)


def raises(
    error: type[Exception], call: Callable[[], object], claim: str, look_at: str = ""
) -> None:
    """Check that a call raises an error of this type.

    Raises: AssertionError where it returns or raises another.
    """
    __tracebackhide__ = True
    try:
        call()
    except error:
        return
    except Exception as other:
        _fail(claim, f"expected {error.__name__}, got {type(other).__name__}: {other}", look_at)
    _fail(claim, f"expected {error.__name__}, and nothing was raised", look_at)


@contextmanager
def by_hand(*names: str) -> Iterator[None]:
    """Refuse, inside a `with` block, the library calls that would be the answer itself.

    Names are full: "torch.nn.functional.scaled_dot_product_attention".
    Raises: AssertionError where one of them is called.
    """
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch(name, new=refusal(name)))
        yield


def refusal(name: str) -> Callable[..., None]:
    """Give a function that says that a call of this name would be the answer itself."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"{name} is the answer itself: write this yourself.")

    return refuse


def _tensor(actual: object, claim: str, look_at: str) -> None:
    """Let a plain tensor through: a subclass may answer every comparison as it likes."""
    __tracebackhide__ = True
    if type(actual) not in (Tensor, nn.Parameter):
        _fail(claim, f"expected a tensor, got {type(actual).__name__}", look_at)


def _require(right: Tensor, actual: Tensor, claim: str, look_at: str) -> None:
    __tracebackhide__ = True
    if bool(right.all()):
        return
    wrong = (~right).nonzero()  # (N, ndim)
    place = tuple(wrong[0].tolist())
    value = actual.detach()[place].item() if place else actual.detach().item()
    where = (
        f"[{', '.join(map(str, place))}] is {value:.6g}" if place else f"the value is {value:.6g}"
    )
    _fail(claim, f"{where}; {len(wrong)} of {right.numel()} values are wrong", look_at)


def _fail(claim: str, what: str, look_at: str) -> None:
    __tracebackhide__ = True
    raise AssertionError(f"{claim}: {what}." + (f"\nLook at {look_at}." if look_at else ""))
