"""Attention with many heads, within a sequence or from it to another, and the product that all attention computes."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Initializer
from jaxtyping import Array, Bool, Float, Int

from imagegen_jax.core.platform.target import platform
from imagegen_jax.nn.init import fan_avg_uniform
from imagegen_jax.nn.norm import group_norm
from imagegen_jax.nn.precision import Dtype, compute_dtype

Implementation = Literal["auto", "xla", "cudnn"]


class Cursor(NamedTuple):
    """Where a sequence that is made piece by piece has got to, so that attention recalls the pieces before."""

    at: Int[Array, ""]  # the place of the piece's first row
    length: int  # places of the whole sequence: memory is set aside for all, so that every piece is one program


class MultiHeadAttention(nn.Module):
    """`attend` between dense layers, with D / heads channels for each head; it explains `implementation`."""

    heads: int
    implementation: Implementation = "auto"
    out_init: Initializer = nn.initializers.xavier_uniform()
    dtype: Dtype = "auto"
    kernel_init: Initializer = nn.initializers.xavier_uniform()  # of queries, keys and values
    use_bias: bool = True
    causal: bool = False  # whether a place sees itself and those before it alone
    cosine: bool = (
        False  # within a sequence: whether queries and keys are compared by their directions, see `_directed`
    )

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        tokens: Float[Array, "b m e"] | None = None,
        mask: Bool[Array, "b m"] | None = None,
        pairs: Bool[Array, "l m"] | None = None,
        rotation: Float[Array, "l r 2"] | None = None,
        cursor: Cursor | None = None,
    ) -> Float[Array, "b l d"]:
        """Attends from each place of `x` to the `tokens` where `mask` is True.

        Without tokens it attends to the places of `x`, and without a mask to all. `pairs` says which place sees which,
        in all rows; `rotation` (`embed.rotary`) turns queries and keys. With a `cursor`, `x` is a piece of a sequence
        whose earlier pieces are recalled from the collection "cache", to which this one is added; it sees itself, and
        what came before.

        A row whose mask is all False attends to nothing. Raises ValueError unless `heads` divides D.
        """
        d = x.shape[-1]
        check_heads(d, self.heads)
        dense = functools.partial(
            nn.Dense, use_bias=self.use_bias, dtype=compute_dtype(self.dtype), kernel_init=self.kernel_init
        )
        if tokens is None:
            q, k, v = jnp.split(dense(3 * d, use_bias=self.use_bias and not self.cosine, name="qkv")(x), 3, axis=-1)
        else:
            q = dense(d, name="query")(x)
            k, v = jnp.split(dense(2 * d, name="key_value")(tokens), 2, axis=-1)
        q, k, v = (in_heads(a, self.heads) for a in (q, k, v))
        if self.cosine:
            q, k, v = self._directed(q, k, v)
        if rotation is not None:
            q, k = rotated(q, rotation), rotated(k, rotation)
        seen = _seen(mask, pairs)
        if cursor is None:
            mixed = attend(q, k, v, self.implementation, seen, self.causal, None, tokens is not None).reshape(x.shape)
        else:
            mixed = self._recall(q, k, v, cursor, seen).reshape(x.shape)
        if mask is not None:
            # A softmax over nothing would be the mean of the masked tokens.
            mixed = jnp.where(mask.any(axis=1)[:, None, None], mixed, 0)
        return dense(d, kernel_init=self.out_init, name="out")(mixed)

    def _directed(
        self, q: Float[Array, "b l n d"], k: Float[Array, "b l n d"], v: Float[Array, "b l n d"]
    ) -> tuple[Float[Array, "b l n d"], Float[Array, "b l n d"], Float[Array, "b l n d"]]:
        """Brings queries and keys to length 1, and the queries to a learned one of each head, at most 100, from 4 on.

        This is the attention of VAR's code (Tian et al. 2024, arXiv 2404.02905). A bias has no place in keys of which
        the direction counts: queries and values alone have one.
        """
        heads, d = q.shape[2:]
        if self.use_bias:
            q = q + self.param("query_bias", nn.initializers.zeros, (heads, d))
            v = v + self.param("value_bias", nn.initializers.zeros, (heads, d)).astype(v.dtype)
        log_length = self.param("log_length", nn.initializers.constant(math.log(4)), (heads, 1))
        length = jnp.exp(jnp.minimum(log_length, math.log(100)))
        long = _direction(q) * length * d**0.5  # by whose inverse `attend` multiplies
        return long.astype(k.dtype), _direction(k).astype(k.dtype), v

    def _recall(
        self,
        q: Float[Array, "b l n d"],
        k: Float[Array, "b l n d"],
        v: Float[Array, "b l n d"],
        cursor: Cursor,
        seen: Bool[Array, "#b 1 #l m"] | None,
    ) -> Float[Array, "b l n d"]:
        """Adds keys and values to those kept of earlier pieces, and attends to them all."""

        def kept(name: str, new: Float[Array, "b l n d"]) -> Float[Array, "b n m d"]:
            # Heads come before places: with the one query of a step, XLA on a CPU takes a third of the time so at 1,024
            # places, and no longer at few.
            new = new.swapaxes(1, 2)
            memory = self.variable("cache", name, jnp.zeros, (*new.shape[:2], cursor.length, new.shape[3]), new.dtype)
            memory.value = jax.lax.dynamic_update_slice_in_dim(memory.value, new, cursor.at, axis=2)
            recalled: Array = memory.value
            return recalled

        piece = q.shape[1]
        last = cursor.at + (jnp.arange(piece) if self.causal else jnp.array([piece - 1]))
        before = (jnp.arange(cursor.length) <= last[:, None])[None, None]
        logits = jnp.einsum(
            "bqnd,bnkd->bnqk", q * q.shape[-1] ** -0.5, kept("key", k), preferred_element_type=jnp.float32
        )
        weights = _softmax(logits, before if seen is None else before & seen).astype(v.dtype)
        return jnp.einsum("bnqk,bnkd->bqnd", weights, kept("value", v))


def _seen(mask: Bool[Array, "b m"] | None, pairs: Bool[Array, "l m"] | None) -> Bool[Array, "#b 1 #l m"] | None:
    """Joins what is seen in each row and what each place sees; None: everything."""
    if mask is None:
        return None if pairs is None else pairs[None, None]
    return mask[:, None, None, :] if pairs is None else pairs[None, None] & mask[:, None, None, :]


class CrossAttention(nn.Module):
    """x + out(attention(norm(x), tokens)), which starts as x; heads of 64 channels, or wider where 64 do not divide."""

    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], tokens: Float[Array, "b m e"], mask: Bool[Array, "b m"] | None
    ) -> Float[Array, "b h w c"]:
        """Attends from each pixel to the `tokens` where `mask` is True; None: to all."""
        b, h, w, c = x.shape
        heads = next(n for n in range(max(1, c // 64), 0, -1) if c % n == 0)
        normed = group_norm(c, compute_dtype(self.dtype), name="norm")(x).reshape(b, h * w, c)
        # Tokens are few: the matrix of pairs that "xla" holds is small, and forward mode works everywhere.
        attention = MultiHeadAttention(heads, "xla", fan_avg_uniform(0), self.dtype, name="attention")
        return x + attention(normed, tokens, mask).reshape(x.shape)


def attend(
    q: Float[Array, "b q n d"],
    k: Float[Array, "b k n d"],
    v: Float[Array, "b k n d"],
    implementation: Implementation = "auto",
    mask: Bool[Array, "#b 1 #q k"] | None = None,
    causal: bool = False,
    bias: Float[Array, "1 n q k"] | None = None,
    to_tokens: bool = False,
) -> Float[Array, "b q n d"]:
    """Computes softmax(q k^T / sqrt(d) + bias) v in each of n heads (Vaswani et al. 2017, arXiv 1706.03762, Eq. 1).

    Pairs count where `mask` is True; with `causal`, those alone whose key is not after the query. The softmax is in
    float32. "auto" is cuDNN's fused attention where it fits (see `fused`) and neither mask nor bias is given, and "xla"
    elsewhere. cuDNN's never holds the matrix of all pairs, but refuses forward mode: see
    `denoising.forward_differentiable`. `to_tokens` says, to who changes the weights (`changing_attention`), that keys
    are another sequence's.
    """
    if implementation == "auto":
        implementation = "cudnn" if mask is None and bias is None and fused(q) else "xla"
    change = _change.get()
    if change is not None or (implementation == "xla" and platform() == "cpu"):
        # jax.nn's has one axis more, for groups of heads, so that a CPU transposes the matrix of all pairs: at 8 x 256
        # places and 6 heads of 64 it takes 39 % longer forward and 14 % with gradients; with one head, no longer.
        logits = jnp.einsum("bqnd,bknd->bnqk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
        logits = logits if bias is None else logits + bias
        if causal:
            earlier = jnp.tril(jnp.ones(logits.shape[-2:], bool))[None, None]
            mask = earlier if mask is None else mask & earlier
        weights = _softmax(logits, mask)
        if change is not None:
            weights = change(weights if mask is None else jnp.where(mask, weights, 0), to_tokens)
        return jnp.einsum("bnqk,bknd->bqnd", weights.astype(v.dtype), v)
    return jax.nn.dot_product_attention(q, k, v, bias=bias, mask=mask, is_causal=causal, implementation=implementation)


def _softmax(logits: Float[Array, "b n q k"], mask: Bool[Array, "#b 1 #q k"] | None) -> Float[Array, "b n q k"]:
    """Computes the softmax over keys of the pairs that count; over all of them where none does."""
    return jax.nn.softmax(logits if mask is None else jnp.where(mask, logits, 0.7 * jnp.finfo(logits.dtype).min))


def rotated(x: Float[Array, "b l n d"], rotation: Float[Array, "l r 2"]) -> Float[Array, "b l n d"]:
    """Turns neighbouring channels, as pairs, by the angles of their place (Su et al. 2021, arXiv 2104.09864, Eq. 34).

    `rotation` holds the cosine and the sine for each place and pair, see `embed.rotary`. Computed in float32.
    """
    first, second = jnp.moveaxis(jnp.float32(x).reshape(*x.shape[:-1], -1, 2), -1, 0)
    cos, sin = rotation[:, None, :, 0], rotation[:, None, :, 1]
    turned = jnp.stack([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.reshape(x.shape).astype(x.dtype)


def _direction(x: Float[Array, "b l n d"]) -> Float[Array, "b l n d"]:
    """Divides vectors by their length, or by 1e-12 where they are shorter; computed in float32."""
    squared = jnp.sum(jnp.float32(x) ** 2, axis=-1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(squared, 1e-24))


def in_heads(x: Float[Array, "b l c"], heads: int) -> Float[Array, "b l n d"]:
    """Slices the channels into heads: [B L C] -> [B L N D], with D = C / `heads`."""
    return x.reshape(*x.shape[:2], heads, -1)


def fused(q: Float[Array, "b l h d"]) -> bool:
    """Tells whether cuDNN's attention fits: bfloat16 on a GPU, heads with a multiple of 8 channels, at most 128."""
    return platform() == "gpu" and q.dtype == jnp.bfloat16 and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128


def check_heads(width: int, heads: int) -> None:
    """Raises ValueError unless `heads` divides `width`."""
    if heads < 1 or width % heads:
        wanted = min(max(heads, 1), width)
        fewer = next(n for n in range(wanted, 0, -1) if width % n == 0)
        more = next(n for n in range(wanted, width + 1) if width % n == 0)
        remedy = f"use {more}" if fewer == more else f"use {fewer} or {more}"
        raise ValueError(f"heads={heads} does not divide a width of {width}: {remedy}")


# --- the weights of attention, for those who want to look at them or to change them -----------------------------------

Weights = Float[Array, "b l m"]  # how much each place looks at each token: they add up to 1 over the tokens
Change = Callable[[Float[Array, "b n q k"], bool], Float[Array, "b n q k"]]  # (weights, whether keys are tokens)

_change: contextvars.ContextVar[Change | None] = contextvars.ContextVar("change", default=None)


@contextlib.contextmanager
def changing_attention(change: Change) -> Iterator[None]:
    """Gives attention, where it is computed under it, the weights that `change` makes of its own.

    They are zero where nothing is seen. It is asked in the order of the layers, once for each. cuDNN's attention holds
    no weights, and is not used under it; what recalls earlier pieces (`Cursor`) does not ask. One that is under another
    takes its place.
    """
    token = _change.set(change)
    try:
        yield
    finally:
        _change.reset(token)


@contextlib.contextmanager
def keeping_attention() -> Iterator[list[Weights]]:
    """Keeps the weights of all attention to tokens that is computed under it, as means over heads: a list that fills.

    What is traced under it returns them from the same function, since they are values of that trace.
    """
    found: list[Weights] = []

    def keep(weights: Float[Array, "b n q k"], to_tokens: bool) -> Float[Array, "b n q k"]:
        if to_tokens:
            found.append(jnp.mean(weights, axis=1))
        return weights

    with changing_attention(keep):
        yield found
