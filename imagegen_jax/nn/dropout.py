"""Dropout with masks drawn from the rows' keys: the same ones however a batch is split for accumulation or devices."""

from __future__ import annotations

import math
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

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
        # Drawn flat, since random numbers with many indices take the CPU compiler several times as long.
        keep = _kept(self.path, keys, self.rate, (math.prod(x.shape[1:]),))
        return jnp.where(keep.reshape(x.shape), x / (1 - self.rate), 0).astype(x.dtype)


class DropPath(nn.Module):
    """Zeroes whole rows with probability `rate`, and scales the others: stochastic depth (arXiv 1603.09382)."""

    rate: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "b ..."], keys: PRNGKeys | None) -> Float[Array, "b ..."]:
        """Drops rows by their keys, as `Dropout` drops entries."""
        if keys is None or self.rate == 0.0:
            return x
        keep = _kept(self.path, keys, self.rate, (1,) * (x.ndim - 1))
        return jnp.where(keep, x / (1 - self.rate), 0).astype(x.dtype)


def _kept(path: tuple[str, ...], keys: PRNGKeys, rate: float, shape: tuple[int, ...]) -> Bool[Array, "b ..."]:
    """Draws for each row what a layer keeps, by a key that is salted with the layer's path: [B *shape]."""
    salt = zlib.crc32("/".join(path).encode())
    return jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, salt), 1 - rate, shape))(keys)
