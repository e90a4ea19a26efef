"""Grouped convolutions: channels in groups that do not see each other."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from imagegen_jax.core.platform.target import platform


def grouped_convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k i o"], groups: int
) -> Float[Array, "b h w o"]:
    """Convolves each group of channels by itself: [B H W C], kernels [k k C/groups O] -> [B H W O].

    Beyond the border are zeros; k is odd.

    On a CPU it sums products, batched over groups, of shifted images: XLA would run a slow loop there.
    """
    if platform() == "cpu":
        return _by_shifts(x, kernel, groups)
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )


def _by_shifts(x: Array, kernel: Array, groups: int) -> Array:
    b, h, w, _ = x.shape
    k, _, inputs, features = kernel.shape
    grouped = kernel.reshape(k, k, inputs, groups, features // groups)
    padded = jnp.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0))).reshape(
        b, h + k - 1, w + k - 1, groups, inputs
    )
    total = jnp.zeros((b, h, w, groups, features // groups), x.dtype)
    for row in range(k):
        for column in range(k):
            shifted = padded[:, row : row + h, column : column + w]
            total += jnp.einsum("bhwgi,igo->bhwgo", shifted, grouped[row, column])
    return total.reshape(b, h, w, features)
