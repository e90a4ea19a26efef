"""Convolutions that halve and double an image: 4x4 kernels with stride 2, for any size."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Initializer
from jax import lax
from jaxtyping import Array, Float

from imagegen_jax.nn.precision import Dtype, compute_dtype

SMALLEST = 8  # the smallest height and width that halve to a base of 4 or more


def pyramid(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Returns the sizes from (height, width) down to the base, each half the one before, rounded up.

    The shorter side of the base is 4, 5, 6 or 7: (64, 64), (32, 32), (16, 16), (8, 8), (4, 4) or (33, 33),
    (17, 17), (9, 9), (5, 5). Raises ValueError where a side is below 8.
    """
    if min(height, width) < SMALLEST:
        raise ValueError(f"image size {height}x{width}: height and width must be at least {SMALLEST}")
    sizes = [(height, width)]
    while min(sizes[-1]) >= SMALLEST:
        h, w = sizes[-1]
        sizes.append((-(-h // 2), -(-w // 2)))
    return tuple(sizes)


class Halve(nn.Module):
    """A convolution that halves the size; torch's `Conv2d(4, stride=2, padding=1)` where height and width are even.

    An odd side is rounded up: it gets one more row or column of zeros at its end.
    """

    features: int
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros_init()
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b hh ww o"]:
        """Halves the image: [B H W C] -> [B ceil(H/2) ceil(W/2) features]"""
        padding = tuple((1, 1 + side % 2) for side in x.shape[1:3])
        return nn.Conv(
            self.features,
            (4, 4),
            strides=2,
            padding=padding,
            use_bias=self.use_bias,
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            dtype=compute_dtype(self.dtype),
            name="conv",
        )(x)


class Double(nn.Module):
    """A transposed convolution that doubles the size, cropped at its end to `size`.

    It equals linen's `ConvTranspose(features, (4, 4), (2, 2), "SAME")`, and torch's `ConvTranspose2d(4, stride=2,
    padding=1)` with its kernel mirrored in height and width. The four phases of the output (even and odd rows and
    columns) are 2x2 convolutions of the input: on a CPU the weight gradient of the dilated convolution that
    `lax.conv_transpose` makes is 15 to 80 times slower.
    """

    features: int
    use_bias: bool = True
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros_init()
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b hh ww o"]:
        """Doubles the image: [B H W C], (2 H or 2 H - 1, 2 W or 2 W - 1) -> [B *size features]"""
        b, h, w, c = x.shape
        kernel = self.param("kernel", self.kernel_init, (4, 4, c, self.features))
        bias = self.param("bias", self.bias_init, (self.features,)) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=compute_dtype(self.dtype))

        def phase(row: int, column: int) -> Float[Array, "b h w o"]:
            taps = kernel[row::2, column::2]
            padding = ((1 - row, row), (1 - column, column))
            return lax.conv_general_dilated(x, taps, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

        rows = [jnp.stack([phase(row, 0), phase(row, 1)], axis=3) for row in (0, 1)]  # each [B H W 2 O]
        x = jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, self.features)[:, : size[0], : size[1]]
        return x if bias is None else x + bias
