"""Self-attention over the pixels of a feature map, and attention whose weights lie as published files have them."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Initializer
from jaxtyping import Array, Bool, Float

from imagegen_jax.nn.init import fan_avg_uniform
from imagegen_jax.nn.multihead import Implementation, attend, check_heads, in_heads
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


class SequenceAttention(nn.Module):
    """Attention within a sequence, or from it to another, with a layer each for queries, keys, values and output.

    These are the weights of published text encoders and of latent diffusion, one by one, and what low-rank updates of
    them are about; `MultiHeadAttention` has queries, keys and values in one.
    """

    heads: int
    head_channels: int | None = None  # None: those of the sequence over `heads`
    use_bias: bool = True  # of queries, keys and values
    out_bias: bool = True
    causal: bool = False  # whether a place sees itself and those before it alone
    scaled: bool = True  # whether logits are divided by the root of a head's channels, as everywhere but in T5
    implementation: Implementation = "auto"  # see `multihead.attend`
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    out_init: Initializer = nn.initializers.xavier_uniform()
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        tokens: Float[Array, "b m e"] | None = None,
        mask: Bool[Array, "b m"] | None = None,
        bias: Float[Array, "1 n l m"] | None = None,
    ) -> Float[Array, "b l d"]:
        """Attends from each place of `x` to the `tokens` where `mask` is True; None: to `x` itself, and everywhere.

        `bias` is added to the logits. A row whose mask is all False attends to nothing. Raises ValueError where
        `heads` has to divide D and does not.
        """
        d = x.shape[-1]
        if self.head_channels is None:
            check_heads(d, self.heads)
        width = d if self.head_channels is None else self.heads * self.head_channels
        dense = functools.partial(nn.Dense, dtype=compute_dtype(self.dtype))
        inner = functools.partial(dense, width, self.use_bias, kernel_init=self.kernel_init)
        seen = x if tokens is None else tokens
        q, k, v = (
            in_heads(inner(name=name)(of), self.heads) for name, of in (("query", x), ("key", seen), ("value", seen))
        )
        pairs = None if mask is None else mask[:, None, None, :]
        q = q if self.scaled else q * q.shape[-1] ** 0.5  # by whose inverse `attend` multiplies
        mixed = attend(q, k, v, self.implementation, pairs, self.causal, bias, tokens is not None)
        mixed = mixed.reshape(*x.shape[:2], width)
        if mask is not None:
            # A softmax over nothing would be the mean of the masked tokens.
            mixed = jnp.where(mask.any(axis=1)[:, None, None], mixed, 0)
        return dense(d, self.out_bias, kernel_init=self.out_init, name="out")(mixed)
