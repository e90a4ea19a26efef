"""Changes of resolution without parameters, and images that a network sees beside another."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def upsample_nearest(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Each pixel becomes a 2x2 square. A broadcast: `jax.image.resize` would gather."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


def with_source(x: Float[Array, "b h w c"], source: Float[Array, "b hh ww s"] | None) -> Float[Array, "b h w _"]:
    """`x` and, as further channels, a `source` for the network to go by; `x` itself for None.

    Such as an image of low resolution, which is enlarged to the size of `x` bilinearly, as ADM does (Dhariwal & Nichol
    2021, arXiv 2105.05233, section 2), one in grey, or one with a hole. Raises ValueError where it is larger than `x`.
    """
    if source is None:
        return x
    b, h, w, s = source.shape
    if h > x.shape[1] or w > x.shape[2]:
        raise ValueError(f"a source of {h}x{w} is larger than the image of {x.shape[1]}x{x.shape[2]}: shrink it first")
    return jnp.concatenate([x, jax.image.resize(source, (b, *x.shape[1:3], s), "bilinear")], axis=-1)
