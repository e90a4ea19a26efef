"""The networks of ProGAN (Karras et al. 2018, arXiv 1710.10196, Table 2), for any of their levels.

Both have layers for all levels, and an image at each. `levels` says whose images are used, from coarse to fine: one
level's, two levels' while the finer one is faded in, or all, for initialising and sampling at any `progress`.

The gain sqrt(2) of activations comes after the bias, not before it as in the authors' code; the functions that the
networks can represent are the same.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.model import Image, Scalar
from imagegen_jax.gan.style.deviation import append_deviation
from imagegen_jax.gan.style.equalized import EqualConv, EqualDense, bias_activation, normalise
from imagegen_jax.gan.style.growing import BOX, fade
from imagegen_jax.gan.style.stylegan2_networks import Labels, channels, resolutions
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.resample import upsample_nearest
from imagegen_jax.nn.upfirdn import Taps, convolve, convolve_up, downsample


def pixel_norm(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """b = a / sqrt(mean over channels of a^2 + 1e-8), at each pixel, in float32   (section 4.2)"""
    return normalise(x).astype(x.dtype)


class Conv(nn.Module):
    """A 3x3 convolution with equalised learning rate and without bias, which may double the size."""

    features: int
    up: bool = False
    taps: Taps = BOX  # of the filter that goes with upsampling
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b hh ww o"]:
        """Convolves: [B H W I] -> [B H W O], or with `up` [B 2H 2W O]"""
        dtype, fan_in = compute_dtype(self.dtype), 9 * x.shape[-1]
        kernel = self.param("kernel", nn.initializers.normal(1.0), (3, 3, x.shape[-1], self.features))
        x, kernel = x.astype(dtype), (kernel / math.sqrt(fan_in)).astype(dtype)
        return convolve_up(x, kernel, self.taps) if self.up else convolve(x, kernel)


class Generator(nn.Module):
    """Makes images from latents: a dense layer and a convolution at the base, then two convolutions a level."""

    channel_base: Count = 16_384  # a level's channels times its shorter side, up to `channel_max`
    channel_max: Count = 512
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "b z"],
        labels: Labels | None,
        image_shape: tuple[int, int, int],
        levels: range,
        progress: Scalar,
    ) -> Float[Array, "b h w c"]:
        """Makes images from latents and labels: [B Z], [B K] -> [B H W C], meant to be in [-1, 1].

        The images have the size of the last of `levels`.
        """
        z = normalise(z if labels is None else jnp.concatenate([z, labels], axis=-1))
        image = jnp.zeros(())
        for level, size in enumerate(resolutions(*image_shape[:2])[: levels.stop]):
            features = channels(self.channel_base, self.channel_max, size)
            if level == 0:
                x = self._activate(self._start(z, (*size, features)), "start")
            else:
                x = self._activate(Conv(features, True, dtype=self.dtype, name=f"up_{level}")(x), f"up_{level}")
            x = self._activate(Conv(features, dtype=self.dtype, name=f"conv_{level}")(x), f"conv_{level}")
            if level in levels:
                to_image = EqualConv(image_shape[2], 1, activate=False, dtype=self.dtype, name=f"image_{level}")
                fine = to_image(x).astype(jnp.float32)
                image = fine if level == levels.start else fade(upsample_nearest(image), fine, progress, level)
        return image

    def _start(self, z: Float[Array, "b z"], shape: tuple[int, int, int]) -> Float[Array, "b h w c"]:
        """Maps latents to the base. The bias, added later, is one for each channel, not for each of its pixels."""
        dtype, fan_in = compute_dtype(self.dtype), z.shape[-1]
        kernel = self.param("start_kernel", nn.initializers.normal(1.0), (fan_in, math.prod(shape)))
        return (z.astype(dtype) @ (kernel / math.sqrt(fan_in)).astype(dtype)).reshape(-1, *shape)

    def _activate(self, x: Float[Array, "b h w c"], name: str) -> Float[Array, "b h w c"]:
        return pixel_norm(bias_activation(x, self.param(f"{name}_bias", nn.initializers.zeros_init(), x.shape[-1:])))


class Discriminator(nn.Module):
    """Maps images to numbers, the first one meant as a logit, high for real: the generator in reverse."""

    channel_base: Count = 16_384  # as the generator's
    channel_max: Count = 512
    group: Count = 4  # images that the deviation is taken over
    taps: Taps = BOX  # of the filter before downsampling
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Image, outputs: int, sides: tuple[int, int], levels: range, progress: Scalar) -> Array:
        """Judges images of the last of `levels`: [B H W C] in [-1, 1] -> [B outputs], in float32.

        `sides` are the full image's height and width.
        """
        sizes = resolutions(*sides)
        features = [channels(self.channel_base, self.channel_max, size) for size in sizes]
        image, top = x, levels.stop - 1
        x = self._from_image(image, features[top], top)
        for level in range(top, 0, -1):
            x = EqualConv(features[level], dtype=self.dtype, name=f"conv_{level}")(x)
            down = EqualConv(features[level - 1], down=True, taps=self.taps, dtype=self.dtype, name=f"down_{level}")
            x = down(x)
            if level - 1 in levels:
                image = downsample(image, BOX)
                x = fade(self._from_image(image, features[level - 1], level - 1), x, progress, level)
        x = append_deviation(x.astype(jnp.float32), self.group)
        x = EqualConv(features[0], dtype="float32", name="last_conv")(x)
        # It is as wide as a level below the base would be, as in the authors' code.
        width = channels(self.channel_base, self.channel_max, (sizes[0][0] // 2, sizes[0][1] // 2))
        x = EqualDense(width, activate=True, dtype="float32", name="dense")(x.reshape(len(x), -1))
        return EqualDense(outputs, dtype="float32", name="out")(x)

    def _from_image(self, image: Image, features: int, level: int) -> Float[Array, "b h w c"]:
        return EqualConv(features, 1, dtype=self.dtype, name=f"image_{level}")(image)
