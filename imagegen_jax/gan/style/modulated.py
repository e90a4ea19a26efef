"""Convolutions whose weights are scaled for each image by its style (Karras et al. 2020, 1912.04958, section 2.2).

Scaling an image's weights by its style equals scaling the channels of the input, and demodulating them equals scaling
those of the output, so that one convolution with shared weights serves the whole batch. On 2 CPU cores the grouped
convolution with weights for each image takes 3 to 7 times as long, and its gradients 40 times (16 images of 16x16x64).
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.random import fold_rows, normal_rows
from imagegen_jax.core.model import PRNGKeys
from imagegen_jax.gan.style.equalized import EqualDense, bias_activation
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.upfirdn import BINOMIAL, Taps, convolve, convolve_up


def modulated_convolve(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "k k i o"],
    style: Float[Array, "b i"],
    demodulate: bool = True,
    up: bool = False,
    taps: Taps = BINOMIAL,
) -> Float[Array, "b hh ww o"]:
    """Convolves each image with its w'' (Eq. 1 and 3), in the dtype of x; demodulates in the dtype of the weights."""
    modulated, weights = x * style[:, None, None].astype(x.dtype), kernel.astype(x.dtype)  # w' = s w   (Eq. 1)
    y = convolve_up(modulated, weights, taps) if up else convolve(modulated, weights)
    if not demodulate:
        return y
    squares = style**2 @ jnp.sum(kernel**2, axis=(0, 1))
    return y * jax.lax.rsqrt(squares + 1e-8)[:, None, None].astype(y.dtype)  # w'' = w' / sqrt(sum w'^2 + eps)   (Eq. 3)


class StyledConv(nn.Module):
    """A 3x3 modulated convolution, noise of a learned strength, bias and activation (Figure 2d)."""

    features: int
    salt: int  # different for each layer of a network
    up: bool = False
    taps: Taps = BINOMIAL
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w i"], w: Float[Array, "b d"], keys: PRNGKeys | None
    ) -> Float[Array, "b hh ww o"]:
        """Convolves images by their styles, and adds noise: from `keys`, one a row, or for None the stored constant.

        The constant noise is in the collection "noise".
        """
        fan_in = x.shape[-1]
        style = EqualDense(fan_in, bias_init=1.0, dtype="float32", name="style")(w)
        kernel = self.param("kernel", nn.initializers.normal(1.0), (3, 3, fan_in, self.features))
        x = modulated_convolve(
            x.astype(compute_dtype(self.dtype)), kernel / math.sqrt(9 * fan_in), style, up=self.up, taps=self.taps
        )
        strength = self.param("noise_strength", nn.initializers.zeros_init(), ())
        x = x + (strength * self._noise((x.shape[1], x.shape[2]), keys)).astype(x.dtype)
        return bias_activation(x, self.param("bias", nn.initializers.zeros_init(), (self.features,)))

    def _noise(self, size: tuple[int, int], keys: PRNGKeys | None) -> Float[Array, "b h w 1"]:
        """Draws normal noise, the same for all channels; flat, which the CPU compiler does several times faster."""

        def draw(keys: PRNGKeys) -> Float[Array, "b h w 1"]:
            return normal_rows(keys, (math.prod(size),)).reshape(-1, *size, 1)

        if keys is None:
            return self.variable("noise", "constant", lambda: draw(self.make_rng("params")[None])[0]).value[None]
        return draw(fold_rows(keys, self.salt))


class ToImage(nn.Module):
    """A 1x1 modulated convolution to the channels of the image, without demodulation, in float32."""

    channels: int
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"], w: Float[Array, "b d"]) -> Float[Array, "b h w c"]:
        fan_in = x.shape[-1]
        style = EqualDense(fan_in, bias_init=1.0, dtype="float32", name="style")(w)
        kernel = self.param("kernel", nn.initializers.normal(1.0), (1, 1, fan_in, self.channels))
        x = modulated_convolve(x.astype(compute_dtype(self.dtype)), kernel / math.sqrt(fan_in), style, demodulate=False)
        return x.astype(jnp.float32) + self.param("bias", nn.initializers.zeros_init(), (self.channels,))
