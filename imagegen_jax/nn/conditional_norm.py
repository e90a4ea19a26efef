"""Batch norm whose scale and bias depend on a condition: a class, or a vector (de Vries et al. 2017, 1707.00683).

The statistics are those of the whole batch, whatever its conditions. Torch's defaults: epsilon 1e-5, running <- 0.9
running + 0.1 batch. The running variance takes the batch's as it is, where torch multiplies it by n / (n - 1).
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
from flax.typing import Initializer
from jaxtyping import Array, Float, Int

from imagegen_jax.nn.precision import Dtype, compute_dtype

MOMENTUM = 0.9  # of the running statistics

Feature = Float[Array, "b h w c"]
Linear = Callable[[int, str], Callable[[Float[Array, "b d"]], Float[Array, "b c"]]]  # features, name


class ClassBatchNorm(nn.Module):
    """Batch norm with a scale and a bias for each class and channel, as in SNGAN's conditional generator.

    They begin at 1 and 0, plus values drawn by `start`.
    """

    num_classes: int
    dtype: Dtype = "auto"
    start: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: Feature, labels: Int[Array, " b"], train: bool) -> Feature:
        """Normalises by the batch's statistics in training, else by the running ones: [B H W C], [B] -> [B H W C]."""
        shape = (self.num_classes, x.shape[-1])
        scale = self.param("scale", lambda *given: 1 + self.start(*given), shape)[labels]
        bias = self.param("bias", self.start, shape)[labels]
        return modulated(plain_norm(train, self.dtype)(x), scale, bias)


class VectorBatchNorm(nn.Module):
    """Batch norm with scale and bias linear in a vector: 1 + A y and B y (Brock et al. 2019, 1809.11096)."""

    linear: Linear  # makes the two maps, without biases
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Feature, y: Float[Array, "b d"], train: bool) -> Feature:
        """Normalises like ClassBatchNorm: [B H W C], [B D] -> [B H W C]"""
        scale, bias = (self.linear(x.shape[-1], name)(y) for name in ("scale", "bias"))
        return modulated(plain_norm(train, self.dtype)(x), 1 + scale, bias)


def plain_norm(train: bool, dtype: Dtype) -> nn.BatchNorm:
    """Makes a batch norm without scale and bias."""
    return nn.BatchNorm(
        not train,
        momentum=MOMENTUM,
        epsilon=1e-5,
        use_scale=False,
        use_bias=False,
        dtype=compute_dtype(dtype),
        name="norm",
    )


def modulated(x: Feature, scale: Float[Array, "b c"], bias: Float[Array, "b c"]) -> Feature:
    """Multiplies each channel of each row by its scale, and adds its bias."""
    return x * scale[:, None, None].astype(x.dtype) + bias[:, None, None].astype(x.dtype)
