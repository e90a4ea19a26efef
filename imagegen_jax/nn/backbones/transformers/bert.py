"""The transformer of MaskGIT (Chang et al. 2022, arXiv 2202.04200): BERT's (arXiv 1810.04805) over an image's codes."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.core.config.bounds import BelowOne, Count
from imagegen_jax.core.model import PRNGKeys
from imagegen_jax.nn.backbones.conditioning import NOTHING, Conditioning, check_seen
from imagegen_jax.nn.backbones.transformers.code_network import Codes
from imagegen_jax.nn.dropout import Dropout
from imagegen_jax.nn.multihead import Implementation, MultiHeadAttention, check_heads
from imagegen_jax.nn.precision import Dtype, compute_dtype

EPSILON = 1e-12  # of BERT's norms

# Normal, cut off at two deviations; the variance of what is left is not made up for, as in MaskGIT's code.
init = nn.initializers.truncated_normal(0.02)


class PostNormBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + perceptron(x)), as in Vaswani et al. 2017 (arXiv 1706.03762)."""

    heads: int
    hidden: int
    dropout: float = 0.0
    attention: Implementation = "auto"
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"], keys: PRNGKeys | None = None) -> Float[Array, "b l d"]:
        """Changes the places of a sequence, each of which sees all: [B L D] -> [B L D]"""
        dense = functools.partial(nn.Dense, dtype=compute_dtype(self.dtype), kernel_init=init)
        attend = MultiHeadAttention(self.heads, self.attention, init, self.dtype, init, name="attention")
        x = norm(self.dtype, "norm_0")(x + Dropout(self.dropout, name="dropout_0")(attend(x), keys))
        h = dense(x.shape[-1], name="mlp_1")(nn.gelu(dense(self.hidden, name="mlp_0")(x)))
        return norm(self.dtype, "norm_1")(x + Dropout(self.dropout, name="dropout_1")(h, keys))


class BERT(nn.Module):
    """Predicts every code of an image from its class and the codes that are known. The defaults are MaskGIT's.

    Codes, classes and the mask are words of one vocabulary, whose table also gives the logits. The class is the first
    word of the sequence, and masked where a label is dropped. Unlike MaskGIT's code, nothing is dropped out of the
    weights of attention, which fused attention never holds. `remat` keeps only the input of each block, and computes
    the block again in the backward pass. See `multihead.attend` for `attention`.
    """

    depth: Count = 24
    width: Count = 768
    heads: Count = 16
    hidden: Count | None = None  # of the perceptrons; None: 4 times the width
    dropout: BelowOne = 0.1  # of the embedded sequence, and of what attention and perceptrons add
    remat: bool = False
    attention: Implementation = "auto"
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self, given: Int[Array, "b l"], codes: Codes, conditioning: Conditioning = NOTHING
    ) -> Float[Array, "b l v"]:
        """Returns logits of every code, where `given` has `codes.vocabulary` in place of masked ones.

        [B L] -> [B L V]; float32. Raises ValueError where heads do not fit the width, or not all codes are given.
        """
        check_seen(self, conditioning, "labels")
        check_heads(self.width, self.heads)
        if given.shape[1] != codes.length:
            raise ValueError(f"{given.shape[1]} codes are given, but an image has {codes.length}: mask the others")
        dtype = compute_dtype(self.dtype)
        words = _words(given, codes, conditioning)
        classes = 0 if conditioning.labels is None else conditioning.labels.shape[1]
        table = nn.Embed(codes.vocabulary + classes + 1, self.width, dtype=dtype, embedding_init=init, name="word")
        position = self.param("position", init, (words.shape[1], self.width))
        h = norm(self.dtype, "norm_in")(table(words) + position.astype(dtype))
        h = Dropout(self.dropout, name="dropout")(h, conditioning.keys)
        h = self._blocks(h, conditioning.keys)[:, -codes.length :]
        h = nn.gelu(nn.Dense(self.width, dtype=dtype, kernel_init=init, name="head")(h))
        bias = self.param("bias", nn.initializers.zeros, (table.num_embeddings,))
        book = table.embedding[: codes.vocabulary].T.astype(dtype)
        logits = jnp.matmul(norm(self.dtype, "norm_out")(h), book, preferred_element_type=jnp.float32)
        return logits + bias[: codes.vocabulary]

    def _blocks(self, h: Float[Array, "b l d"], keys: PRNGKeys | None) -> Float[Array, "b l d"]:
        block: Any = nn.remat(PostNormBlock) if self.remat else PostNormBlock
        hidden = self.hidden or 4 * self.width
        for i in range(self.depth):
            h = block(self.heads, hidden, self.dropout, self.attention, self.dtype, name=f"block_{i}")(h, keys)
        return h


def _words(given: Int[Array, "b l"], codes: Codes, conditioning: Conditioning) -> Int[Array, "b m"]:
    """Returns the words of a sequence: codes from 0, classes after them, and last the mask; a class comes first."""
    labels = conditioning.labels
    if labels is None:
        return given
    mask = codes.vocabulary + labels.shape[1]
    first = jnp.where(labels.any(axis=1), codes.vocabulary + jnp.argmax(labels, axis=1), mask)
    return jnp.concatenate([first[:, None], jnp.where(given == codes.vocabulary, mask, given)], axis=1)


def norm(dtype: Dtype, name: str) -> nn.LayerNorm:
    """Makes a norm of mean and variance with BERT's epsilon."""
    return nn.LayerNorm(EPSILON, compute_dtype(dtype), name=name)
