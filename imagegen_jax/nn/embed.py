"""Embeddings of scalars, such as the diffusion time."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Num


def sinusoidal(t: Num[Array, " b"], width: int, max_period: float = 10_000.0) -> Float[Array, "b w"]:
    """Sines, then cosines of `t` at width / 2 frequencies from 1 down to 1 / `max_period` (Vaswani et al. 2017).

    Both ends are included, as in DDPM's code; later code bases divide by width / 2, and not by width / 2 - 1, so that
    they miss the lowest one. Raises ValueError unless `width` is even and at least 4.
    """
    if width < 4 or width % 2:
        raise ValueError(f"a sinusoidal embedding of width {width} is not possible: use an even width of 4 or more")
    frequency = max_period ** -jnp.linspace(0.0, 1.0, width // 2)
    angle = t[:, None].astype(jnp.float32) * frequency
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
