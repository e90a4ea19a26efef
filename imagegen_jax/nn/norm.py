"""Group normalisation with a group count that fits any width."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp


def group_norm(channels: int, dtype: jnp.dtype, name: str) -> nn.GroupNorm:
    """Group normalisation (Wu & He 2018) as in DDPM: 32 groups, epsilon 1e-6, statistics in float32.

    Narrow layers get fewer groups: as many as divide `channels`, are at most 32 and leave 4 channels to a group, since
    a group of one channel would lose that channel's mean, which carries the time embedding.
    """
    most = max(1, min(32, channels // 4))
    groups = next(n for n in range(most, 0, -1) if channels % n == 0)
    return nn.GroupNorm(groups, epsilon=1e-6, dtype=dtype, name=name)
