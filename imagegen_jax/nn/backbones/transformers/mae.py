"""The transformer of MAR (Li et al. 2024, arXiv 2406.11838, section 3.3): tokens that are vectors, most of them masked.

It is MAE's encoder and decoder (He et al. 2021, arXiv 2111.06377): the first sees the known tokens alone.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from imagegen_jax.core.config.bounds import BelowOne, Count
from imagegen_jax.core.model import PRNGKeys
from imagegen_jax.nn.backbones.conditioning import NOTHING, Conditioning, check_seen
from imagegen_jax.nn.dropout import Dropout
from imagegen_jax.nn.multihead import Implementation, MultiHeadAttention, check_heads
from imagegen_jax.nn.precision import Dtype, compute_dtype

xavier = nn.initializers.xavier_uniform()
normal = nn.initializers.normal(0.02)


class PreNormBlock(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)), as in ViT (arXiv 2010.11929)."""

    heads: int
    hidden: int
    dropout: float = 0.0
    attention: Implementation = "auto"
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l d"], seen: Bool[Array, "b l"] | None = None, keys: PRNGKeys | None = None
    ) -> Float[Array, "b l d"]:
        """Changes the places of a sequence, by those that are `seen`; None: by all. [B L D] -> [B L D]"""
        dense = functools.partial(nn.Dense, dtype=compute_dtype(self.dtype), kernel_init=xavier)
        drop = functools.partial(Dropout, self.dropout)
        attend = MultiHeadAttention(self.heads, self.attention, dtype=self.dtype, name="attention")
        x = x + drop(name="dropout_0")(attend(norm(self.dtype, "norm_0")(x), None, seen), keys)
        h = nn.gelu(dense(self.hidden, name="mlp_0")(norm(self.dtype, "norm_1")(x)), approximate=False)
        h = dense(x.shape[-1], name="mlp_1")(drop(name="dropout_1")(h, keys))
        return x + drop(name="dropout_2")(h, keys)


class MaskedAutoencoder(nn.Module):
    """Tells of every token of an image what its class and the known tokens tell. The defaults are MAR-B's.

    The class comes before the tokens `buffer` times, for the encoder has little else to compute with where few tokens
    are known. Unlike MAR's code, nothing is dropped out of the weights of attention, which fused attention never holds.
    `remat` keeps only the input of each block, and computes the block again in the backward pass. See
    `multihead.attend` for `attention`.
    """

    depth: Count = 12  # blocks of the encoder, and as many of the decoder
    width: Count = 768
    heads: Count = 12
    hidden: Count | None = None  # of the perceptrons; None: 4 times the width
    buffer: Count = 64
    dropout: BelowOne = 0.1  # of perceptrons, and of what attention and perceptrons add
    remat: bool = False
    attention: Implementation = "auto"
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "b l e"],
        masked: Bool[Array, "b l"],
        conditioning: Conditioning = NOTHING,
        most_known: int | None = None,
    ) -> Float[Array, "b l d"]:
        """Returns a vector for each token, masked or not: [B L E], [B L] -> [B L D], float32.

        Masked tokens are not read. No row may have more than `most_known` that are not masked (None: it may have all):
        so many places the encoder has, however many are known. Raises ValueError where heads do not fit the width.
        """
        check_seen(self, conditioning, "labels")
        check_heads(self.width, self.heads)
        length = tokens.shape[1]
        places, seen = known_first(masked, length if most_known is None else most_known)
        h = jnp.take_along_axis(tokens, places[..., None], axis=1)
        h = self._encode(h, places, seen, length, conditioning)
        index = jnp.clip(jnp.cumsum(~masked, axis=1) - 1, 0, places.shape[1] - 1)  # of a token among the known ones
        return self._decode(h, index, masked, conditioning.keys)

    def _encode(
        self,
        h: Float[Array, "b k e"],
        places: Array,
        seen: Bool[Array, "b k"],
        length: int,
        conditioning: Conditioning,
    ) -> Float[Array, "b m d"]:
        """Encodes the class and the known tokens: [B K E] -> [B buffer+K D]"""
        dtype = compute_dtype(self.dtype)
        h = nn.Dense(self.width, dtype=dtype, kernel_init=xavier, name="input")(h)
        classes = jnp.broadcast_to(self._class(conditioning, len(h))[:, None], (len(h), self.buffer, self.width))
        position = self.param("encoder_position", normal, (self.buffer + length, self.width))
        h = h + position[self.buffer + places].astype(dtype)
        h = jnp.concatenate([(classes + position[: self.buffer]).astype(dtype), h], axis=1)
        h = norm(self.dtype, "norm_in")(h)
        whole = jnp.concatenate([jnp.ones((len(h), self.buffer), bool), seen], axis=1)
        return self._blocks(h, "encoder", whole, conditioning.keys)

    def _decode(
        self, h: Float[Array, "b m d"], index: Array, masked: Bool[Array, "b l"], keys: PRNGKeys | None
    ) -> Float[Array, "b l d"]:
        """Puts what the encoder made in the places of tokens, and decodes: [B buffer+K D] -> [B L D]"""
        dtype = compute_dtype(self.dtype)
        h = nn.Dense(self.width, dtype=dtype, kernel_init=xavier, name="middle")(h)
        first, known = h[:, : self.buffer], h[:, self.buffer :]
        mask = self.param("mask", normal, (1, self.width)).astype(dtype)
        tokens = jnp.where(masked[..., None], mask, jnp.take_along_axis(known, index[..., None], axis=1))
        h = jnp.concatenate([first, tokens], axis=1)
        h = h + self.param("decoder_position", normal, h.shape[1:]).astype(dtype)
        h = self._blocks(h, "decoder", None, keys)[:, self.buffer :].astype(jnp.float32)
        return h + self.param("position", normal, h.shape[1:])

    def _class(self, conditioning: Conditioning, n: int) -> Float[Array, "b d"]:
        """Embeds the class, or that there is none."""
        labels = jnp.zeros((n, 0)) if conditioning.labels is None else conditioning.labels
        labels = jnp.concatenate([labels, 1 - labels.sum(axis=1, keepdims=True)], axis=1)
        table = self.param("class", normal, (labels.shape[1], self.width))
        found: Array = jnp.matmul(labels, table, precision="highest")
        return found

    def _blocks(
        self, h: Float[Array, "b m d"], name: str, seen: Bool[Array, "b m"] | None, keys: PRNGKeys | None
    ) -> Float[Array, "b m d"]:
        block: Any = nn.remat(PreNormBlock) if self.remat else PreNormBlock
        hidden = self.hidden or 4 * self.width
        for i in range(self.depth):
            made = block(self.heads, hidden, self.dropout, self.attention, self.dtype, name=f"{name}_{i}")
            h = made(h, seen, keys)
        return norm(self.dtype, f"{name}_norm")(h)


def known_first(masked: Bool[Array, "b l"], most: int) -> tuple[Array, Bool[Array, "b k"]]:
    """Returns the places of a row's tokens that are not masked, in order, and which of these `most` places are so."""
    places = jnp.argsort(masked, axis=1, stable=True)[:, :most]
    return places, jnp.arange(places.shape[1]) < jnp.sum(~masked, axis=1, keepdims=True)


def norm(dtype: Dtype, name: str) -> nn.LayerNorm:
    """Makes a norm of mean and variance with ViT's epsilon."""
    return nn.LayerNorm(1e-6, compute_dtype(dtype), name=name)
