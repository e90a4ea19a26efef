"""The small network of MAR's diffusion loss (Li et al. 2024, arXiv 2406.11838, section 3.2): it denoises one token."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.nn.embed import sinusoidal
from imagegen_jax.nn.precision import Dtype, compute_dtype

FREQUENCIES = 256  # sines and cosines that embed a time

normal = nn.initializers.normal(0.02)
xavier = nn.initializers.xavier_uniform()
zeros = nn.initializers.zeros


class DenoisingBlock(nn.Module):
    """x + gate * perceptron(norm(x) (1 + scale) + shift); gates start at 0, and the block as the identity."""

    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "... d"], c: Float[Array, "... d"]) -> Float[Array, "... d"]:
        d = x.shape[-1]
        dense = functools.partial(nn.Dense, dtype=compute_dtype(self.dtype), kernel_init=xavier)
        shift, scale, gate = jnp.split(dense(3 * d, kernel_init=zeros, name="modulation")(c), 3, axis=-1)
        h = nn.LayerNorm(1e-6, compute_dtype(self.dtype), name="norm")(x) * (1 + scale) + shift
        h = dense(d, name="mlp_1")(nn.silu(dense(d, name="mlp_0")(h)))
        return x + gate * h


class TokenDenoiser(nn.Module):
    """Blocks of perceptrons; time and condition set the scale, shift and gate of each. The defaults are MAR-B's."""

    depth: Count = 6
    width: Count = 1024
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "... e"], t: Num[Array, ...], condition: Float[Array, "... d"]
    ) -> Float[Array, "... ee"]:
        """Predicts the noise in tokens at times `t`, and between which variances theirs lies: -1 to 1.

        [... E], [...], [... D] -> [... 2E], float32. Axes of length 1 go with any other; a condition is embedded once,
        however many noisy tokens it is for.
        """
        dense = functools.partial(nn.Dense, dtype=compute_dtype(self.dtype), kernel_init=xavier)
        h = dense(self.width, name="input")(x)
        # Sines come first, where MAR's code has cosines: only a layer's inputs are in another order.
        time = sinusoidal(t.reshape(-1), FREQUENCIES, endpoint=False).reshape(*t.shape, FREQUENCIES)
        time = nn.silu(dense(self.width, kernel_init=normal, name="time_0")(time))
        time = dense(self.width, kernel_init=normal, name="time_1")(time)
        c = nn.silu(time + dense(self.width, name="condition")(condition))
        for i in range(self.depth):
            h = DenoisingBlock(self.dtype, name=f"block_{i}")(h, c)
        shift, scale = jnp.split(dense(2 * self.width, kernel_init=zeros, name="modulation")(c), 2, axis=-1)
        norm = nn.LayerNorm(1e-6, compute_dtype(self.dtype), use_bias=False, use_scale=False)
        h = norm(h) * (1 + scale) + shift
        return dense(2 * x.shape[-1], kernel_init=zeros, name="out")(h).astype(jnp.float32)
