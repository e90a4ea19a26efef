"""Decoding in parts, so that large images fit in memory: some images at a time, and of each a tile at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import BelowOne, Count

Decode = Callable[[Float[Array, "b h w c"]], Float[Array, "b hh ww k"]]


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How much is decoded at a time. By default all images that are drawn at a time, each as a whole.

    With a `tile`, squares of so many latents a side are decoded by themselves, each of which has `overlap` of its side
    in common with the next; there the one goes over into the other along a line. A pixel of a convolutional decoder is
    the same as of whole latents where no border of its tile is within the decoder's reach; norms over all pixels of
    an image, such as Stable Diffusion's group norms, and attention see a tile only, so that colours may drift from tile
    to tile.
    """

    images: Count | None = None  # decoded at a time; None: all
    tile: Count | None = None  # height and width of what is decoded at a time, in latents; None: all
    overlap: BelowOne = 0.25  # share of a tile's side that it has in common with the next one

    def __call__(self, decode: Decode, latents: Float[Array, "b h w c"]) -> Float[Array, "b hh ww k"]:
        """Decodes latents: [B H W C] -> [B factor*H factor*W K]"""
        tile, whole = self.tile, decode
        if tile is not None and max(latents.shape[1:3]) > tile:
            decode = lambda z: _tiled(whole, z, tile, self.overlap)  # noqa: E731
        if self.images is None or self.images >= len(latents):
            return decode(latents)
        return _sliced(decode, latents, self.images)


def _sliced(decode: Decode, latents: Float[Array, "b h w c"], n: int) -> Float[Array, "b hh ww k"]:
    """Decodes `n` images at a time, the last of which repeat others where `n` does not divide their number."""
    parts = -(-len(latents) // n)
    rows = jnp.arange(parts * n) % len(latents)
    found = jax.lax.map(decode, latents[rows].reshape(parts, n, *latents.shape[1:]))
    return found.reshape(parts * n, *found.shape[2:])[: len(latents)]


def _tiled(decode: Decode, latents: Float[Array, "b h w c"], tile: int, overlap: float) -> Float[Array, "b hh ww k"]:
    """Decodes one tile after another, and returns their mean, weighted by how far inside its tile a pixel lies."""
    batch, height, width, channels = latents.shape
    sides = min(tile, height), min(tile, width)
    starts = [_starts(length, side, overlap) for length, side in zip((height, width), sides, strict=True)]
    places = np.array([(y, x) for y in starts[0] for x in starts[1]], np.int32)
    shape = jax.eval_shape(decode, jax.ShapeDtypeStruct((batch, *sides, channels), latents.dtype)).shape
    factor = shape[1] // sides[0]
    ramps = (_ramp(side * factor, max(1, round(overlap * side * factor))) for side in sides)
    weight = jnp.asarray(np.multiply.outer(*ramps)[..., None], jnp.float32)

    def add(total: tuple[Array, Array], place: Array) -> tuple[tuple[Array, Array], None]:
        y, x = place[0], place[1]
        z = jax.lax.dynamic_slice(latents, (0, y, x, 0), (batch, *sides, channels))
        at = 0, y * factor, x * factor, 0
        parts = (weight * decode(z), jnp.broadcast_to(weight, (1, *weight.shape)))
        found = [
            jax.lax.dynamic_update_slice(sum_, jax.lax.dynamic_slice(sum_, at, part.shape) + part, at)
            for sum_, part in zip(total, parts, strict=True)
        ]
        return (found[0], found[1]), None

    size = height * factor, width * factor
    empty = jnp.zeros((batch, *size, shape[3])), jnp.zeros((1, *size, 1))
    (image, weights), _ = jax.lax.scan(add, empty, jnp.asarray(places))
    return image / weights


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Returns where tiles of a side begin, so that they cover a length; the last one ends with it."""
    step = max(1, int(side * (1 - overlap)))
    return [*range(0, length - side, step), length - side]


def _ramp(length: int, rise: int) -> np.ndarray:
    """Returns weights that rise from near 0 over so many pixels, and fall so at the end."""
    inside = np.arange(length) + 1.0
    return np.minimum(np.minimum(inside, inside[::-1]) / rise, 1.0)
