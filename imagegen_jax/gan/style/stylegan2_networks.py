"""The networks of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958): configuration F, skips and residuals (Figure 7).

Images may be rectangles: both sides halve exactly, until the shorter one is 4 to 7 pixels.
"""

from __future__ import annotations

import itertools
import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import Count, NonNegative
from imagegen_jax.core.model import Image, PRNGKeys
from imagegen_jax.gan.style.deviation import append_deviation
from imagegen_jax.gan.style.equalized import EqualConv, EqualDense, normalise
from imagegen_jax.gan.style.modulated import StyledConv, ToImage
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.strided import pyramid
from imagegen_jax.nn.upfirdn import BINOMIAL, Taps, upsample

Labels = Float[Array, "b k"]  # one-hot rows


def resolutions(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Returns the sizes from the base to (height, width), each twice the one before.

    Raises ValueError where a side is below 8, or cannot be halved that often.
    """
    sizes = pyramid(height, width)[::-1]
    factor = 2 ** (len(sizes) - 1)
    if height % factor or width % factor:
        near = [max(1, round(side / factor)) * factor for side in (height, width)]
        raise ValueError(
            f"image size {height}x{width}: both sides must be divisible by {factor}; the nearest that are: "
            f"{near[0]}x{near[1]}"
        )
    return sizes


class Mapping(nn.Module):
    """Maps latents, labels or both to styles, in float32 (section 2; Karras et al. 2020, 2006.06676, appendix C)."""

    features: int = 512
    layers: int = 8
    rate: float = 0.01

    @nn.compact
    def __call__(self, z: Float[Array, "b z"] | None, labels: Labels | None) -> Float[Array, "b d"]:
        parts = [] if z is None else [normalise(z)]
        if labels is not None:
            parts.append(normalise(EqualDense(self.features, dtype="float32", name="embed")(labels)))
        x = jnp.concatenate(parts, axis=-1)
        for i in range(self.layers):
            x = EqualDense(self.features, activate=True, rate=self.rate, dtype="float32", name=f"dense_{i}")(x)
        return x


class Synthesis(nn.Module):
    """Makes images from styles: a learned constant grows, and each resolution adds an image to the sum (Figure 7b)."""

    channel_base: int
    channel_max: int
    taps: Taps = BINOMIAL
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self, w: Float[Array, "b l d"], image_shape: tuple[int, int, int], keys: PRNGKeys | None
    ) -> Float[Array, "b h w c"]:
        """Makes images from a style for each layer; a resolution's image shares the next layer's, or has the last."""
        sizes = resolutions(*image_shape[:2])
        start = self.param("start", nn.initializers.normal(1.0), (*sizes[0], self._channels(sizes[0])))
        x = jnp.broadcast_to(start, (len(w), *start.shape)).astype(compute_dtype(self.dtype))
        image, layer = jnp.zeros(()), 0
        for level, size in enumerate(sizes):
            for up in (True, False) if level > 0 else (False,):
                conv = StyledConv(self._channels(size), layer, up, self.taps, self.dtype, name=f"conv_{layer}")
                x = conv(x, w[:, layer], keys)
                layer += 1
            image = upsample(image, self.taps) if level > 0 else image
            image = image + ToImage(image_shape[2], self.dtype, name=f"image_{level}")(x, w[:, layer])
        return image

    def _channels(self, size: tuple[int, int]) -> int:
        return channels(self.channel_base, self.channel_max, size)


def channels(base: int, most: int, size: tuple[int, int]) -> int:
    """Returns how many channels a resolution has."""
    return max(1, min(base // min(size), most))


class Generator(nn.Module):
    """A mapping from latents to styles, and the synthesis of images from them."""

    style_dim: Count = 512
    mapping_layers: Count = 8
    mapping_rate: NonNegative = 0.01  # the mapping's learning rate, as a share of the optimizer's
    channel_base: Count = 32_768  # channels times the shorter side of the image there
    channel_max: Count = 512
    taps: Taps = BINOMIAL  # of the filter that goes with each change of resolution
    dtype: Dtype = "auto"

    def setup(self) -> None:
        self.mapping = Mapping(self.style_dim, self.mapping_layers, self.mapping_rate)
        self.synthesis = Synthesis(self.channel_base, self.channel_max, self.taps, self.dtype)

    def __call__(
        self, z: Float[Array, "b z"], labels: Labels | None, image_shape: tuple[int, int, int]
    ) -> Float[Array, "b h w c"]:
        """Makes images with constant noise from latents: [B Z], [B K] -> [B *image_shape], meant to be in [-1, 1]."""
        w = self.styles(z, labels)[:, None]
        layers = 2 * len(resolutions(*image_shape[:2]))
        return self.synthesise(jnp.broadcast_to(w, (len(z), layers, self.style_dim)), image_shape, None)

    def styles(self, z: Float[Array, "b z"], labels: Labels | None) -> Float[Array, "b d"]:
        """Maps latents to styles: [B Z], [B K] -> [B D]"""
        return self.mapping(z, labels)

    def synthesise(
        self, w: Float[Array, "b l d"], image_shape: tuple[int, int, int], keys: PRNGKeys | None
    ) -> Float[Array, "b h w c"]:
        """Makes images of styles: [B L D] -> [B *image_shape]. Noise is from the rows' `keys`; None: constant."""
        return self.synthesis(w, image_shape, keys)


class Discriminator(nn.Module):
    """Judges images. With labels, features are projected onto a mapping of these (arXiv 2006.06676, appendix C)."""

    channel_base: Count = 32_768  # channels times the shorter side of the image there
    channel_max: Count = 512
    residual: bool = True  # False: plain convolutions, which suits CIFAR-10
    group: Count = 4  # images that the deviation is taken over
    mapping_layers: Count = 8  # of labels
    mapping_rate: NonNegative = 0.01
    taps: Taps = BINOMIAL
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Image, labels: Labels | None) -> Float[Array, " b"]:
        """Judges images: [B H W C] in [-1, 1], [B K] -> [B] logits, high for real.

        The last layers compute in float32.
        """
        sizes = resolutions(*x.shape[1:3])[::-1]
        features = [channels(self.channel_base, self.channel_max, size) for size in sizes]
        x = EqualConv(features[0], 1, dtype=self.dtype, name="from_image")(x)
        for level, (_, fewer) in enumerate(itertools.pairwise(features)):
            x = self._halve(x, fewer, level)
        x = x.astype(jnp.float32)
        x = EqualConv(features[-1], dtype="float32", name="last_conv")(append_deviation(x, self.group))
        x = EqualDense(features[-1], activate=True, dtype="float32", name="dense")(x.reshape(len(x), -1))
        if labels is None:
            return EqualDense(1, dtype="float32", name="logit")(x)[:, 0]
        labels = Mapping(features[-1], self.mapping_layers, self.mapping_rate, name="mapping")(None, labels)
        x = EqualDense(features[-1], dtype="float32", name="logit")(x)
        return jnp.sum(x * labels, axis=-1) / math.sqrt(features[-1])

    def _halve(self, x: Float[Array, "b h w i"], features: int, level: int) -> Float[Array, "b h//2 w//2 o"]:
        """Halves the image by two convolutions; where it is residual, adds one of single pixels (Figure 7c)."""
        gain = math.sqrt(0.5) if self.residual else 1.0  # of both branches, so that their sum is as large as x

        def conv(
            features: int, size: int, name: str, down: bool, gain: float = 1.0, activate: bool = True
        ) -> EqualConv:
            return EqualConv(
                features, size, down, activate, activate, gain, self.taps, self.dtype, name=f"{name}_{level}"
            )

        y = conv(x.shape[-1], 3, "conv", down=False)(x)
        y = conv(features, 3, "halve", down=True, gain=gain)(y)
        return y + conv(features, 1, "skip", down=True, gain=gain, activate=False)(x) if self.residual else y
