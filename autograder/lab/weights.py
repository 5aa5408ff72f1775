"""Weights that a notebook ships: small files that say where their numbers come from."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from autograder.lab.errors import DataError, WeightsError

MOST_BYTES = 1_000_000
# All that is said about a file stands under one key: with several, their order would change from
# run to run, and the file with it.
KEY = "autograder"
SHOWN = 6


@dataclass(frozen=True)
class Origin:
    """How weights were made and what they reach."""

    recipe: str
    """The command that makes them again."""
    seed: int
    metric: dict[str, float]
    """What was measured with these weights, by name."""


def save_weights(
    model: nn.Module,
    path: str | os.PathLike,
    *,
    recipe: str,
    seed: int,
    metric: dict[str, float],
    half: bool = False,
) -> None:
    """Write a model's parameters and buffers, and their origin, as a safetensors file.

    `half` stores float16: half the size, three digits. Measure the metric with weights that were
    loaded from the file. The same model and origin give the same bytes.
    Raises: WeightsError where a number is not finite (in float16, too large), or where the file
    would pass 1 MB.
    """
    tensors = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float16) if half else tensor
            if not torch.isfinite(tensor).all():
                raise WeightsError(
                    f"{name}: expected finite numbers as {tensor.dtype}, got NaN or infinity. "
                    "Train with a lower learning rate, or save with half=False."
                )
        tensors[name] = tensor.clone(memory_format=torch.contiguous_format)
    content = save(tensors, {KEY: json.dumps(asdict(Origin(recipe, seed, metric)), sort_keys=True)})
    if len(content) > MOST_BYTES:
        raise WeightsError(
            f"{path}: expected at most {MOST_BYTES:,} bytes, got {len(content):,}. "
            "Save with half=True, or make the model smaller."
        )
    Path(path).write_bytes(content)


def load_weights(model: nn.Module, path: str | os.PathLike) -> Origin:
    """Load shipped weights into a model by name, in the model's own dtypes; give their origin.

    Every parameter has to be in the file, and everything in the file in the model. A buffer of the
    model that is not in the file (a mask, say) stays as it is.
    Raises: DataError where the file is missing, damaged or of another kind; WeightsError naming
    what is missing, what is too many and what has another shape.
    """
    origin, found = _read(path)
    own = model.state_dict()
    # A tied parameter has several names, of which the file needs one.
    names = list(model.named_parameters(remove_duplicate=False))
    given = {id(parameter) for name, parameter in names if name in found}
    unlike = [name for name, t in found.items() if name in own and own[name].shape != t.shape]
    sizes = [
        f"{name} is {tuple(own[name].shape)} and has to be {tuple(found[name].shape)}"
        for name in unlike
    ]
    faults = [
        *_list("it has no", [name for name in found if name not in own]),
        *_list("the file has no", [n for n, p in model.named_parameters() if id(p) not in given]),
        *_list("shapes differ:", sizes),
    ]
    if faults:
        raise WeightsError(
            f"{Path(path).name} does not fit your model: {'; '.join(faults)}. "
            "Use the names and sizes of the specification, and create parameters in __init__."
        )
    model.load_state_dict(found, strict=False)
    return origin


def _list(what: str, names: list[str]) -> list[str]:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{what} {', '.join(names[:SHOWN])}{more}"] if names else []


def _read(path: str | os.PathLike) -> tuple[Origin, dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            origin = Origin(**json.loads((file.metadata() or {})[KEY]))
            return origin, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise DataError(
            f"{path}: expected weights that save_weights wrote, got "
            f"{type(error).__name__}: {error}. Get the file from the release again."
        ) from error
