"""Changes of resolution without parameters, and a second image for a network to see."""

from __future__ import annotations

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
