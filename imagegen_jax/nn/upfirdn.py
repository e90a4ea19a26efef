"""Upsampling, filtering and downsampling by a separable FIR filter, and convolutions with such a filter; linear in x.

All is made of slices, sums and convolutions, so that derivatives of any order are right. A filter with the taps (1, 3,
3, 1) removes the aliases of a change of resolution, which look like checkerboards (Zhang 2019, arXiv 1904.11486; Karras
et al. 2020, arXiv 1912.04958, section 2).

Doubling and halving need an even number of taps: the pixels of both sizes then share the borders of the image, and
symmetric taps commute with mirroring it.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from imagegen_jax.core.platform.target import platform

Taps = tuple[float, ...]
BINOMIAL: Taps = (1.0, 3.0, 3.0, 1.0)
_LAYOUT = ("NHWC", "HWIO", "NHWC")

# --- without weights -------------------------------------------------------------------------------------------------


def upfirdn(
    x: Float[Array, "b h w c"], taps: Taps, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)
) -> Float[Array, "b hh ww c"]:
    """Upsamples by `up`, filters and downsamples by `down`, along height and width.

    It puts `up` - 1 zeros after each value and `pad` zeros before and after all (negative: crops), convolves with
    `taps` where they fit, and keeps each `down`-th value from the first.

    A side n becomes (n up + sum(pad) - len(taps)) // down + 1. With a pad of len(taps) - 1 on both sides and without
    the zeros after the last value, this is scipy's `upfirdn`. Raises ValueError where nothing would be left.
    """
    return _along(_along(x, 1, taps, up, down, pad), 2, taps, up, down, pad)


def _along(x: Array, axis: int, taps: Taps, up: int, down: int, pad: tuple[int, int]) -> Array:
    """Does `upfirdn` along one axis, skipping the inserted zeros: output r + m `period` reads x[at + m stride]."""
    n, k = x.shape[axis], len(taps)
    length = (n * up + sum(pad) - k) // down + 1
    if length < 1:
        raise ValueError(f"upfirdn of {n} values with {k} taps, up={up}, down={down} and pad={pad}: nothing is left")
    period, stride = up // math.gcd(up, down), down // math.gcd(up, down)
    count = -(-length // period)
    ends = [r * down + k - 1 - i - pad[0] for r in range(period) for i in range(k)]
    low = max(0, -(min(ends) // up))
    high = max(0, max(ends) // up + (count - 1) * stride + 1 - n)
    x = jnp.pad(x, [(low, high) if a == axis else (0, 0) for a in range(x.ndim)])

    def phase(r: int) -> Array:
        total = None
        for i, tap in enumerate(taps):
            at, inserted = divmod(r * down + k - 1 - i - pad[0], up)
            if not inserted:
                start = at + low
                term = tap * lax.slice_in_dim(x, start, start + (count - 1) * stride + 1, stride, axis)
                total = term if total is None else total + term
        shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
        return jnp.zeros(shape, x.dtype) if total is None else total

    if period == 1:
        return phase(0)
    merged = jnp.stack([phase(r) for r in range(period)], axis + 1)
    merged = merged.reshape(*x.shape[:axis], count * period, *x.shape[axis + 1 :])
    return lax.slice_in_dim(merged, 0, length, axis=axis)


def normalised(taps: Taps, gain: float = 1.0) -> Taps:
    """Scales taps to the sum `gain`."""
    return tuple(gain * tap / sum(taps) for tap in taps)


def check_taps(taps: Taps) -> None:
    """Raises ValueError for an odd number of taps, or none."""
    if not taps or len(taps) % 2:
        raise ValueError(
            f"taps={taps}: an odd number of taps moves the image by half a pixel wherever its resolution changes; give "
            "an even number, such as (1, 3, 3, 1), which is (1, 2, 1) convolved with (1, 1)"
        )


def upsample(x: Float[Array, "b h w c"], taps: Taps = BINOMIAL) -> Float[Array, "b 2*h 2*w c"]:
    """Doubles the size and keeps the mean: each new pixel lies a quarter of a pixel beside an old one.

    Raises ValueError, as all of these do, for an odd number of taps.
    """
    check_taps(taps)
    return upfirdn(x, normalised(taps, 2.0), up=2, pad=(len(taps) // 2, len(taps) // 2 - 1))


def downsample(x: Float[Array, "b h w c"], taps: Taps = BINOMIAL) -> Float[Array, "b h//2 w//2 c"]:
    """Halves even sides."""
    check_taps(taps)
    return upfirdn(x, normalised(taps), down=2, pad=(len(taps) // 2 - 1, len(taps) // 2 - 1))


# --- with weights ----------------------------------------------------------------------------------------------------


def convolve(x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"]) -> Float[Array, "b h w o"]:
    """Convolves as neural networks do, without mirroring the kernel; k is odd, with zeros at the border."""
    return _convolve(x, kernel, [(kernel.shape[0] // 2, kernel.shape[0] // 2)] * 2)


def convolve_up(
    x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"], taps: Taps = BINOMIAL
) -> Float[Array, "b 2*h 2*w o"]:
    """Does what `upsample` and then `convolve` do, except just beyond the border.

    Convolving first and filtering then takes a quarter of the products. A CPU does not gain by that: there, filter and
    kernel are merged, which with gradients takes a quarter of the time (16 images of 32x32x32: 20 ms instead of 94).
    """
    check_taps(taps)
    return (_up_at_once if platform() == "cpu" else _up_filtered)(x, kernel, taps)


def _up_filtered(x: Array, kernel: Array, taps: Taps) -> Array:
    """Convolves the pixels with zeros between them, then filters."""
    x = lax.conv_general_dilated(x, kernel, (1, 1), [(2, 2)] * 2, (2, 2), dimension_numbers=_LAYOUT)
    before = (len(taps) - 1) // 2
    return upfirdn(x, normalised(taps, 2.0), pad=(before, len(taps) - 2 - before))


def _up_at_once(x: Array, kernel: Array, taps: Taps) -> Array:
    """Computes even and odd rows and columns as the channels of a single convolution of the pixels."""
    k, (b, h, w, i), o = len(taps), x.shape, kernel.shape[-1]
    whole = kernel  # becomes kernel convolved with filter, [k+2 k+2 I O]
    for axis in (0, 1):
        whole = _along(whole, axis, normalised(taps[::-1], 2.0), 1, 1, (k - 1, k - 1))
    reach = -(-((k + 1) // 2) // 2)  # how many pixels it reads to each side
    side = 2 * reach + 1
    before = 2 * reach - (k + 1) // 2
    whole = jnp.pad(whole, [(before, 2 * side - (k + 2) - before)] * 2 + [(0, 0)] * 2)
    # In each pair of weights in a row, the first is for the odd output and the second for the even one.
    whole = whole.reshape(side, 2, side, 2, i, o)[:, ::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
    x = convolve(x, whole.reshape(side, side, i, 4 * o)).reshape(b, h, w, 2, 2, o)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, o)


def convolve_down(
    x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], taps: Taps = BINOMIAL
) -> Float[Array, "b h//2 w//2 o"]:
    """Filters, then convolves at every second row and column; k is 1 or 3, and sides are even."""
    check_taps(taps)
    if kernel.shape[0] == 1:
        return _convolve(downsample(x, taps), kernel, [(0, 0)] * 2)
    x = upfirdn(x, normalised(taps), pad=(len(taps) // 2, len(taps) // 2))
    return _convolve(x, kernel, [(0, 0)] * 2, stride=2)


def _convolve(x: Array, kernel: Array, padding: list[tuple[int, int]], stride: int = 1) -> Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=_LAYOUT)
