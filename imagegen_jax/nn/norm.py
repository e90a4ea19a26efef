"""Normalisation by groups of channels, for any width, by the batch, and by the image."""

from __future__ import annotations

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imagegen_jax.core.model import PRNGKey
from imagegen_jax.nn.precision import Dtype, compute_dtype

Norm = Literal["batch", "instance"]


def group_norm(channels: int, dtype: jnp.dtype, name: str, epsilon: float = 1e-6) -> nn.GroupNorm:
    """Makes the group norm (Wu & He 2018) of DDPM: 32 groups, statistics in float32. Torch's epsilon is 1e-5.

    Narrow layers get fewer groups: the most, up to 32, that divide `channels` and leave each group at least 4 channels.
    A group of one channel would lose that channel's mean, which carries the time embedding.
    """
    most = max(1, min(32, channels // 4))
    groups = next(n for n in range(most, 0, -1) if channels % n == 0)
    return nn.GroupNorm(groups, epsilon=epsilon, dtype=dtype, name=name)


def scale_init(key: PRNGKey, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Float[Array, " c"]:
    """Draws norm scales from N(1, 0.02)."""
    return 1 + 0.02 * jax.random.normal(key, shape, dtype)


class BatchNorm(nn.Module):
    """Batch norm with torch's defaults: epsilon 1e-5, running <- 0.9 running + 0.1 batch.

    The running variance takes the batch's as it is, where torch multiplies it by n / (n - 1).
    """

    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c"]:
        """Normalises by the batch's statistics in training, else by the running ones: [B H W C] -> [B H W C]."""
        return nn.BatchNorm(
            not train,
            momentum=0.9,
            epsilon=1e-5,
            scale_init=scale_init,
            dtype=compute_dtype(self.dtype),
            name="norm",
        )(x)


def instance_norm(dtype: Dtype) -> nn.InstanceNorm:
    """Makes a norm of each channel of each image by its own mean and variance (Ulyanov et al. 2016, 1607.08022).

    It has no weights, and torch's default epsilon, 1e-5.
    """
    return nn.InstanceNorm(epsilon=1e-5, use_bias=False, use_scale=False, dtype=compute_dtype(dtype))
