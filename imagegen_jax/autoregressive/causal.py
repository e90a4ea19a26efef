"""Convolutions that see only what comes before a pixel: of whole images, or of one row or pixel and what is remembered.

A window ends with the pixel's own row and column (`ahead` columns further in streams that know rows above alone), so
nothing is masked. While an image is drawn, each layer remembers the inputs that later windows reach back to, and
computes only what is new (Ramachandran et al. 2017, arXiv 1704.06001). They are two linen collections: "cache" has the
remembered inputs, and "kernels" the normalised weights, made once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax
from jaxtyping import Array, Float, Int

from imagegen_jax.core.model import PRNGKey
from imagegen_jax.nn.precision import Dtype, compute_dtype

Map = Float[Array, "b h w c"]  # of whole images, [B H W C]; of a row, [B 1 W C]; or of a pixel, [B 1 1 C]


class At(NamedTuple):
    """Where in an image, or in a coarser map of it, a row or a pixel is that is computed by itself."""

    row: Int[Array, ""]
    column: Int[Array, ""] | None  # None: the whole row
    width: int  # of the map

    @property
    def halved(self) -> At:
        """The same place in a map of half the height and width."""
        return At(self.row // 2, None if self.column is None else self.column // 2, self.width // 2)

    def of(self, row: Map) -> Map:
        """Takes what is here from a row: [B 1 W C] -> [B 1 1 C]; the row itself, for a place that is one."""
        return row if self.column is None else lax.dynamic_slice_in_dim(row, self.column, 1, axis=2)


class Windows(nn.Module):
    """Puts before an input what a window of a convolution sees: zeros around images, or what was remembered."""

    size: tuple[int, int]  # height and width
    ahead: int = 0  # columns to the right of the pixel

    @nn.compact
    def __call__(self, x: Map, at: At | None) -> Map:
        """Returns [B H+h-1 W+w-1 C] of whole images, [B h W+w-1 C] of a row, or [B h w C] of a pixel."""
        height, width = self.size
        columns = (width - 1 - self.ahead, self.ahead)
        if at is None:
            return jnp.pad(x, ((0, 0), (height - 1, 0), columns, (0, 0)))
        if at.column is None:
            return jnp.pad(self._with_rows_above(x), ((0, 0), (0, 0), columns, (0, 0)))
        return self._of_pixel(x, at.row, at.column, at.width)

    def _with_rows_above(self, x: Map) -> Map:
        b, _, width, channels = x.shape
        above = self.variable("cache", "above", jnp.zeros, (b, self.size[0] - 1, width, channels), x.dtype)
        rows = jnp.concatenate([above.value, x], axis=1)
        above.value = rows[:, 1:]
        return rows

    def _of_pixel(self, x: Map, row: Int[Array, ""], column: Int[Array, ""], total: int) -> Map:
        """Remembers as many rows as the window has, in a ring: row i lies at i mod h."""
        (b, *_, channels), (height, width) = x.shape, self.size
        seen = self.variable("cache", "seen", jnp.zeros, (b, height, width - 1 + total, channels), x.dtype)
        seen.value = lax.dynamic_update_slice(seen.value, x, (0, row % height, width - 1 + column, 0))
        window = lax.dynamic_slice_in_dim(seen.value, column, width, axis=2)
        return window if height == 1 else jnp.roll(window, -(row + 1), axis=1)


class Weights(nn.Module):
    """Holds a kernel and a bias, plain or with normalised weights (Salimans & Kingma 2016, arXiv 1602.07868)."""

    normalised: bool = False
    start: float = 1.0  # deviation of the outputs that normalised weights start with

    @nn.compact
    def __call__(self, shape: tuple[int, ...], linear: Callable[[Array], Array], keep: bool) -> tuple[Array, Array]:
        """Returns a kernel of a shape [... in out], and a bias [out].

        w = g v / |v|, where g and the bias start such that outputs, `linear` of the kernel, have a mean of 0 and a
        deviation of `start` over the first batch (section 3 there). Where `keep`, the kernel is made once.
        """
        if not self.normalised:
            bias = self.param("bias", nn.initializers.zeros_init(), shape[-1:])
            return self.param("kernel", flat_normal, shape, math.prod(shape[:-1]) ** -0.5), bias
        direction = self.param("direction", flat_normal, shape, 0.05)

        def unit() -> Array:
            axes = tuple(range(direction.ndim - 1))
            return direction * lax.rsqrt(jnp.maximum(jnp.sum(direction**2, axes), 1e-12))

        gain, bias = jnp.ones(shape[-1]), jnp.zeros(shape[-1])
        if self.is_initializing():
            outputs = linear(unit()).astype(jnp.float32)
            gain = self.start * lax.rsqrt(jnp.var(outputs, axis=(0, 1, 2)) + 1e-10)
            bias = -gain * jnp.mean(outputs, axis=(0, 1, 2))
        gain, bias = self.param("gain", lambda key: gain), self.param("bias", lambda key: bias)
        if not keep:
            return gain * unit(), bias
        return self.variable("kernels", "kernel", lambda: gain * unit()).value, bias


def flat_normal(key: PRNGKey, shape: tuple[int, ...], deviation: float) -> Array:
    """Draws normal weights, flat: random numbers with four indices take the CPU compiler far longer."""
    return deviation * jax.random.normal(key, (math.prod(shape),)).reshape(shape)


class WindowConv(nn.Module):
    """Convolves the windows that `Windows` returns."""

    features: int
    size: tuple[int, int]
    stride: int = 1
    normalised: bool = False
    start: float = 1.0
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, windows: Map, at: At | None) -> Map:
        """Returns [B H W features] of whole images, [B 1 W features] of a row, [B 1 1 features] of a pixel."""

        def linear(kernel: Array) -> Map:
            x, kernel = promote_dtype(windows, kernel, dtype=compute_dtype(self.dtype))
            if x.shape[1:3] == self.size:
                return jnp.einsum("bhwc,hwco->bo", x, kernel)[:, None, None]
            layout = ("NHWC", "HWIO", "NHWC")
            return lax.conv_general_dilated(x, kernel, (self.stride,) * 2, "VALID", dimension_numbers=layout)

        shape = (*self.size, windows.shape[-1], self.features)
        kernel, bias = Weights(self.normalised, self.start, name="weights")(shape, linear, keep=at is not None)
        y = linear(kernel)
        return y + bias.astype(y.dtype)


class CausalConv(nn.Module):
    """A convolution of windows that end with the pixel itself, or one row above or one column to the left of it."""

    features: int
    size: tuple[int, int]  # height and width of the window
    ahead: int = 0  # columns of it to the right of the pixel
    shift: Literal["", "down", "right"] = ""  # of what comes out, by one; zeros come in
    normalised: bool = False
    start: float = 1.0
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Map, at: At | None = None) -> Map:
        """Convolves whole images, or what there is of `x` where a row or pixel `at` sees it first.

        Shifted down, a row is given the row above it, and shifted right, a pixel the one to the left of it.
        """
        place = at
        if at is not None and self.shift == "right" and at.column is not None:
            place = at._replace(column=jnp.maximum(at.column - 1, 0))
        windows = Windows(self.size, self.ahead, name="windows")(x, place)
        y = WindowConv(self.features, self.size, 1, self.normalised, self.start, self.dtype, name="conv")(windows, at)
        return self._shifted(y, at)

    def _shifted(self, y: Map, at: At | None) -> Map:
        if not self.shift:
            return y
        if at is None:
            axis = 1 if self.shift == "down" else 2
            zeros = jnp.zeros_like(lax.slice_in_dim(y, 0, 1, axis=axis))
            return jnp.concatenate([zeros, lax.slice_in_dim(y, 0, y.shape[axis] - 1, axis=axis)], axis)
        before = at.row if self.shift == "down" or at.column is None else at.column
        return jnp.where(before > 0, y, 0)


class Doubling(nn.Module):
    """Doubles a map by a transposed convolution; no pixel sees a later row or, without `ahead`, a later column.

    Windows are 2x2, or 2x3 with `ahead`, cropped as in Salimans et al.'s code. Each phase of the output, an even or odd
    row and column, is a product with the input: gradients of `lax.conv_transpose` take the CPU far longer.
    """

    features: int
    ahead: int = 0
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Map, at: At | None) -> Map:
        """Returns [B 2H 2W features] of whole maps; for one row or pixel `at`, that of the coarser `x` it lies in."""

        def linear(kernel: Array) -> Map:
            y, kernel = promote_dtype(x, kernel, dtype=compute_dtype(self.dtype))
            if at is not None and at.column is not None:
                return jnp.einsum("bhwc,co->bhwo", y, kernel[at.row % 2, at.column % 2])
            if at is not None:
                return self._row(y, kernel[at.row % 2])
            b, h, w, _ = y.shape
            rows = jnp.stack([self._row(y, kernel[0]), self._row(y, kernel[1])], axis=2)
            return rows.reshape(b, 2 * h, 2 * w, self.features)

        shape = (2, 2 + self.ahead, x.shape[-1], self.features)
        kernel, bias = Weights(normalised=True, name="weights")(shape, linear, keep=at is not None)
        y = linear(kernel)
        return y + bias.astype(y.dtype)

    def _row(self, x: Map, kernel: Float[Array, "w c o"]) -> Map:
        """Doubles the width, with the taps of one row of the kernel."""
        b, h, w, _ = x.shape
        even, odd = x @ kernel[self.ahead], x @ kernel[1 + self.ahead]
        if self.ahead:
            odd += jnp.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0)))[:, :, 1:] @ kernel[0]
        return jnp.stack([even, odd], axis=3).reshape(b, h, 2 * w, self.features)


def with_ones(x: Map, before: Int[Array, ""] | None) -> Map:
    """Adds a channel of ones, which tells grey from padding; zeros where no row or column is `before`."""
    ones = jnp.ones_like(x[..., :1])
    return jnp.concatenate([x, ones if before is None else jnp.where(before > 0, ones, 0)], axis=-1)


def label_bias(labels: Float[Array, "b k"] | None, features: int, name: str) -> Map | float:
    """Returns what classes [B K], as one-hot rows, add to all pixels alike: [B 1 1 features]; 0 without classes.

    For use in a compact module.
    """
    if labels is None:
        return 0.0
    return nn.Dense(features, use_bias=False, kernel_init=jax.nn.initializers.normal(0.05), name=name)(labels)[
        :, None, None
    ]
