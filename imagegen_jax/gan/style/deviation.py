"""The deviation among a batch's images, as a feature that discriminators see."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def minibatch_deviation(x: Float[Array, "b h w c"], group: int) -> Float[Array, " b"]:
    """Averages the standard deviation of features over groups of images (Karras et al. 2018, 1710.10196, section 3).

    Groups are consecutive rows, which mostly lie on one device; smaller ones where `group` does not divide the batch.
    """
    b = len(x)
    size = next(n for n in range(min(group, b), 0, -1) if b % n == 0)
    grouped = x.reshape(b // size, size, *x.shape[1:])
    deviation = jnp.sqrt(jnp.var(grouped, axis=1) + 1e-8).mean(axis=(1, 2, 3))
    return jnp.repeat(deviation, size)


def append_deviation(x: Float[Array, "b h w c"], group: int) -> Float[Array, "b h w c+1"]:
    """Appends a channel that holds, at all pixels alike, the deviation of the image's group."""
    deviation = jnp.broadcast_to(minibatch_deviation(x, group)[:, None, None, None], (*x.shape[:3], 1))
    return jnp.concatenate([x, deviation], axis=-1)
