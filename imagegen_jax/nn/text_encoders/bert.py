"""BERT (Devlin et al. 2018, arXiv 1810.04805), of which MiniLM (Wang et al. 2020, arXiv 2002.10957) is a small one."""

from __future__ import annotations

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.model import PRNGKeys
from imagegen_jax.nn.backbones.transformers.transformer import Style, norm, normal_init
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.text_encoders.block import Embedding, TextBlock
from imagegen_jax.nn.text_encoders.encoding import TextEncoding

STYLE = Style(causal=False, epsilon=1e-12)
SEGMENTS = 2  # a text may be the first or the second of a pair; here it is the first


class BERTText(nn.Module):
    """Learned words and places, and blocks that norm their sums. The defaults are MiniLM's: 22,713,216 parameters."""

    vocabulary_size: Count = 30_522
    context: Count = 512
    width: Count = 384
    depth: Count = 6
    heads: Count = 12
    expansion: Count = 4  # of the perceptrons' hidden layer
    pooling: Literal["first", "mean"] = "first"  # of the pooled vector: BERT's layer over the first token, or the mean
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, text: Int[Array, "b m"], mask: Bool[Array, "b m"], keys: PRNGKeys | None = None) -> TextEncoding:
        """Encodes texts, of which `mask` is False where a token only fills a row up: [B M] -> [B M D], [B M], [B D]

        Nothing is dropped out by `keys`.
        """
        dtype = compute_dtype(self.dtype)
        segment = self.param("segment", normal_init, (SEGMENTS, self.width))[0].astype(dtype)
        h = Embedding(self.vocabulary_size, self.context, self.width, self.dtype, name="embedding")(text)
        h = norm(STYLE, self.dtype, "norm_in")(h + segment)
        for i in range(self.depth):
            block = TextBlock(
                self.heads, self.expansion * self.width, STYLE, post_norm=True, dtype=self.dtype, name=f"block_{i}"
            )
            h = block(h, mask)
        pooled = jnp.tanh(nn.Dense(self.width, dtype=dtype, kernel_init=normal_init, name="pool")(h[:, 0]))
        if self.pooling == "mean":
            pooled = jnp.mean(h, axis=1, where=mask[..., None])
        return TextEncoding(h, mask, pooled)
