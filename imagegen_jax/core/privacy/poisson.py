"""Batches whose rows are drawn each by itself, as accountants assume: Poisson sampling, truncated to a fixed shape.

In each step every image is drawn with the probability batch size / images. Where more are drawn than the shape has
room for, so many of them are kept, by lot (Ganesh et al. 2025, arXiv 2508.15089; the accountant knows of it); where
fewer are, the first image fills the rows up, which count nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from imagegen_jax.core.privacy.private import KEPT

_TAG = 3  # folded into the seed, beside the step: no order of epochs has it
_DEVIATIONS = 4  # of the number of rows that are drawn, that the shape has room for above its mean


@runtime_checkable
class Indexed(Protocol):
    """Data of which any rows can be read, by their numbers."""

    def __len__(self) -> int:
        """Returns the number of rows."""
        ...

    def rows_at(self, index: np.ndarray) -> Mapping[str, np.ndarray]:
        """Returns the rows of these numbers as a batch. Raises ValueError where a row is more than its number says."""
        ...


def capacity(rows: int, batch_size: int) -> int:
    """Returns how many rows a step can have, of data of `rows`: the batch size and four deviations."""
    deviation = math.sqrt(batch_size * (1 - batch_size / rows))
    return min(rows, math.ceil(batch_size + _DEVIATIONS * deviation))


class PoissonRows:
    """Data as the loop asks for them, whose batches are drawn in each step anew, of a mean size."""

    def __init__(self, data: Indexed, batch_size: int, parts: int) -> None:
        """Takes open data; a batch has a multiple of `parts` rows."""
        self.data, self.mean, self.capacity = data, batch_size, capacity(len(data), batch_size)
        self.shape = -(-self.capacity // parts) * parts  # rows of a batch

    def batch(self, step: int, n: int, seed: int = 0, rows: slice | None = None) -> dict[str, np.ndarray]:
        """Returns the batch of a step, or only its `rows`, with "kept", which is False where no row was drawn."""
        drawn = self.drawn(step, seed)
        index = np.zeros(n, np.int64)
        index[: len(drawn)] = drawn
        chosen = rows or slice(None)
        return {**self.data.rows_at(index[chosen]), KEPT: (np.arange(n) < len(drawn))[chosen]}

    def drawn(self, step: int, seed: int) -> np.ndarray:
        """Returns the numbers of the rows that a step draws, rising, at most as many as there is room for."""
        words = np.random.Philox(np.random.SeedSequence([seed, step, _TAG])).random_raw(2 * len(self.data))
        uniform, lots = (words >> np.uint64(11)).reshape(2, -1) * 2.0**-53
        found = np.flatnonzero(uniform < self.mean / len(self.data))
        if len(found) > self.capacity:
            found = np.sort(found[np.argsort(lots[found], kind="stable")[: self.capacity]])
        return found
