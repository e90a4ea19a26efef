"""Images, each with a reduced copy of itself as its source: for super-resolution, colourisation and inpainting.

The copies are made as batches are read, so that a data set of pairs takes no more room than its images.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Int, UInt8

from imagegen_jax.core.config.bounds import Count, Seed, Share
from imagegen_jax.data.formats.digits import Digits
from imagegen_jax.data.source import Dataset, Derive, Derived, Source


@dataclasses.dataclass(frozen=True)
class Lowered:
    """Images, each with a smaller copy to be enlarged again: the means of squares of `factor` x `factor` pixels."""

    source: Source = Digits()
    factor: Count = 2

    def open(self) -> Dataset:
        """Opens the pairs. Raises ValueError where `factor` does not divide the images, and what the source raises."""
        dataset = self.source.open()
        h, w, _ = dataset.image_shape
        if self.factor < 1 or h % self.factor or w % self.factor:
            raise ValueError(f"{self}: factor={self.factor} must be at least 1 and divide the images of {h}x{w}")
        return _derived(self, dataset, lambda images, rows: lowered(images, self.factor))


@dataclasses.dataclass(frozen=True)
class Greyed:
    """Colour images, each with a grey copy to be coloured again."""

    source: Source

    def open(self) -> Dataset:
        """Opens the pairs. Raises ValueError where the images are not RGB, and what the source raises."""
        dataset = self.source.open()
        if dataset.image_shape[2] != 3:
            raise ValueError(f"{self}: images of {dataset.image_shape[2]} channels, but only RGB has colours to lose")
        return _derived(self, dataset, lambda images, rows: greyed(images))


@dataclasses.dataclass(frozen=True)
class Erased:
    """Images, each with a copy whose hole is to be filled again: RGBA, transparent and black in the hole.

    The hole is a rectangle of `share` of the height and of the width, at a place that depends on the image's number and
    `seed`, and is the same in every epoch.
    """

    source: Source = Digits()
    share: Share = 0.5
    seed: Seed = 0

    def open(self) -> Dataset:
        """Opens the pairs.

        Raises ValueError for a `share` of nothing or all, and for images that are not grey or RGB, and what the source
        raises.
        """
        dataset = self.source.open()
        h, w, channels = dataset.image_shape
        height, width = round(self.share * h), round(self.share * w)
        if not (0 < self.share < 1 and 0 < height < h and 0 < width < w):
            raise ValueError(f"{self}: share={self.share} must leave something of {h}x{w} pixels, and take something")
        if channels not in (1, 3):
            raise ValueError(f"{self}: images of {channels} channels, but those of grey and RGB images are 1 and 3")
        return _derived(self, dataset, lambda images, rows: erased(images, rows, height, width, self.seed))


def lowered(images: UInt8[np.ndarray, "n h w c"], factor: int) -> UInt8[np.ndarray, "n h//factor w//factor c"]:
    """Reduces images to the means of squares of `factor` x `factor` pixels, rounded."""
    n, h, w, c = images.shape
    squares = images.reshape(n, h // factor, factor, w // factor, factor, c)
    return np.rint(squares.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8)


def greyed(images: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n h w 1"]:
    """Turns images grey by the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, as Pillow does."""
    return np.rint(images @ np.array([[0.299], [0.587], [0.114]], np.float32)).astype(np.uint8)


def erased(
    images: UInt8[np.ndarray, "n h w c"], rows: Int[np.ndarray, " n"], height: int, width: int, seed: int
) -> UInt8[np.ndarray, "n h w 4"]:
    """Cuts a hole of `height` x `width` pixels into each image, and returns RGBA; `rows` are the images' numbers."""
    n, h, w, c = images.shape
    known = np.full((n, h, w, 1), 255, np.uint8)
    for row, hole in zip(rows, known, strict=True):
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, int(row)])))
        top, left = rng.integers(h - height, endpoint=True), rng.integers(w - width, endpoint=True)
        hole[top : top + height, left : left + width] = 0
    return np.concatenate([np.where(known > 0, images, 0).repeat(3 // c, axis=-1), known], axis=-1)


def _derived(source: Source, dataset: Dataset, derive: Derive) -> Dataset:
    if dataset.images.dtype != np.uint8:
        raise ValueError(f"{source}: these are latents, but sources can be made of images alone")
    return dataclasses.replace(dataset, sources=Derived(dataset.images, derive), paired=True)
