"""Gated PixelCNN's network (van den Oord et al. 2016, arXiv 1606.05328): a vertical and a horizontal stack."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.autoregressive.causal import At, CausalConv, Map, label_bias, with_ones
from imagegen_jax.core.config.bounds import BelowOne, Count
from imagegen_jax.core.model import PRNGKeys
from imagegen_jax.nn.dropout import Dropout
from imagegen_jax.nn.precision import Dtype

Labels = Float[Array, "b k"] | None  # one-hot rows, where images have classes


class VerticalLayer(nn.Module):
    """A convolution of the rows above after a gate; in the first layer of the image, and of rows strictly above."""

    width: int
    window: int
    first: bool
    dtype: Dtype

    @nn.compact
    def __call__(self, p: Map, labels: Labels, at: At | None) -> Map:
        """Returns [B H W 2*width], before the next gate, as the horizontal stack sees it."""
        half = self.window // 2
        size, shift = ((half, self.window), "down") if self.first else ((half + 1, self.window), "")
        v = p if self.first else gated(p + label_bias(labels, 2 * self.width, "label"))
        return CausalConv(2 * self.width, size, half, shift, dtype=self.dtype, name="conv")(v, at)


class HorizontalLayer(nn.Module):
    """Convolves the pixels to the left, adds what is known of the rows above, and gates the sum (Fig. 2)."""

    width: int
    window: int
    first: bool
    dropout: float
    dtype: Dtype

    @nn.compact
    def __call__(self, h: Map, p: Map, labels: Labels, keys: PRNGKeys | None, at: At | None) -> Map:
        """Returns [B H W width]; where `p` is of a row, what is at the pixel is taken of it."""
        half = self.window // 2
        size, shift = ((1, half), "right") if self.first else ((1, half + 1), "")
        p = p if at is None else at.of(p)
        y = CausalConv(2 * self.width, size, 0, shift, dtype=self.dtype, name="conv")(h, at)
        y = y + CausalConv(2 * self.width, (1, 1), dtype=self.dtype, name="from_above")(p, at)
        y = gated(y + label_bias(labels, 2 * self.width, "label"))
        y = Dropout(self.dropout, name="dropout")(y, keys)
        y = CausalConv(self.width, (1, 1), dtype=self.dtype, name="out")(y, at)
        return y if self.first else y + h


def gated(y: Map) -> Map:
    """tanh(y_f) sigmoid(y_g)   (Eq. 2, and 4 with classes)"""
    f, g = jnp.split(y, 2, axis=-1)
    return jnp.tanh(f) * nn.sigmoid(g)


class GatedPixelCNN(nn.Module):
    """A vertical stack of all rows above, without a blind spot, and a horizontal one of the row to the left of a pixel.

    Windows are `window` pixels wide, as those of the masked convolutions they stand for. The dropout is not the
    paper's.
    """

    width: Count = 64
    layers: Count = 8
    window: Count = 5  # an odd number
    head_width: Count = 128
    dropout: BelowOne = 0.0
    dtype: Dtype = "auto"

    def setup(self) -> None:
        firsts = [i == 0 for i in range(self.layers)]
        self.vertical_layers = [VerticalLayer(self.width, self.window, first, self.dtype) for first in firsts]
        self.horizontal_layers = [
            HorizontalLayer(self.width, self.window, first, self.dropout, self.dtype) for first in firsts
        ]
        self.head = Head(self.head_width, self.dtype)

    def __call__(self, x: Map, outputs: int, labels: Labels = None, keys: PRNGKeys | None = None) -> Map:
        """Returns what a distribution wants of each pixel, from those before it: [B H W C] -> [B H W outputs] float32.

        `keys`, one a row, are for dropout. Raises ValueError for a `window` that is no odd number above 1.
        """
        return self.horizontal(x, self.vertical(x, labels, keys), outputs, labels, keys)

    def vertical(self, x: Map, labels: Labels = None, keys: PRNGKeys | None = None, at: At | None = None) -> tuple:
        """Returns what is known of the rows above, for `horizontal`; of one row, where `x` is the row above it."""
        if self.window < 3 or self.window % 2 == 0:
            raise ValueError(f"model.network.window={self.window}: must be an odd number, 3 or more")
        p, found = with_ones(x, None if at is None else at.row), []
        for layer in self.vertical_layers:
            p = layer(p, labels, at)
            found.append(p)
        return tuple(found)

    def horizontal(
        self, x: Map, above: tuple, outputs: int, labels: Labels = None, keys: PRNGKeys | None = None,
        at: At | None = None,
    ) -> Map:  # fmt: skip
        """Returns [B H W outputs] of images, or [B 1 1 outputs] of a pixel, where `x` is the one to its left."""
        h = with_ones(x, None if at is None else at.column)
        for layer, p in zip(self.horizontal_layers, above, strict=True):
            h = layer(h, p, labels, keys, at)
        return self.head(h, outputs, at)


class Head(nn.Module):
    """Two convolutions of single pixels."""

    width: int
    dtype: Dtype

    @nn.compact
    def __call__(self, h: Map, outputs: int, at: At | None) -> Map:
        """Returns [B H W outputs], float32."""
        h = CausalConv(self.width, (1, 1), dtype=self.dtype, name="hidden")(nn.relu(h), at)
        return CausalConv(outputs, (1, 1), dtype="float32", name="out")(nn.relu(h), at)
