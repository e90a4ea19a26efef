"""Self-attention over the pixels of a feature map."""

from __future__ import annotations

import functools

import flax.linen as nn
from flax.typing import Initializer
from jaxtyping import Array, Float

from imagegen_jax.nn.init import fan_avg_uniform
from imagegen_jax.nn.multihead import Implementation, attend, in_heads
from imagegen_jax.nn.norm import group_norm
from imagegen_jax.nn.precision import Dtype, compute_dtype


class SelfAttention(nn.Module):
    """x + proj(attention(norm(x))); the defaults are the attention block of DDPM (Ho et al. 2020, appendix B)."""

    dtype: Dtype = "auto"
    heads: int = 1  # each sees channels / heads of the channels
    epsilon: float = 1e-6  # of the norm
    kernel_init: Initializer = fan_avg_uniform()  # of queries, keys and values
    bias_init: Initializer = nn.initializers.zeros_init()
    out_init: Initializer = fan_avg_uniform(0)
    implementation: Implementation = "auto"  # see `multihead.attend`

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Adds attention over all pixels: [B H W C] -> [B H W C]. C is divisible by the number of heads."""
        b, h, w, c = x.shape
        dtype = compute_dtype(self.dtype)
        dense = functools.partial(nn.Dense, c, dtype=dtype)
        normed = group_norm(c, dtype, "norm", self.epsilon)(x).reshape(b, h * w, c)
        q, k, v = (
            in_heads(dense(kernel_init=self.kernel_init, bias_init=self.bias_init, name=name)(normed), self.heads)
            for name in ("query", "key", "value")
        )
        mixed = attend(q, k, v, self.implementation).reshape(b, h, w, c)
        return x + dense(kernel_init=self.out_init, name="out")(mixed)
