"""The generator of StyleGAN (Karras et al. 2019, arXiv 1812.04948, Figure 1b), for any of its levels.

Like ProGAN's, it has an image at each level, and `levels` says which are used. The discriminator is ProGAN's, with a
low-pass filter before each halving (section 2).

The gain sqrt(2) of activations comes after noise and bias, not before them as in the authors' code. Convolutions that
double the size see other pixels just beyond the border, since theirs are filtered after the convolution.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.random import fold_rows, normal_rows
from imagegen_jax.core.config.bounds import Count, NonNegative
from imagegen_jax.core.model import PRNGKeys, Scalar
from imagegen_jax.gan.style.adain import AdaIN
from imagegen_jax.gan.style.equalized import EqualConv, bias_activation
from imagegen_jax.gan.style.growing import fade
from imagegen_jax.gan.style.progan_networks import Conv
from imagegen_jax.gan.style.stylegan2_networks import Labels, Mapping, channels, resolutions
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.resample import upsample_nearest
from imagegen_jax.nn.upfirdn import BINOMIAL, Taps


class Noise(nn.Module):
    """Adds normal noise, the same for all channels but for a learned strength of each (section 2, B)."""

    salt: int  # different for each layer of a network

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], keys: PRNGKeys | None) -> Float[Array, "b h w c"]:
        """Adds noise: from `keys`, one a row, each image's own; for None the noise stored in the collection "noise"."""
        size, strength = x.shape[1:3], self.param("strength", nn.initializers.zeros_init(), x.shape[-1:])

        def draw(keys: PRNGKeys) -> Float[Array, "b h w 1"]:
            return normal_rows(keys, (math.prod(size),)).reshape(-1, *size, 1)

        if keys is None:
            noise = self.variable("noise", "constant", lambda: draw(self.make_rng("params")[None])[0]).value[None]
        else:
            noise = draw(fold_rows(keys, self.salt))
        return x + (noise * strength).astype(x.dtype)


class Finish(nn.Module):
    """Follows each convolution: noise, bias and activation, then the style (Figure 1b)."""

    salt: int
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], w: Float[Array, "b d"], keys: PRNGKeys | None
    ) -> Float[Array, "b h w c"]:
        x = Noise(self.salt, name="noise")(x, keys)
        x = bias_activation(x, self.param("bias", nn.initializers.zeros_init(), x.shape[-1:]))
        return AdaIN(dtype=self.dtype, name="adain")(x, w)


class Synthesis(nn.Module):
    """Makes images from styles, starting from a learned constant."""

    channel_base: int
    channel_max: int
    taps: Taps = BINOMIAL
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self,
        w: Float[Array, "b l d"],
        image_shape: tuple[int, int, int],
        keys: PRNGKeys | None,
        levels: range,
        progress: Scalar,
    ) -> Float[Array, "b h w c"]:
        """Makes images from two styles for each level; the styles of levels not reached are not read."""
        image = jnp.zeros(())
        for level, size in enumerate(resolutions(*image_shape[:2])[: levels.stop]):
            features, even, odd = channels(self.channel_base, self.channel_max, size), 2 * level, 2 * level + 1
            if level == 0:
                start = self.param("start", nn.initializers.ones_init(), (*size, features))
                x = jnp.broadcast_to(start, (len(w), *start.shape)).astype(compute_dtype(self.dtype))
            else:
                x = Conv(features, True, self.taps, self.dtype, name=f"conv_{even}")(x)
            x = Finish(even, self.dtype, name=f"finish_{even}")(x, w[:, even], keys)
            x = Conv(features, dtype=self.dtype, name=f"conv_{odd}")(x)
            x = Finish(odd, self.dtype, name=f"finish_{odd}")(x, w[:, odd], keys)
            if level in levels:
                to_image = EqualConv(image_shape[2], 1, activate=False, dtype=self.dtype, name=f"image_{level}")
                fine = to_image(x).astype(jnp.float32)
                image = fine if level == levels.start else fade(upsample_nearest(image), fine, progress, level)
        return image


class Generator(nn.Module):
    """A mapping from latents to styles, and the synthesis of images from them."""

    style_dim: Count = 512
    mapping_layers: Count = 8
    mapping_rate: NonNegative = 0.01  # the mapping's learning rate, as a share of the optimizer's
    channel_base: Count = 16_384  # channels times the shorter side of the image there
    channel_max: Count = 512
    taps: Taps = BINOMIAL  # of the filter that goes with upsampling
    dtype: Dtype = "auto"

    def setup(self) -> None:
        self.embed = nn.Dense(
            self.style_dim, use_bias=False, kernel_init=nn.initializers.normal(1.0), dtype=jnp.float32
        )
        self.mapping = Mapping(self.style_dim, self.mapping_layers, self.mapping_rate)
        self.synthesis = Synthesis(self.channel_base, self.channel_max, self.taps, self.dtype)

    def __call__(
        self, z: Float[Array, "b z"], labels: Labels | None, image_shape: tuple[int, int, int]
    ) -> Float[Array, "b h w c"]:
        """Makes an image from each latent: [B Z], [B K] -> [B *image_shape], meant to be in [-1, 1].

        Noise is constant, and all levels are faded in.
        """
        count = len(resolutions(*image_shape[:2]))
        w = jnp.repeat(self.styles(z, labels)[:, None], 2 * count, axis=1)
        return self.synthesise(w, image_shape, None, range(count), jnp.float32(count - 1))

    def styles(self, z: Float[Array, "b z"], labels: Labels | None) -> Float[Array, "b d"]:
        """Maps latents to styles: [B Z], [B K] -> [B D].

        Latent and embedded label are normalised as one vector, as in the authors' code.
        """
        return self.mapping(z if labels is None else jnp.concatenate([z, self.embed(labels)], axis=-1), None)

    def synthesise(
        self,
        w: Float[Array, "b l d"],
        image_shape: tuple[int, int, int],
        keys: PRNGKeys | None,
        levels: range,
        progress: Scalar,
    ) -> Float[Array, "b h w c"]:
        """Makes images of styles: [B L D] -> [B H W C] of the last of `levels`.

        Noise comes from the rows' `keys`; for None it is the constant one.
        """
        return self.synthesis(w, image_shape, keys, levels, progress)
