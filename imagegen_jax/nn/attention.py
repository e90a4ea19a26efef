"""Self-attention over the pixels of a feature map."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.nn.init import fan_avg_uniform
from imagegen_jax.nn.norm import group_norm
from imagegen_jax.nn.precision import Dtype, compute_dtype


class SelfAttention(nn.Module):
    """x + proj(attention(norm(x))) with one head: the attention block of DDPM (Ho et al. 2020, appendix B)."""

    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        dtype = compute_dtype(self.dtype)
        normed = group_norm(c, dtype, name="norm")(x).reshape(b, h * w, c)
        q, k, v = (
            nn.Dense(c, dtype=dtype, kernel_init=fan_avg_uniform(), name=name)(normed)
            for name in ("query", "key", "value")
        )
        logits = jnp.einsum("bqc,bkc->bqk", q * c**-0.5, k, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits).astype(dtype)
        mixed = jnp.einsum("bqk,bkc->bqc", weights, v).reshape(b, h, w, c)
        return x + nn.Dense(c, dtype=dtype, kernel_init=fan_avg_uniform(0), name="out")(mixed)
