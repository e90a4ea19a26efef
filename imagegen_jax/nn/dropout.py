"""Dropout with masks drawn from the rows' keys: the same ones however a batch is split for accumulation or devices."""

from __future__ import annotations

import math
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.model import PRNGKeys


class Dropout(nn.Module):
    """Zeroes entries with probability `rate` and scales the rest by 1 / (1 - rate) (Srivastava et al. 2014)."""

    rate: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "b ..."], keys: PRNGKeys | None) -> Float[Array, "b ..."]:
        """Drops entries by the rows' keys; None: no dropout.

        All layers share the keys; each salts them with its own path.
        """
        if keys is None or self.rate == 0.0:
            return x
        salt, size = zlib.crc32("/".join(self.path).encode()), math.prod(x.shape[1:])
        # Drawn flat, since random numbers with many indices take the CPU compiler several times as long.
        keep = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, salt), 1 - self.rate, (size,)))(keys)
        return jnp.where(keep.reshape(x.shape), x / (1 - self.rate), 0).astype(x.dtype)
