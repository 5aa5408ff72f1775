"""Examples in batches."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Batches:
    """Examples in batches, padded to the longest one of their batch.

    Each column holds one thing of every example: a tensor or an array whose first axis counts the
    examples, a list of numbers, or a list of sequences of unequal length, which `pad` joins. A
    batch is a tuple with a tensor for each column, or that tensor where there is one column.
    With a seed they never end: pass after pass, each in a new order, and a new loop begins with the
    first. Without a seed they are one pass in order, for evaluation.

    Raises: ValueError where columns are empty or differ in length.
    """

    def __init__(self, *columns: Any, size: int, seed: int | None = None, padding: float = 0):
        lengths = {len(column) for column in columns}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"expected columns of one length above 0, got {sorted(lengths)}")
        if size < 1:
            raise ValueError(f"expected batches of 1 example or more, got {size}")
        self.examples = lengths.pop()
        self.columns = [torch.as_tensor(c) if isinstance(c, np.ndarray) else c for c in columns]
        self.size, self.seed, self.padding = size, seed, padding

    def __len__(self) -> int:
        """Count the batches of one pass."""
        return math.ceil(self.examples / self.size)

    def __iter__(self) -> Iterator[Any]:
        if self.seed is None:
            yield from map(self._batch, torch.arange(self.examples).split(self.size))
            return
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            order = torch.randperm(self.examples, generator=generator)
            yield from map(self._batch, order.split(self.size))

    def _batch(self, picked: Tensor) -> Any:
        parts = tuple(self._part(column, picked) for column in self.columns)
        return parts if len(parts) > 1 else parts[0]

    def _part(self, column: Any, picked: Tensor) -> Tensor:
        if isinstance(column, Tensor):
            return column[picked]
        items = [column[number] for number in picked.tolist()]
        numbers = isinstance(items[0], int | float)
        return torch.tensor(items) if numbers else pad(items, self.padding)


def pad(sequences: Sequence[Any], value: float = 0) -> Tensor:
    """Join sequences into one tensor, each filled up at its end to the longest.

    Shapes: lists of numbers or tensors (T, ...), each with a T of its own; the result is
    (B, T, ...) with the longest T.
    """
    tensors = [torch.as_tensor(sequence) for sequence in sequences]
    return nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)
