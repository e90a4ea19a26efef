"""Initialisers of the papers' own code, where it differs from the framework's default."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax.typing import Initializer
from jaxtyping import Array

from imagegen_jax.core.model import PRNGKey


def fan_avg_uniform(scale: float = 1.0) -> Initializer:
    """Draws uniformly with variance `scale` / mean(fan in, fan out) for kernels [... in out]: DDPM's only initialiser.

    A `scale` of 0 becomes 1e-10, as in DDPM: so small that the layer puts out zero, but its inputs get a gradient from
    the first step on.
    """

    def init(key: PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        *window, fan_in, fan_out = shape
        limit = math.sqrt(3 * max(scale, 1e-10) / (math.prod(window) * (fan_in + fan_out) / 2))
        # Drawn flat, since random numbers with four indices take the CPU compiler four times as long.
        return jax.random.uniform(key, (math.prod(shape),), dtype, -limit, limit).reshape(shape)

    return init


def fan_in_uniform(fan_in: int) -> dict[str, Initializer]:
    """Returns torch's defaults for layers whose outputs see `fan_in` inputs: uniform within 1 / sqrt(fan in) of 0."""

    def init(key: PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, (math.prod(shape),), dtype, -(fan_in**-0.5), fan_in**-0.5).reshape(shape)

    return {"kernel_init": init, "bias_init": init}
