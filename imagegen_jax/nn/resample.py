"""Changes of resolution without parameters, patches, and a second image for a network to see."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def upsample_nearest(x: Float[Array, "b h w c"], factor: int = 2) -> Float[Array, "b hh ww c"]:
    """Makes each pixel a square of `factor` pixels' side, by a broadcast: `jax.image.resize` would gather."""
    b, h, w, c = x.shape
    wide = jnp.broadcast_to(x[:, :, None, :, None], (b, h, factor, w, factor, c))
    return wide.reshape(b, factor * h, factor * w, c)


def with_source(x: Float[Array, "b h w c"], source: Float[Array, "b hh ww s"] | None) -> Float[Array, "b h w _"]:
    """Appends a `source` to the channels of `x`, for the network to go by; returns `x` itself for None.

    A source may be a smaller image, which is enlarged bilinearly as in ADM (Dhariwal & Nichol 2021, arXiv 2105.05233,
    section 2), a grey one, or one with a hole. Raises ValueError where it is larger than `x`.
    """
    if source is None:
        return x
    b, h, w, s = source.shape
    if h > x.shape[1] or w > x.shape[2]:
        raise ValueError(f"a source of {h}x{w} is larger than the image of {x.shape[1]}x{x.shape[2]}: shrink it first")
    return jnp.concatenate([x, jax.image.resize(source, (b, *x.shape[1:3], s), "bilinear")], axis=-1)


def patches(x: Float[Array, "b h w c"], patch: int) -> Float[Array, "b l ppc"]:
    """Cuts squares of `patch` x `patch` pixels, row by row, each flattened: [B H W C] -> [B (H / p) (W / p), p p C]."""
    b, height, width, c = x.shape
    x = x.reshape(b, height // patch, patch, width // patch, patch, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, patch * patch * c)


def image(h: Float[Array, "b l ppc"], rows: int, columns: int, patch: int) -> Float[Array, "b h w c"]:
    """Inverts `patches`, for an image of `rows` x `columns` of them."""
    h = h.reshape(h.shape[0], rows, columns, patch, patch, -1)
    return h.transpose(0, 1, 3, 2, 4, 5).reshape(h.shape[0], rows * patch, columns * patch, -1)


def check_patches(height: int, width: int, patch: int) -> None:
    """Raises ValueError where an image does not consist of whole patches."""
    if patch < 1 or height % patch or width % patch:
        common = math.gcd(height, width)
        possible = ", ".join(str(n) for n in (1, 2, 4, 8, 16, 32) if common % n == 0)
        raise ValueError(
            f"an image of {height}x{width} does not divide into patches of patch={patch}: use a patch of {possible}, "
            "or pad the image"
        )
