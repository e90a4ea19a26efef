"""What the loop reads: a data set decoded once, whose batches follow from (seed, step) alone. No iterator, no state."""

from __future__ import annotations

import dataclasses
import functools
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, UInt8


@runtime_checkable
class Source(Protocol):
    """Where images come from: a frozen dataclass of plain settings, so that an experiment can be stored and rebuilt."""

    def open(self) -> Dataset:
        """Decodes the images, once for all runs, and maps them into memory."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Images of one size, and where there are classes their labels.

    Batch `step` of `n` rows is rows `step * n` to `step * n + n` of an endless stream of epochs, each of which holds
    every image once, in an order that follows from (seed, epoch). A batch may straddle epochs, and `n` may exceed the
    number of images.
    """

    images: UInt8[np.ndarray, "n h w c"]  # 0..255, mapped from disk
    labels: Int32[np.ndarray, " n"] | None = None
    class_names: tuple[str, ...] = ()  # the name of each label; () where there are no labels

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    @property
    def num_classes(self) -> int:
        """The number of classes; 0 where there are no labels."""
        return len(self.class_names)

    def batch(self, step: int, n: int, seed: int = 0, rows: slice | None = None) -> dict[str, np.ndarray]:
        """Batch `step`: "image" uint8 [n h w c] and, where there are labels, "label" int32 [n]; fresh arrays.

        `rows` selects rows of the batch, so that each host of many reads its own only. Raises ValueError where `step`
        or `seed` is negative, or `n` not positive.
        """
        if step < 0 or n < 1 or seed < 0:
            raise ValueError(f"batch(step={step}, n={n}, seed={seed}): step and seed must be >= 0, and n >= 1")
        index = self._index(range(step * n, step * n + n)[rows or slice(None)], seed)
        batch = {"image": np.asarray(self.images[index])}
        if self.labels is not None:
            batch["label"] = np.asarray(self.labels[index])
        return batch

    def _index(self, positions: range, seed: int) -> np.ndarray:
        """Which images stand at `positions` of the stream."""
        epoch, place = np.divmod(np.asarray(positions, np.int64), len(self))
        index = np.empty(len(positions), np.int64)
        for value in np.unique(epoch):
            within = epoch == value
            index[within] = _permutation(len(self), seed, int(value))[place[within]]
        return index


@functools.lru_cache(maxsize=4)  # two epochs, since a batch may straddle them, of two data sets
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch.

    By sorting the raw output of a generator, because NumPy promises that stream for all versions and machines, but not
    what `Generator.permutation` makes of it: a run resumed after an upgrade goes on with the same batches.
    """
    raw = np.random.Philox(np.random.SeedSequence([seed, epoch])).random_raw(n)
    return np.argsort(raw, kind="stable")
