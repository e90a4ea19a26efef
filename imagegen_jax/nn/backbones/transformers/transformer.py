"""Blocks of attention over a sequence, for networks that predict codes or read text: GPT's, Llama's and their like."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from imagegen_jax.core.config.bounds import Positive
from imagegen_jax.core.model import PRNGKeys
from imagegen_jax.nn.dropout import Dropout
from imagegen_jax.nn.multihead import Cursor, Implementation, MultiHeadAttention
from imagegen_jax.nn.precision import Dtype, compute_dtype

normal_init = nn.initializers.normal(0.02)


# Exact, by tanh, or by x sigmoid(1.702 x); of those with a gate (arXiv 2002.05202), before its product with the gate.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": functools.partial(nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(nn.gelu, approximate=True),
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
    "swiglu": nn.silu,
    "geglu_tanh": functools.partial(nn.gelu, approximate=True),
}


@dataclasses.dataclass(frozen=True)
class Style:
    """What the blocks of a transformer are made of. The defaults are GPT-2's; `LLAMA` has Llama's."""

    norm: Literal["layer", "rms"] = "layer"
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "swiglu", "geglu_tanh"] = "gelu"  # of `ACTIVATIONS`
    bias: bool = True  # of attention and perceptrons
    causal: bool = True  # whether a place sees itself and those before it alone
    epsilon: Positive = 1e-5  # of the norms


LLAMA = Style("rms", "swiglu", bias=False)  # Touvron et al. 2023, arXiv 2302.13971, section 2.2


class Perceptron(nn.Module):
    """A hidden layer and a linear one: D -> `hidden` -> D; SwiGLU's and GEGLU's hidden layer is a product of two."""

    hidden: int
    style: Style = Style()
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        dense = functools.partial(
            nn.Dense, use_bias=self.style.bias, dtype=compute_dtype(self.dtype), kernel_init=normal_init
        )
        h = ACTIVATIONS[self.style.activation](dense(self.hidden, name="hidden")(x))
        if self.style.activation in ("swiglu", "geglu_tanh"):
            h = h * dense(self.hidden, name="gate")(x)
        return dense(x.shape[-1], name="out")(h)


class Block(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)): what is added is dropped out, as in GPT-2's code."""

    heads: int
    hidden: int  # width of the perceptron's hidden layer
    style: Style = Style()
    dropout: float = 0.0
    attention: Implementation = "auto"
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        keys: PRNGKeys | None = None,
        pairs: Bool[Array, "l m"] | None = None,
        rotation: Float[Array, "l r 2"] | None = None,
        cursor: Cursor | None = None,
        mask: Bool[Array, "b l"] | None = None,
    ) -> Float[Array, "b l d"]:
        """Changes the places of a sequence, or of a piece of it: [B L D] -> [B L D]; see `MultiHeadAttention`."""
        attention = MultiHeadAttention(
            self.heads, self.attention, normal_init, self.dtype, normal_init, self.style.bias, self.style.causal,
            name="attention",
        )  # fmt: skip
        h = attention(norm(self.style, self.dtype, "norm_0")(x), None, mask, pairs, rotation, cursor)
        x = x + Dropout(self.dropout, name="dropout_0")(h, keys)
        h = Perceptron(self.hidden, self.style, self.dtype, name="mlp")(norm(self.style, self.dtype, "norm_1")(x))
        return x + Dropout(self.dropout, name="dropout_1")(h, keys)


class Transformer(nn.Module):
    """`depth` blocks, then a norm. `remat` keeps only the input of each block, for less memory in training."""

    depth: int
    heads: int
    hidden: int
    style: Style = Style()
    dropout: float = 0.0
    remat: bool = False
    attention: Implementation = "auto"
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        keys: PRNGKeys | None = None,
        pairs: Bool[Array, "l m"] | None = None,
        rotation: Float[Array, "l r 2"] | None = None,
        cursor: Cursor | None = None,
        mask: Bool[Array, "b l"] | None = None,
    ) -> Float[Array, "b l d"]:
        """Changes the places of a sequence, or of a piece of it: [B L D] -> [B L D]; see `MultiHeadAttention`."""
        block: Any = nn.remat(Block) if self.remat and cursor is None else Block
        for i in range(self.depth):
            made = block(
                self.heads, self.hidden, self.style, self.dropout, self.attention, self.dtype, name=f"block_{i}"
            )
            x = made(x, keys, pairs, rotation, cursor, mask)
        return norm(self.style, self.dtype, "norm")(x)


def norm(style: Style, dtype: Dtype, name: str) -> nn.Module:
    """Makes a style's norm: of mean and variance (arXiv 1607.06450), or of the root mean square (arXiv 1910.07467)."""
    cls = nn.LayerNorm if style.norm == "layer" else nn.RMSNorm
    return cls(epsilon=style.epsilon, dtype=compute_dtype(dtype), name=name)
