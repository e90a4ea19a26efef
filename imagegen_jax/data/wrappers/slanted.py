"""Images that lean to the right, as italics do: a style that few images can show."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import UInt8

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.data.formats.digits import Digits
from imagegen_jax.data.source import Dataset, Source


@dataclasses.dataclass(frozen=True)
class Slanted:
    """The first `per_class` images of each class, slanted: each row lies `slope` pixels further left than that above.

    None takes all images. What comes in at the sides is black.
    """

    source: Source = Digits(split="train")
    slope: float = 0.5
    per_class: Count | None = None

    def open(self) -> Dataset:
        """Opens the images. Raises ValueError where they have no classes to count by, or are none, and its source's."""
        dataset = self.source.open()
        if dataset.images.dtype != np.uint8:
            raise ValueError(f"{self}: these are latents, but only images can be slanted")
        rows = np.arange(len(dataset)) if self.per_class is None else self._first(dataset)
        labels = None if dataset.labels is None else np.asarray(dataset.labels)[rows]
        return Dataset(slanted(np.asarray(dataset.images[rows]), self.slope), labels, dataset.class_names)

    def _first(self, dataset: Dataset) -> np.ndarray:
        if dataset.labels is None:
            raise ValueError(f"{self}: per_class={self.per_class}, but the images have no classes: leave it out")
        labels = np.asarray(dataset.labels)
        found = [np.flatnonzero(labels == k)[: self.per_class] for k in range(dataset.num_classes)]
        fewest = min(range(dataset.num_classes), key=lambda k: len(found[k]))
        if len(found[fewest]) < (self.per_class or 0):
            there = f"{dataset.class_names[fewest]!r} has {len(found[fewest])} images"
            raise ValueError(f"{self}: per_class={self.per_class}, but the class {there}: give so many, or fewer")
        return np.concatenate(found)


def slanted(images: UInt8[np.ndarray, "n h w c"], slope: float) -> UInt8[np.ndarray, "n h w c"]:
    """Moves each row right by `slope` pixels for each row that it lies above the middle, between pixels linearly."""
    _, h, w, _ = images.shape
    at = np.arange(w) + slope * (np.arange(h) - (h - 1) / 2)[:, None]  # where in its row each pixel comes from: [h w]
    left = np.floor(at).astype(int)
    share = (at - left)[..., None]
    padded = np.pad(images.astype(np.float32), ((0, 0), (0, 0), (1, 1), (0, 0)))
    row = np.arange(h)[:, None]
    one, other = (padded[:, row, np.clip(column + 1, 0, w + 1)] for column in (left, left + 1))
    return np.rint((1 - share) * one + share * other).astype(np.uint8)
