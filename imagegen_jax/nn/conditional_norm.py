"""Batch norm whose scale and bias follow from a condition: a class, or a vector (de Vries et al. 2017, 1707.00683).

The statistics are those of the whole batch, of all conditions. Torch's defaults: epsilon 1e-5, running <- 0.9 running +
0.1 batch; the running variance is that of the batch as it is, where torch takes n / (n - 1) times that.
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
    """A scale and a bias for each class and channel, from 1 and 0 on, as in SNGAN's conditional generator.

    `start` is of how far from these they begin.
    """

    num_classes: int
    dtype: Dtype = "auto"
    start: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: Feature, labels: Int[Array, " b"], train: bool) -> Feature:
        """[B H W C], [B] -> [B H W C], by the batch's statistics in training and the running ones otherwise."""
        shape = (self.num_classes, x.shape[-1])
        scale = self.param("scale", lambda *given: 1 + self.start(*given), shape)[labels]
        bias = self.param("bias", self.start, shape)[labels]
        return modulated(plain_norm(train, self.dtype)(x), scale, bias)


class VectorBatchNorm(nn.Module):
    """A scale and a bias that are linear in a vector: 1 + A y and B y (Brock et al. 2019, 1809.11096)."""

    linear: Linear  # makes the two maps, without biases
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Feature, y: Float[Array, "b d"], train: bool) -> Feature:
        """[B H W C], [B D] -> [B H W C], as ClassBatchNorm"""
        scale, bias = (self.linear(x.shape[-1], name)(y) for name in ("scale", "bias"))
        return modulated(plain_norm(train, self.dtype)(x), 1 + scale, bias)


def plain_norm(train: bool, dtype: Dtype) -> nn.BatchNorm:
    """Normalisation alone."""
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
    """Each channel of each row times its scale, plus its bias."""
    return x * scale[:, None, None].astype(x.dtype) + bias[:, None, None].astype(x.dtype)
