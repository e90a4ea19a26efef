"""PixelCNN++'s network (Salimans et al. 2017, arXiv 1701.05517): two streams of gated residual blocks, down and up.

One stream sees the rows above a pixel, the other also the pixels to its left. Layers and their order are those of the
authors' code, github.com/openai/pixel-cnn.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from imagegen_jax.autoregressive.causal import (
    At,
    CausalConv,
    Doubling,
    Map,
    WindowConv,
    Windows,
    label_bias,
    with_ones,
)
from imagegen_jax.autoregressive.gated import Labels
from imagegen_jax.core.config.bounds import BelowOne, Count
from imagegen_jax.core.model import PRNGKeys
from imagegen_jax.nn.dropout import Dropout
from imagegen_jax.nn.precision import Dtype

Maps = tuple[Map, ...]


class GatedResidual(nn.Module):
    """x + a sigmoid(b), from two convolutions, with what lies beside let in between them."""

    size: tuple[int, int]
    ahead: int
    dropout: float
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Map, beside: Maps, labels: Labels, keys: PRNGKeys | None, at: At | None) -> Map:
        width = x.shape[-1]
        conv = functools.partial(CausalConv, ahead=self.ahead, normalised=True, dtype=self.dtype)
        y = conv(width, self.size, name="conv_1")(both_elu(x), at)
        if beside:
            joined = jnp.concatenate(beside, axis=-1)
            y = y + conv(width, (1, 1), ahead=0, name="beside")(both_elu(joined), at)
        y = Dropout(self.dropout, name="dropout")(both_elu(y), keys)
        y = conv(2 * width, self.size, start=0.1, name="conv_2")(y, at)
        a, b = jnp.split(y + label_bias(labels, 2 * width, "label"), 2, axis=-1)
        return x + a * nn.sigmoid(b)


def both_elu(x: Map) -> Map:
    """Concatenates elu(x) and elu(-x)."""
    return nn.elu(jnp.concatenate([x, -x], axis=-1))


class Stream(nn.Module):
    """Blocks at one resolution around those at half of it, and so on; later blocks see the outputs of earlier ones."""

    blocks: int
    levels: int
    size: tuple[int, int]
    ahead: int
    dropout: float
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Map, beside: Maps, labels: Labels, keys: PRNGKeys | None, at: At | None) -> tuple[Map, Maps]:
        """Returns the last block's output and those of all blocks in order; `beside` has those of the other stream."""

        def block(x: Map, index: int, *skips: Map) -> Map:
            others = (beside[index] if at is None else at.of(beside[index]),) if beside else ()
            layer = GatedResidual(self.size, self.ahead, self.dropout, self.dtype, name=f"block_{index}")
            return layer(x, (*others, *skips), labels, keys, at)

        before = [x]
        for index in range(self.blocks):
            before.append(block(before[-1], index))
        x, found, after = before[-1], before[1:], self.blocks
        if self.levels == 1:
            before.pop()
        else:
            after += blocks_in(self.blocks, self.levels - 1)
            rest = (self.size, self.ahead, self.dropout, self.dtype)
            deeper = Deeper(self.blocks, self.levels - 1, *rest, name="deeper")
            x, inner = deeper(x, beside[self.blocks : after], labels, keys, at)
            found += inner
        for index, skip in enumerate(reversed(before), after):
            x = block(x, index, skip)
            found.append(x)
        return x, tuple(found)


def blocks_in(blocks: int, levels: int) -> int:
    """Returns how many blocks a stream has."""
    return 2 * blocks * levels + levels - 1


class Deeper(nn.Module):
    """A stream at half the resolution, and the ways to it and back.

    Of a row or a pixel by itself it computes nothing anew, unless the row, and the column, are even.
    """

    blocks: int
    levels: int
    size: tuple[int, int]
    ahead: int
    dropout: float
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Map, beside: Maps, labels: Labels, keys: PRNGKeys | None, at: At | None) -> tuple[Map, Maps]:
        """Returns what comes back, at the resolution of `x`, and the outputs of the stream's blocks."""
        width = x.shape[-1]
        windows = Windows(self.size, self.ahead, name="windows")(x, at)

        def computed(module: Deeper, windows: Map, beside: Maps) -> tuple[Map, Maps]:
            half = None if at is None else at.halved
            halve = WindowConv(width, self.size, 2, normalised=True, dtype=self.dtype, name="halve")
            inner = Stream(self.blocks, self.levels, self.size, self.ahead, self.dropout, self.dtype, name="stream")
            return inner(halve(windows, half), beside, labels, keys, half)

        y, found = computed(self, windows, beside) if at is None else self._where_due(computed, windows, beside, at)
        return Doubling(width, self.ahead, self.dtype, name="double")(y, at), found

    def _where_due(self, computed: Any, windows: Map, beside: Maps, at: At) -> tuple[Map, Maps]:
        """Computes, or returns what was computed last: for pixels, of their column, for they come back in two rows."""
        half, column = at.halved, at.column
        if self.is_mutable_collection("kernels"):  # kernels and caches are being made
            y, found = computed(self, windows, beside)
            row = y if column is None else jnp.zeros((len(y), 1, half.width, y.shape[-1]), y.dtype)
            self.variable("cache", "last", lambda: (row, found if column is None else ()))
            return y, found
        kept = self.variable("cache", "last", lambda: None)
        last: tuple[Map, Maps] = kept.value

        def anew(module: Deeper, windows: Map, beside: Maps) -> tuple[Map, Maps]:
            y, found = computed(module, windows, beside)
            if column is None:
                return y, found
            return lax.dynamic_update_slice_in_dim(last[0], y, column // 2, axis=2), ()

        due = at.row % 2 == 0
        due = due if column is None else due & (column % 2 == 0)
        y, found = kept.value = nn.cond(due, anew, lambda *_: last, self, windows, beside)
        return half.of(y), found


class ResidualPixelCNN(nn.Module):
    """The network of PixelCNN++, with weight normalisation that starts from data; the defaults are CIFAR-10's.

    With a mixture of 10 logistics for colours it has 53,659,080 parameters. Height and width of images must be
    multiples of 2^(levels - 1).
    """

    blocks: Count = 5  # at each resolution, on the way down
    width: Count = 160
    levels: Count = 3  # resolutions
    dropout: BelowOne = 0.5
    dtype: Dtype = "auto"

    @property
    def starts_from_data(self) -> bool:
        """Tells that `init` wants real images."""
        return True

    def setup(self) -> None:
        conv = functools.partial(CausalConv, self.width, normalised=True, dtype=self.dtype)
        self.rows_above = conv((2, 3), 1, "down")
        self.row_above = conv((1, 3), 1, "down")
        self.column_left = conv((2, 1), 0, "right")
        self.vertical_stream = Stream(self.blocks, self.levels, (2, 3), 1, self.dropout, self.dtype)
        self.horizontal_stream = Stream(self.blocks, self.levels, (2, 2), 0, self.dropout, self.dtype)
        self.head = NormalisedHead()

    def __call__(self, x: Map, outputs: int, labels: Labels = None, keys: PRNGKeys | None = None) -> Map:
        """Returns what a distribution wants of each pixel, from those before it: [B H W C] -> [B H W outputs] float32.

        `keys`, one a row, are for dropout. Raises ValueError for images of another size.
        """
        times = 2 ** (self.levels - 1)
        height, width = x.shape[1:3]
        if height % times or width % times:
            raise ValueError(
                f"images of {height}x{width}: with model.network.levels={self.levels}, height and width must be "
                f"multiples of {times}"
            )
        return self.horizontal(x, self.vertical(x, labels, keys), outputs, labels, keys)

    def vertical(self, x: Map, labels: Labels = None, keys: PRNGKeys | None = None, at: At | None = None) -> Maps:
        """Returns what is known of the rows above, for `horizontal`; of one row, where `x` is the row above it."""
        x = with_ones(x, None if at is None else at.row)
        _, found = self.vertical_stream(self.rows_above(x, at), (), labels, keys, at)
        return (self.row_above(x, at), *found)

    def horizontal(
        self, x: Map, above: Maps, outputs: int, labels: Labels = None, keys: PRNGKeys | None = None,
        at: At | None = None,
    ) -> Map:  # fmt: skip
        """Returns [B H W outputs] of images, or [B 1 1 outputs] of a pixel, where `x` is the one to its left."""
        x = with_ones(x, None if at is None else at.column)
        first, *rest = above
        begin = self.column_left(x, at) + (first if at is None else at.of(first))
        h, _ = self.horizontal_stream(begin, tuple(rest), labels, keys, at)
        return self.head(h, outputs, at)


class NormalisedHead(nn.Module):
    """A convolution of single pixels."""

    @nn.compact
    def __call__(self, h: Map, outputs: int, at: At | None) -> Map:
        """Returns [B H W outputs], float32."""
        return CausalConv(outputs, (1, 1), normalised=True, dtype="float32", name="out")(nn.elu(h), at)
