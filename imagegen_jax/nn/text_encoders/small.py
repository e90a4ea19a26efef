"""A small transformer that reads texts, to be trained with the network that draws: it needs nothing from outside."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from imagegen_jax.core.config.bounds import BelowOne, Count
from imagegen_jax.core.model import PRNGKeys
from imagegen_jax.nn.backbones.transformers.transformer import Style, Transformer, normal_init
from imagegen_jax.nn.multihead import check_heads
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.text_encoders.encoding import TextEncoding

_EACH_SEES_ALL = Style(activation="gelu_tanh", causal=False)


class TextTransformer(nn.Module):
    """Learned words and places, and blocks of attention in which each token sees all others that are no padding.

    Words start from N(0, 1): vectors that differ from the first step on are told apart within a few hundred steps.
    """

    vocabulary_size: Count = 10_000
    context: Count = 32
    width: Count = 256
    depth: Count = 2
    heads: Count = 4
    expansion: Count = 4  # of the perceptrons' hidden layer
    dropout: BelowOne = 0.0
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, text: Int[Array, "b m"], mask: Bool[Array, "b m"], keys: PRNGKeys | None = None) -> TextEncoding:
        """Encodes texts: [B M], [B M] -> tokens [B M width], the mask as it is, and the mean of what it lets through.

        Raises ValueError where `heads` does not divide `width`.
        """
        check_heads(self.width, self.heads)
        dtype = compute_dtype(self.dtype)
        word = nn.Embed(
            self.vocabulary_size, self.width, dtype=dtype, embedding_init=nn.initializers.normal(1.0), name="word"
        )
        place = self.param("place", normal_init, (self.context, self.width))
        h = word(text) + place[: text.shape[1]].astype(dtype)
        blocks = Transformer(
            self.depth, self.heads, self.expansion * self.width, _EACH_SEES_ALL, self.dropout, False, "xla", self.dtype,
            name="blocks",
        )  # fmt: skip
        tokens = blocks(h, keys, mask=mask)
        return TextEncoding(tokens, mask, _mean(tokens, mask))


def _mean(tokens: Float[Array, "b m e"], mask: Bool[Array, "b m"]) -> Float[Array, "b e"]:
    seen = mask[..., None]
    return jnp.sum(jnp.where(seen, tokens, 0), axis=1) / jnp.maximum(jnp.sum(seen, axis=1), 1)
