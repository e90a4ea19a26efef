"""Adaptive instance normalisation (Huang & Belongie 2017, arXiv 1703.06868), with styles that a network learns."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.gan.style.equalized import EqualDense
from imagegen_jax.nn.conditional_norm import modulated
from imagegen_jax.nn.precision import Dtype, compute_dtype


class AdaIN(nn.Module):
    """y_s (x - mean(x)) / std(x) + y_b, by image and channel, y linear in w (Karras et al. 2019, 1812.04948, Eq. 1).

    y_s is 1 and y_b is 0 for a w of 0. Statistics and styles are in float32; `epsilon` is added to the variance.
    """

    epsilon: float = 1e-8
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], w: Float[Array, "b d"]) -> Float[Array, "b h w c"]:
        style = EqualDense(2 * x.shape[-1], dtype="float32", name="style")(w)
        scale, bias = jnp.split(style, 2, axis=-1)
        norm = nn.InstanceNorm(
            epsilon=self.epsilon,
            use_bias=False,
            use_scale=False,
            dtype=compute_dtype(self.dtype),
            use_fast_variance=False,  # E[x^2] - E[x]^2 is nothing but rounding where a channel is nearly constant
            name="norm",
        )
        return modulated(norm(x), 1 + scale, bias)
