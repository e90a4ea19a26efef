"""Transformers that predict codes one after another: taming's GPT and LlamaGen's, in their published sizes.

Esser et al. 2021 (arXiv 2012.09841) and Sun et al. 2024 (arXiv 2406.06525).
"""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.core.config.bounds import BelowOne, Count
from imagegen_jax.nn.backbones.conditioning import NOTHING, Conditioning, check_seen
from imagegen_jax.nn.backbones.transformers.code_network import Codes
from imagegen_jax.nn.backbones.transformers.transformer import LLAMA, Style, Transformer, normal_init
from imagegen_jax.nn.dropout import Dropout
from imagegen_jax.nn.embed import rotary
from imagegen_jax.nn.multihead import Cursor, Implementation, check_heads
from imagegen_jax.nn.precision import Dtype, compute_dtype

# Blocks, width and heads of LlamaGen's Table 1 and of its code.
LLAMAGEN_SIZES = {
    "B": (12, 768, 12),
    "L": (24, 1024, 16),
    "XL": (36, 1280, 20),
    "XXL": (48, 1536, 24),
    "3B": (24, 3200, 32),
}


class GPT(nn.Module):
    """Predicts each code of an image from its class and the codes before. The defaults are taming's for faces.

    The class is the first of the sequence. `start` "own" has an embedding for each class and one for a label that is
    dropped or not there; "code" embeds class k as code k, as taming's models do, a dropped label as zeros, and where
    there are no classes begins with code 0. Positions are "learned", or "rotary" by row and column. `remat` keeps only
    the input of each block, and computes the block again in the backward pass. See `multihead.attend` for `attention`.
    """

    depth: Count = 24
    width: Count = 1024
    heads: Count = 16
    hidden: Count | None = None  # of the perceptrons; None: 4 times the width
    style: Style = Style()
    positions: Literal["learned", "rotary"] = "learned"
    start: Literal["own", "code"] = "own"
    zero_head: bool = False  # whether all codes start as equally likely
    dropout: BelowOne = 0.0  # of what attention and perceptrons add
    code_dropout: BelowOne = 0.0  # of the embedded sequence
    remat: bool = False
    attention: Implementation = "auto"
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self,
        before: Int[Array, "b l"],
        codes: Codes,
        conditioning: Conditioning = NOTHING,
        at: Int[Array, ""] | None = None,
    ) -> Float[Array, "b m v"]:
        """Returns logits of the codes 0 to L from those before, or with `at` of one alone: see `CausalNetwork`.

        [B L] -> [B L+1 V], or with `at` [B 1] -> [B 1 V]; float32. Raises ValueError where heads do not fit the width,
        or there are more codes than places.
        """
        check_seen(self, conditioning, "labels")
        check_heads(self.width, self.heads)
        if before.shape[1] >= codes.length + (at is not None):
            raise ValueError(f"{before.shape[1]} codes before the next, but an image has {codes.length} in all")
        embed = nn.Embed(
            codes.vocabulary, self.width, dtype=compute_dtype(self.dtype), embedding_init=normal_init, name="code"
        )
        start = self._start(embed, conditioning, len(before))[:, None]
        if at is None:
            h, cursor = jnp.concatenate([start, embed(before)], axis=1), None
        else:
            h, cursor = jnp.where(at == 0, start, embed(before)), Cursor(at, codes.length)
        h, rotation = self._placed(h, 0 if at is None else at, codes)
        h = Dropout(self.code_dropout, name="code_dropout")(h, conditioning.keys)
        transformer = Transformer(
            self.depth, self.heads, self.hidden or 4 * self.width, self.style, self.dropout, self.remat,
            self.attention, self.dtype, name="transformer",
        )  # fmt: skip
        h = transformer(h, conditioning.keys, None, rotation, cursor)
        init = nn.initializers.zeros if self.zero_head else normal_init
        head = nn.Dense(codes.vocabulary, use_bias=False, dtype=jnp.float32, kernel_init=init, name="head")
        return head(h)

    def _start(self, embed: nn.Embed, conditioning: Conditioning, n: int) -> Float[Array, "b d"]:
        """Embeds the class, or that there is none."""
        labels = jnp.zeros((n, 0)) if conditioning.labels is None else conditioning.labels
        none = 1 - labels.sum(axis=1, keepdims=True)
        if self.start == "own":
            labels = jnp.concatenate([labels, none], axis=1)
            table = self.param("start", normal_init, (labels.shape[1], self.width))
        elif labels.shape[1] > len(embed.embedding):
            raise ValueError(
                f"start='code' embeds class k as code k, but there are {labels.shape[1]} classes and "
                f"{len(embed.embedding)} codes: use start='own'"
            )
        else:
            labels = labels if labels.shape[1] else none
            table = embed.embedding[: labels.shape[1]]
        started: Array = labels.astype(table.dtype) @ table
        return started.astype(compute_dtype(self.dtype))

    def _placed(
        self, h: Float[Array, "b m d"], place: Int[Array, ""] | int, codes: Codes
    ) -> tuple[Float[Array, "b m d"], Float[Array, "m r 2"] | None]:
        """Adds learned positions from `place` on, or returns the rotation there."""
        if self.positions == "learned":
            table = self.param("position", nn.initializers.zeros, (codes.length, self.width))
            return h + jax.lax.dynamic_slice_in_dim(table, place, h.shape[1]).astype(h.dtype), None
        if len(codes.shape) != 2:
            raise ValueError(
                f"codes of shape {codes.shape} have no rows and columns to rotate by: use positions='learned'"
            )
        table = rotary(*codes.shape, self.width // self.heads)
        # As in LlamaGen's code the class is turned by a matrix of zeros: all see it alike, whatever its key would be.
        table = jnp.concatenate([jnp.zeros_like(table[:1]), table[:-1]])
        return h, jax.lax.dynamic_slice_in_dim(table, place, h.shape[1])


def llamagen(size: str, **fields: Any) -> GPT:
    """Makes LlamaGen's network of a size of `LLAMAGEN_SIZES`, such as "B"; `fields` are further ones of `GPT`.

    The perceptrons are 8/3 times as wide, rounded up to a multiple of 256. Raises ValueError for an unknown size.
    """
    if size not in LLAMAGEN_SIZES:
        raise ValueError(f"there is no LlamaGen of size {size!r}: use one of {', '.join(LLAMAGEN_SIZES)}")
    depth, width, heads = LLAMAGEN_SIZES[size]
    hidden = -(-(8 * width // 3) // 256) * 256
    fields = {"dropout": 0.1, "code_dropout": 0.1, **fields}
    return GPT(depth, width, heads, hidden, LLAMA, "rotary", zero_head=True, **fields)
