"""The residual networks of WGAN-GP for CIFAR-10 (Gulrajani et al. 2017, arXiv 1704.00028, appendix F).

SNGAN shares them (Miyato et al. 2018, arXiv 1802.05957, Table 4), with a generator of twice the width and other layers
in the discriminator; blocks therefore take the convolutions and norms to use. Kernels start as in the authors' code,
igul222/improved_wgan_training: uniform with He's variance on the residual branch, Glorot's elsewhere.

A 1x1 convolution next to a resampling runs at the smaller size, which gives the same numbers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import Count, Natural
from imagegen_jax.core.model import Image
from imagegen_jax.nn.init import fan_avg_uniform
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.resample import upsample_nearest
from imagegen_jax.nn.strided import pyramid

Layer = Callable[[Float[Array, "b h w c"]], Float[Array, "b h w d"]]
Convolution = Callable[[int, int, float, str], Layer]  # features, kernel size, variance's scale, name
Norm = Callable[[str], Layer]  # name


def double(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b hh ww c"]:
    """Makes each pixel a 2x2 square, and crops the end to `size`: (2 H or 2 H - 1, 2 W or 2 W - 1)."""
    return upsample_nearest(x)[:, : size[0], : size[1]]


def halve(x: Float[Array, "b h w c"]) -> Float[Array, "b hh ww c"]:
    """Averages 2x2 squares; at the end of an odd side, the pixels that there are."""
    return nn.avg_pool(x, (2, 2), (2, 2), "SAME", count_include_pad=False)


def plain(dtype: Dtype) -> Convolution:
    """Makes convolutions with a bias and no normalisation of their kernels."""

    def convolution(features: int, kernel: int, scale: float, name: str) -> Layer:
        init = fan_avg_uniform(scale)
        return nn.Conv(features, (kernel, kernel), kernel_init=init, dtype=compute_dtype(dtype), name=name)

    return convolution


class UpBlock(nn.Module):
    """A generator's block: it doubles the image, with two pre-activated 3x3 convolutions on its residual branch."""

    features: int
    conv: Convolution
    norm: Norm

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b hh ww d"]:
        """Doubles the image: [B H W C] -> [B *size features]"""
        h = double(nn.relu(self.norm("norm_1")(x)), size)
        h = self.conv(self.features, 3, 2.0, "conv_1")(h)
        h = self.conv(self.features, 3, 2.0, "conv_2")(nn.relu(self.norm("norm_2")(h)))
        return h + double(self.conv(self.features, 1, 1.0, "shortcut")(x), size)


class DownBlock(nn.Module):
    """A discriminator's block, without norms: two 3x3 convolutions on its residual branch, then a halving.

    The first block of a network has no activation before it, as its input is an image, and is always `wide`.
    """

    features: int
    conv: Convolution
    halves: bool = True
    first: bool = False
    wide: bool = False  # True: as many channels between the convolutions as in the output, else as in the input

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b hh ww d"]:
        """Halves the image where it is to: [B H W C] -> [B H W features], or [B ceil(H/2) ceil(W/2) features]"""
        resample = halve if self.halves else lambda x: x
        channels = x.shape[-1]
        h = x if self.first else nn.relu(x)
        h = self.conv(self.features if self.first or self.wide else channels, 3, 2.0, "conv_1")(h)
        h = resample(self.conv(self.features, 3, 2.0, "conv_2")(nn.relu(h)))
        if self.halves or channels != self.features:
            x = self.conv(self.features, 1, 1.0, "shortcut")(resample(x))
        return h + x


class ResNetGenerator(nn.Module):
    """Makes images from latents: a projection to the base (`nn.strided.pyramid`), then a block for each doubling.

    The defaults are WGAN-GP's: 1,204,483 parameters at 32x32x3. With `width` 256 it is SNGAN's, of 4,276,739.
    """

    width: Count = 128  # channels, at every size
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, z: Float[Array, "b d"], image_shape: tuple[int, int, int], train: bool) -> Image:
        """Makes an image from each latent: [B D] -> [B *image_shape] in [-1, 1]"""
        *finer, base = pyramid(*image_shape[:2])
        dtype = compute_dtype(self.dtype)
        norm = functools.partial(batch_norm, train, dtype)
        x = nn.Dense(math.prod(base) * self.width, kernel_init=fan_avg_uniform(), dtype=dtype, name="project")(z)
        x = x.reshape(-1, *base, self.width)
        for i, size in enumerate(reversed(finer)):
            x = UpBlock(self.width, plain(self.dtype), norm, name=f"block_{i}")(x, size)
        x = plain(self.dtype)(image_shape[2], 3, 1.0, "conv_out")(nn.relu(norm("norm_out")(x)))
        return jnp.tanh(x.astype(jnp.float32))


def batch_norm(train: bool, dtype: jnp.dtype, name: str) -> nn.BatchNorm:
    """Makes a batch norm with torch's defaults.

    Sampling uses the running statistics, where the authors' code uses the batch's.
    """
    return nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, dtype=dtype, name=name)


class ResNetCritic(nn.Module):
    """Judges images: blocks that halve, blocks that do not, the mean over pixels, a projection in float32.

    It has no norm, since a gradient penalty looks at each image by itself. The defaults have 1,053,825 parameters.
    """

    width: Count = 128  # channels, at every size
    halvings: Natural = 2
    flat: Natural = 2  # blocks after the last halving
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Image, train: bool) -> Float[Array, " b"]:
        """Judges images: [B H W C] in [-1, 1] -> [B] logits, high for real. `train` changes nothing."""
        for i in range(self.halvings + self.flat):
            halves, first = i < self.halvings, i == 0
            x = DownBlock(self.width, plain(self.dtype), halves, first, name=f"block_{i}")(x)
        x = jnp.mean(nn.relu(x).astype(jnp.float32), axis=(1, 2))
        return nn.Dense(1, kernel_init=fan_avg_uniform(), name="project")(x)[:, 0]
