"""More of a texture by its patches, from coarse to fine: each becomes its nearest one (GPNN, Granot et al. 2022).

"Drop the GAN: In Defense of Patches Nearest Neighbors as Single Image Generative Models", arXiv 2103.15545. Here the
coarsest image is one of small pieces strewn at random, and not the exemplar with noise, since a texture has no layout
to keep. NumPy's products do the work, which need no compilation for the size of each scale.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from imagegen_jax.metrics.scores.textures import patches

Pixels = Float[np.ndarray, "h w 3"]  # in 0..255
Rows = Float[np.ndarray, "n d"]

PIECE = 8  # pixels of a side of what is strewn at the coarsest scale
BLOCK = 1024  # patches that are looked up at a time


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """How patches are looked up."""

    patch: int = 7  # pixels of a side
    coarsest: int = 28  # pixels of the exemplar's shorter side, at least
    ratio: float = 0.75  # of the sizes of two scales
    passes: int = 6  # of the coarsest scales; half as many where the image has more than LARGE pixels
    alpha: float = 0.01  # less: all of the exemplar has to be used (Eq. 3), in squares of half the range of pixels
    components: int = 32  # that patches are compared by: most of their variance


LARGE = 90**2


class Scale(NamedTuple):
    """A size of the pyramid: the exemplar in it, the same as it looks when it comes from the next coarser size."""

    exemplar: Pixels
    blurred: Pixels
    size: tuple[int, int]  # of the image to make


def grown(
    exemplar: UInt8[np.ndarray, "v u 3"], size: tuple[int, int], neighbours: Neighbours, seed: int
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Yields an image with the exemplar's texture after each scale, the last one of `size`: (height, width).

    Raises ValueError for an exemplar that is smaller than `neighbours.coarsest`, or a size below a patch's.
    """
    check_size(exemplar, size, neighbours)
    rng, image = np.random.default_rng(seed), None
    for scale in scales_of(exemplar, size, neighbours):
        begun = _strewn(scale, rng) if image is None else _resized(image, scale.size)
        image = _at_scale(begun, scale, neighbours, first=image is None)
        yield np.clip(np.round(image), 0, 255).astype(np.uint8)


def check_size(exemplar: np.ndarray, size: tuple[int, int], neighbours: Neighbours) -> None:
    """Raises ValueError for an exemplar or a size that is too small."""
    if min(exemplar.shape[:2]) < neighbours.coarsest:
        raise ValueError(
            f"the exemplar has {exemplar.shape[0]}x{exemplar.shape[1]} pixels: patches over scales need "
            f"{neighbours.coarsest} or more: give a larger picture"
        )
    least = int(np.ceil(2 * PIECE / _factors(exemplar, neighbours)[0]))
    if min(size) < least:
        raise ValueError(f"a texture of {size[0]}x{size[1]} pixels: this exemplar needs {least} or more: ask for more")


def scales_of(exemplar: np.ndarray, size: tuple[int, int], neighbours: Neighbours) -> list[Scale]:
    """Returns the scales of an exemplar, coarsest first."""
    pixels, found = exemplar.astype(np.float32), []
    factors = _factors(exemplar, neighbours)
    for factor, coarser in zip(factors, [factors[0] * neighbours.ratio, *factors[:-1]], strict=True):
        there = _resized(pixels, _scaled(exemplar.shape, factor))
        blurred = _resized(_resized(pixels, _scaled(exemplar.shape, coarser)), there.shape[:2])
        found.append(Scale(there, blurred, _scaled(size, factor)))
    return found


def _factors(exemplar: np.ndarray, neighbours: Neighbours) -> list[float]:
    found = [1.0]
    while min(exemplar.shape[:2]) * found[0] * neighbours.ratio >= neighbours.coarsest:
        found.insert(0, found[0] * neighbours.ratio)
    return found


def _scaled(shape: tuple[int, ...], factor: float) -> tuple[int, int]:
    return round(shape[0] * factor), round(shape[1] * factor)


def _at_scale(image: Pixels, scale: Scale, neighbours: Neighbours, first: bool) -> Pixels:
    """Replaces patches by their nearest ones, some times; at first they are as blurred as what is looked up."""
    large = image.shape[0] * image.shape[1] > LARGE
    passes = max(2, neighbours.passes // 2) if large else neighbours.passes
    values = patches(scale.exemplar, neighbours.patch)
    for i in range(passes):
        keys = values if first or i else patches(scale.blurred, neighbours.patch)
        every = 2 if large else 1  # patches still overlap by five of seven pixels
        asked = patches(image, neighbours.patch, every)
        image = _voted(values[_nearest(asked, keys, neighbours)], image, neighbours.patch, every)
    return image


def _nearest(asked: Rows, keys: Rows, neighbours: Neighbours) -> np.ndarray:
    """Finds the key of each patch by D(q, k) / (alpha + min over q' of D(q', k)), Eq. 3: rare keys come first."""
    asked, keys = _reduced(asked, keys, neighbours.components)
    pixels = 127.5**2 * 3 * neighbours.patch**2  # so that alpha is a mean over the values of a patch in [-1, 1]
    least = np.full(len(keys), np.inf, np.float32)
    for distance in _distances(asked, keys):
        np.minimum(least, distance.min(0), out=least)
    weight = 1 / (neighbours.alpha + least / pixels)
    return np.concatenate([(distance * weight).argmin(1) for distance in _distances(asked, keys)])


def _distances(asked: Rows, keys: Rows) -> Iterator[Float[np.ndarray, "n k"]]:
    squares = (keys**2).sum(1)
    for start in range(0, len(asked), BLOCK):
        rows = asked[start : start + BLOCK]
        found = rows @ (-2 * keys.T)
        found += squares
        found += (rows**2).sum(1)[:, None]
        yield np.maximum(found, 0, out=found)


def _reduced(asked: Rows, keys: Rows, components: int) -> tuple[Rows, Rows]:
    """Projects patches to the keys' principal components, by which distances keep nearly all of themselves."""
    mean = keys.mean(0)
    _, axes = np.linalg.eigh((keys - mean).T @ (keys - mean))
    axes = axes[:, -components:]
    return (asked - mean) @ axes, (keys - mean) @ axes


def _voted(rows: Rows, image: Pixels, side: int, every: int) -> Pixels:
    """Averages overlapping patches [n, side * side * 3] where they lie; a place without a patch stays as it was."""
    height, width = image.shape[:2]
    down, across = ((length - side) // every + 1 for length in (height, width))
    tiles = rows.reshape(down, across, side, side, 3) + 127.5
    total, count = np.zeros_like(image), np.zeros((height, width, 1), np.float32)
    for i in range(side):
        for j in range(side):
            at = (slice(i, i + (down - 1) * every + 1, every), slice(j, j + (across - 1) * every + 1, every))
            total[at] += tiles[:, :, i, j]
            count[at] += 1
    return np.where(count > 0, total / np.maximum(count, 1), image)


def _strewn(scale: Scale, rng: np.random.Generator) -> Pixels:
    """Fills an image with pieces of the exemplar, each from a place drawn at random."""
    height, width = scale.size
    found = np.zeros((height + PIECE, width + PIECE, 3), np.float32)
    for top in range(0, height, PIECE):
        for left in range(0, width, PIECE):
            i, j = (rng.integers(length - PIECE + 1) for length in scale.exemplar.shape[:2])
            found[top : top + PIECE, left : left + PIECE] = scale.exemplar[i : i + PIECE, j : j + PIECE]
    return found[:height, :width]


def _resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    kind = Image.Resampling.LANCZOS if size[0] < image.shape[0] else Image.Resampling.BICUBIC
    channels = [Image.fromarray(np.ascontiguousarray(image[..., c])).resize(size[::-1], kind) for c in range(3)]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)
