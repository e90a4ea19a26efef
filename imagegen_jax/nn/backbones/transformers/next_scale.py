"""The transformer of VAR (Tian et al. 2024, arXiv 2404.02905): predicts all codes of a scale from coarser scales."""

from __future__ import annotations

import functools
import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.typing import Initializer
from jaxtyping import Array, Bool, Float

from imagegen_jax.core.config.bounds import BelowOne, Count
from imagegen_jax.core.model import PRNGKey, PRNGKeys
from imagegen_jax.nn.backbones.conditioning import NOTHING, Conditioning, check_seen
from imagegen_jax.nn.backbones.dit import modulated
from imagegen_jax.nn.backbones.transformers.code_network import ScaleCodes
from imagegen_jax.nn.dropout import Dropout, DropPath
from imagegen_jax.nn.multihead import Cursor, Implementation, MultiHeadAttention, check_heads
from imagegen_jax.nn.precision import Dtype, compute_dtype

zeros = nn.initializers.zeros


class ScaleBlock(nn.Module):
    """Attention, then a perceptron, each normed, scaled, shifted and gated by the class, as in DiT.

    Gates start near 0, not at 0. What a block adds is dropped for whole rows at the rate `drop_path`.
    """

    heads: int
    hidden: int
    depth: int  # of the network: what is added starts the smaller, the more blocks add to it
    dropout: float = 0.0
    drop_path: float = 0.0
    attention: Implementation = "auto"
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        c: Float[Array, "b d"],
        keys: PRNGKeys | None = None,
        pairs: Bool[Array, "l m"] | None = None,
        cursor: Cursor | None = None,
    ) -> Float[Array, "b l d"]:
        """Changes the places of a sequence, or of a piece of it: [B L D] -> [B L D]; see `MultiHeadAttention`."""
        d = x.shape[-1]
        dense = functools.partial(nn.Dense, dtype=compute_dtype(self.dtype))
        init, small = normal(d), normal(d, (2 * self.depth) ** -0.5)
        modulation = dense(6 * d, kernel_init=_modulating(d), name="modulation")(nn.silu(c))[:, None]
        gate_1, gate_2, scale_1, scale_2, shift_1, shift_2 = jnp.split(modulation, 6, axis=-1)
        attend = MultiHeadAttention(
            self.heads, self.attention, small, self.dtype, init, cosine=True, name="attention"
        )  # fmt: skip
        path = functools.partial(DropPath, self.drop_path)
        h = attend(modulated(x, shift_1, scale_1, self.dtype), None, None, pairs, None, cursor)
        h = Dropout(self.dropout, name="dropout_0")(h, keys)
        x = x + path(name="path_0")(gate_1 * h, keys)
        h = nn.gelu(dense(self.hidden, kernel_init=init, name="mlp_0")(modulated(x, shift_2, scale_2, self.dtype)))
        h = Dropout(self.dropout, name="dropout_1")(dense(d, kernel_init=small, name="mlp_1")(h), keys)
        return x + path(name="path_1")(gate_2 * h, keys)


class NextScale(nn.Module):
    """Predicts the codes of each scale from its class and the scales before. The defaults are VAR-d16's.

    A scale reads what the tokenizer makes of the codes before it, at its own size. Places of a scale see each other and
    all coarser ones. `var` makes the published sizes. `remat` keeps only the input of each block, and computes the
    block again in the backward pass. See `multihead.attend` for `attention`.
    """

    depth: Count = 16
    width: Count = 1024
    heads: Count = 16
    hidden: Count | None = None  # of the perceptrons; None: 4 times the width
    dropout: BelowOne = 0.0
    drop_path: BelowOne = 0.1 * 16 / 24  # of the last block: 0 in the first, and rising evenly
    remat: bool = False
    attention: Implementation = "auto"
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "b m e"],
        codes: ScaleCodes,
        conditioning: Conditioning = NOTHING,
        scale: int | None = None,
    ) -> Float[Array, "b l v"]:
        """Returns logits of the codes of all scales, or of the `scale` of that number alone.

        [B L - first E] -> [B L V], float32: `inputs` are those of all scales but the first, which reads the class. With
        a `scale` they are its own, none for the first, and the collection "cache" holds the scales before it. Raises
        ValueError where heads or inputs do not fit.
        """
        check_seen(self, conditioning, "labels")
        check_heads(self.width, self.heads)
        first, last = (0, len(codes.sizes)) if scale is None else (scale, scale + 1)
        at, end = codes.starts[first], codes.starts[last]
        _check_inputs(inputs, end - at - (codes.counts[0] if first == 0 else 0))
        dtype = compute_dtype(self.dtype)
        c = self._class(conditioning, len(inputs))
        h = nn.Dense(self.width, dtype=dtype, kernel_init=normal(self.width), name="input")(inputs)
        start = self.param("start", normal(self.width), (codes.counts[0], self.width))
        if first == 0:
            h = jnp.concatenate([(c[:, None] + start).astype(dtype), h], axis=1)
        position = self.param("position", normal(self.width), (codes.length, self.width))
        level = self.param("level", normal(self.width), (len(codes.sizes), self.width))
        h = h + (level[codes.scale_of] + position)[at:end].astype(dtype)
        pairs = jnp.asarray(codes.scale_of[:, None] >= codes.scale_of) if scale is None else None
        cursor = None if scale is None else Cursor(jnp.asarray(at), codes.length)
        h = self._blocks(h, c, conditioning.keys, pairs, cursor)
        return self._head(h, c, codes.vocabulary)

    def _class(self, conditioning: Conditioning, n: int) -> Float[Array, "b d"]:
        """Embeds the class, or that there is none."""
        labels = jnp.zeros((n, 0)) if conditioning.labels is None else conditioning.labels
        labels = jnp.concatenate([labels, 1 - labels.sum(axis=1, keepdims=True)], axis=1)
        table = self.param("class", normal(self.width), (labels.shape[1], self.width))
        found: Array = jnp.matmul(labels, table, precision="highest")
        return found

    def _blocks(self, h: Float[Array, "b l d"], c: Float[Array, "b d"], *inputs: Any) -> Float[Array, "b l d"]:
        block: Any = nn.remat(ScaleBlock) if self.remat and inputs[-1] is None else ScaleBlock
        hidden = self.hidden or 4 * self.width
        for i, rate in enumerate(np.linspace(0, self.drop_path, self.depth).tolist()):
            made = block(
                self.heads, hidden, self.depth, self.dropout, rate, self.attention, self.dtype, name=f"block_{i}"
            )
            h = made(h, c, *inputs)
        return h

    def _head(self, h: Float[Array, "b l d"], c: Float[Array, "b d"], vocabulary: int) -> Float[Array, "b l v"]:
        dtype, init = compute_dtype(self.dtype), normal(self.width, 0.5)
        modulation = nn.Dense(2 * self.width, dtype=dtype, kernel_init=init, name="modulation")(nn.silu(c))
        scale, shift = jnp.split(modulation[:, None], 2, axis=-1)
        h = modulated(h, shift, scale, self.dtype)
        return nn.Dense(vocabulary, dtype=jnp.float32, kernel_init=normal(self.width, 0.02), name="head")(h)


def var(depth: int, **fields: Any) -> NextScale:
    """Makes VAR's network of a depth, such as 16, 20, 24 or 30: 64 times as wide, with as many heads (section 3.2)."""
    return NextScale(depth, 64 * depth, depth, **{"drop_path": 0.1 * depth / 24, **fields})


def normal(width: int, times: float = 1.0) -> Initializer:
    """Returns VAR's initialiser, normal with a variance of 1 / (3 `width`), for a network so wide, `times` a factor."""
    return nn.initializers.normal(times / math.sqrt(3 * width))


def _modulating(width: int) -> Initializer:
    """Returns the initialiser of gates, scales and shifts: the gates are next to nothing, but have a gradient."""
    times = np.repeat([1e-5, 0.5], [2 * width, 4 * width])

    def init(key: PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jnp.asarray(times, dtype) * normal(width)(key, shape, dtype)

    return init


def _check_inputs(inputs: Float[Array, "b m e"], wanted: int) -> None:
    if inputs.shape[1] != wanted:
        raise ValueError(f"{inputs.shape[1]} inputs are given for {wanted} codes that read one")
