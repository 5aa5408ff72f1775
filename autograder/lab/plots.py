"""Figures that the notebooks share. Their look comes from chapters/matplotlibrc."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

# A map with more cells than this is unreadable with a number in each.
ANNOTATED_CELLS = 100


def attention_map(
    weights: Tensor,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw attention weights: a row for each query, a column for each key, dark is 0, light is 1.

    Shapes: weights (Tq, Tk), each row summing to 1 or to 0.
    Raises: ValueError where weights are not a matrix or the labels do not fit it.
    """
    if weights.dim() != 2:
        raise ValueError(
            f"expected weights of shape (Tq, Tk), got {tuple(weights.shape)}; "
            "pick one head and one sequence first"
        )
    Tq, Tk = weights.shape
    for name, labels, length in (("queries", queries, Tq), ("keys", keys, Tk)):
        if labels is not None and len(labels) != length:
            raise ValueError(f"expected {length} labels for the {name}, got {len(labels)}")
    values = weights.detach().float().cpu().numpy()
    ax = ax or plt.subplots(figsize=(1.6 + 0.55 * Tk, 1.2 + 0.45 * Tq))[1]
    ax.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    ax.set(xlabel="keys", ylabel="queries", title=title)
    ax.set_xticks(
        range(Tk), keys or range(Tk), rotation=45 if keys else 0, ha="right" if keys else "center"
    )
    ax.set_yticks(range(Tq), queries or range(Tq))
    ax.grid(False)
    if Tq * Tk <= ANNOTATED_CELLS:
        for row in range(Tq):
            for column in range(Tk):
                value = values[row, column]
                colour = "black" if value > 0.6 else "white"
                ax.text(
                    column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=9
                )
    return ax
