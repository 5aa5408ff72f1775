"""Train a model in a loop that reads in a minute, and say how sure a difference is."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.special import stdtrit
from torch import Tensor, nn

from autograder.lab.batches import Batches, pad
from autograder.lab.errors import TrainingError
from autograder.lab.progress import Progress
from autograder.lab.weights import Origin, load_weights, save_weights

__all__ = [
    "Batches", "History", "Interval", "Origin", "Progress", "fit", "load_weights", "pad",
    "paired_interval", "save_weights",
]  # fmt: skip


@dataclass(frozen=True)
class History:
    """What happened in a training run."""

    losses: list[float]
    """The loss of each step, before its update."""
    checks: list[tuple[int, float]]
    """The step and the value of each validation."""
    best_step: int
    """The step whose weights the model has now."""

    def __repr__(self) -> str:
        steps, first, last = len(self.losses), self.losses[0], self.losses[-1]
        return f"{steps} steps, loss {first:.3g} → {last:.3g}, weights of step {self.best_step}"


def fit(
    model: nn.Module,
    loss_of_batch: Callable[[nn.Module, Any], Tensor],
    batches: Iterable[Any],
    steps: int,
    *,
    lr: float = 1e-3,
    seed: int = 0,
    warmup: int = 0,
    cosine: bool = False,
    weight_decay: float = 0.0,
    clip: float = 1.0,
    validate: Callable[[nn.Module], float] | None = None,
    validate_every: int = 100,
    patience: int | None = None,
    title: str = "training",
) -> History:
    """Train with AdamW for at most `steps` steps; the same seed gives the same weights.

    `loss_of_batch(model, batch)` gives the loss, and `batches` are gone through again and again.
    The learning rate rises over `warmup` steps and, with `cosine`, falls to 0 at the end; gradients
    are scaled down to a norm of `clip`. `validate(model)` gives a number that is to fall: it is
    called every `validate_every` steps and after the last, in evaluation mode without gradients.
    The weights with the lowest number are the ones that stay, and after `patience` calls without a
    lower one training stops. The model is left in evaluation mode, the global generator as it was.

    Units: all budgets are in steps.
    Raises: TrainingError where nothing can be trained, batches run out, or the loss or a gradient
    is no number, with the step; ValueError for patience without validate.
    """
    if patience is not None and validate is None:
        raise ValueError("patience counts validations: expected validate with it, got None")
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise TrainingError(
            "expected a model with parameters to train, got none. "
            "Create layers and parameters in __init__, as attributes."
        )
    optimiser = torch.optim.AdamW(parameters.values(), lr=lr, weight_decay=weight_decay)
    losses, checks, best, stream = [], [], _Best(), _endless(batches)
    bar = Progress(steps, title)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.train()
        for step in bar:
            optimiser.param_groups[0]["lr"] = lr * _scale(step, steps, warmup, cosine)
            optimiser.zero_grad()
            loss = _checked(loss_of_batch(model, next(stream)), step)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(parameters.values(), clip)
            if not torch.isfinite(norm):
                raise _not_finite(step, parameters)
            optimiser.step()
            losses.append(loss.item())
            bar.note = f"loss {losses[-1]:.4f}"
            if validate and (step % validate_every == 0 or step == steps):
                checks.append((step, _value(validate, model, step)))
                best.note(*checks[-1], model)
                if patience is not None and best.stale >= patience:
                    bar.close()
                    break
    if validate:
        model.load_state_dict(best.state)
    model.eval()
    return History(losses, checks, best.step if validate else len(losses))


class _Best:
    """The weights of the lowest validation so far, and how many since were no lower."""

    def __init__(self):
        self.value, self.step, self.stale = math.inf, 0, 0
        self.state: dict[str, Tensor] = {}

    def note(self, step: int, value: float, model: nn.Module) -> None:
        self.stale += 1
        if value < self.value or not self.state:
            self.value, self.step, self.stale = value, step, 0
            self.state = {name: t.detach().clone() for name, t in model.state_dict().items()}


def _scale(step: int, steps: int, warmup: int, cosine: bool) -> float:
    rise = min(1.0, step / warmup) if warmup else 1.0
    return rise * (0.5 + 0.5 * math.cos(math.pi * (step - 1) / steps) if cosine else 1.0)


def _endless(batches: Iterable[Any]) -> Iterator[Any]:
    count, before = 0, -1
    while count > before:
        before = count
        for batch in batches:
            count += 1
            yield batch
    raise TrainingError(
        f"the batches ran out after {count}. Pass something that can be gone through again: "
        "Batches or a list, not a generator."
    )


def _checked(loss: Any, step: int) -> Tensor:
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        came = type(loss).__name__
        if isinstance(loss, Tensor):
            came = f"shape {tuple(loss.shape)}, requires_grad={loss.requires_grad}"
        raise TrainingError(f"step {step}: expected one number with a gradient, got {came}.")
    if not torch.isfinite(loss):
        raise TrainingError(
            f"step {step}: the loss is {loss.item()}. Look for a softmax over a fully masked row, "
            "the log or the root of 0, or a learning rate that is too high."
        )
    return loss.reshape(())


def _not_finite(step: int, parameters: dict[str, Tensor]) -> TrainingError:
    names = [n for n, p in parameters.items() if p.grad is not None and not p.grad.isfinite().all()]
    return TrainingError(
        f"step {step}: the loss is finite and the gradient of {', '.join(names[:3])} is not. "
        "Look for a softmax over a fully masked row, or the root of 0."
    )


def _value(validate: Callable[[nn.Module], float], model: nn.Module, step: int) -> float:
    model.eval()
    with torch.no_grad():
        value = float(validate(model))
    model.train()
    if math.isnan(value):
        raise TrainingError(f"step {step}: expected a number from validate, got nan.")
    return value


@dataclass(frozen=True)
class Interval:
    """A mean difference and the interval that holds the true one with the confidence `level`."""

    mean: float
    low: float
    high: float
    level: float
    pairs: int

    def __str__(self) -> str:
        ends = f"{self.low:+.3f} to {self.high:+.3f}"
        return f"{self.mean:+.3f} ({self.level:.0%}: {ends}, n = {self.pairs})"


def paired_interval(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """Estimate how much a is above b, where a[i] and b[i] share a seed or an example.

    Student's interval of the mean of a - b. It takes the differences for independent and their mean
    for normal: right for a few seeds whose results scatter like a bell, and for hundreds of
    examples whatever they are (0 or 1, too). What all pairs share, such as one test set for
    all seeds, it does not see.
    Raises: ValueError where the lengths differ, there are fewer than two pairs or a value is not
    finite.
    """
    x, y = (torch.as_tensor(values, dtype=torch.float64).flatten() for values in (a, b))
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"expected two or more pairs, got {len(x)} and {len(y)} values")
    differences = x - y
    if not torch.isfinite(differences).all():
        raise ValueError("expected finite values, got NaN or infinity")
    n, mean = len(differences), differences.mean().item()
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * differences.std().item() / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, level, n)
