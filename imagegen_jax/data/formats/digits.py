"""The handwritten digits that scikit-learn carries: real data without a download."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.data.prepare import Item, Listing, prepare
from imagegen_jax.data.source import Dataset

_SPLITS = {"all": range(1797), "train": range(1500), "test": range(1500, 1797)}


@dataclasses.dataclass(frozen=True)
class Digits:
    """1,797 handwritten digits of 8x8 pixels with 17 grey values (UCI optdigits, Alpaydin and Kaynak 1998), 10 classes.

    `split` "train" is the first 1,500 of them, "test" the other 297.
    """

    size: Count = 8
    channels: Count = 1
    split: Literal["all", "train", "test"] = "all"

    def open(self) -> Dataset:
        """Opens the digits at `size`. Raises ValueError where a setting is impossible."""
        if self.split not in _SPLITS:
            raise ValueError(f"{self}: split must be one of {', '.join(_SPLITS)}")
        rows = _SPLITS[self.split]
        listing = Listing(
            title=f"digits {self.split}",
            fingerprint="optdigits",
            total=len(rows),
            name=lambda index: f"digit {rows[index]}",
            start=lambda: _reader(rows),
            class_names=tuple("0123456789"),
        )
        return prepare(self, listing, self.size, self.channels)


def _reader(rows: range) -> Callable[[range], Iterator[Item]]:
    from sklearn.datasets import load_digits  # here: the import takes a second, and a prepared set does not need it

    images, labels = load_digits(return_X_y=True)
    grey = np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return lambda indices: (Item(grey[row], int(labels[row])) for row in (rows[index] for index in indices))
