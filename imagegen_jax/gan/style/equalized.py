"""Layers with an equalised learning rate (Karras et al. 2018, arXiv 1710.10196, section 4.1), and their activation.

Weights are stored as N(0, 1) and scaled by 1 / sqrt(fan in) at each use. Adam's steps do not depend on the scale of a
weight, so that all layers then move at the same relative speed.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.upfirdn import BINOMIAL, Taps, convolve, convolve_down

SLOPE = 0.2  # of the leaky rectifier


def bias_activation(x: Float[Array, "b ... c"], bias: Float[Array, " c"], gain: float = 1.0) -> Float[Array, "b ... c"]:
    """Computes gain sqrt(2) leaky_relu(x + bias), about as large as x (He et al. 2015, arXiv 1502.01852)."""
    return jax.nn.leaky_relu(x + bias.astype(x.dtype), SLOPE) * (gain * math.sqrt(2))


def normalise(x: Float[Array, "b c"]) -> Float[Array, "b c"]:
    """Scales each row to a mean square of 1 (Karras et al. 2018, section 4.2), in float32."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-8)


class EqualDense(nn.Module):
    """A dense layer; `rate` is its learning rate as a share of the optimizer's (0.01 in StyleGAN's mapping)."""

    features: int
    activate: bool = False
    bias_init: float = 0.0
    rate: float = 1.0
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b i"]) -> Float[Array, "b o"]:
        dtype, fan_in = compute_dtype(self.dtype), x.shape[-1]
        kernel = self.param("kernel", nn.initializers.normal(1 / self.rate), (fan_in, self.features))
        bias = self.param("bias", nn.initializers.constant(self.bias_init / self.rate), (self.features,)) * self.rate
        x = x.astype(dtype) @ (kernel * (self.rate / math.sqrt(fan_in))).astype(dtype)
        return bias_activation(x, bias) if self.activate else x + bias.astype(dtype)


class EqualConv(nn.Module):
    """A convolution that may halve the size; its output is scaled by `gain`."""

    features: int
    size: int = 3  # of the kernel: 1 or 3
    down: bool = False
    activate: bool = True
    use_bias: bool = True
    gain: float = 1.0
    taps: Taps = BINOMIAL  # of the filter before downsampling
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b hh ww o"]:
        """Convolves: [B H W I] -> [B H W O], or with `down` [B H/2 W/2 O]"""
        dtype, shape = compute_dtype(self.dtype), (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape)
        x, kernel = x.astype(dtype), (kernel / math.sqrt(math.prod(shape[:3]))).astype(dtype)
        x = convolve_down(x, kernel, self.taps) if self.down else convolve(x, kernel)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,)) if self.use_bias else jnp.zeros(())
        return bias_activation(x, bias, self.gain) if self.activate else (x + bias.astype(dtype)) * self.gain
