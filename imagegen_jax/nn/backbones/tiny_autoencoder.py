"""The encoder and decoder of TAESD (Bohan 2023, github.com/madebyollin/taesd), distilled from Stable Diffusion's.

Residual blocks of three 3x3 convolutions of one width and relu, without norms or attention: 1/34 of the parameters of
the autoencoder whose latents they have, fast enough to look at samples while they are being drawn.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.nn.init import fan_in_uniform
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.resample import upsample_nearest

LARGEST = 3.0  # of a latent, towards which larger ones are bent before they are decoded


class TinyBlock(nn.Module):
    """relu(x + conv(relu(conv(relu(conv(x))))))."""

    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Applies the block: [B H W C] -> [B H W C]"""
        h = x
        for i in range(3):
            h = _conv(nn.relu(h) if i else h, x.shape[-1], self.dtype, f"conv_{i}")
        return nn.relu(x + h)


class TinyEncoder(nn.Module):
    """A convolution and blocks for each level; that of all levels but the first halves the image."""

    width: Count = 64
    blocks: tuple[Count, ...] = (1, 3, 3, 3)  # of each level, the image's first
    features: Count = 4
    dtype: Dtype = "auto"

    @property
    def factor(self) -> int:
        """How many pixels of an image's side are one of the grid's."""
        return 2 ** (len(self.blocks) - 1)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b hh ww f"]:
        """Encodes images in [-1, 1]: [B H W C] -> [B H/factor W/factor features]"""
        h = (x + 1) / 2
        for level, blocks in enumerate(self.blocks):
            h = _conv(h, self.width, self.dtype, f"down_{level}", bias=not level, stride=2 if level else 1)
            for i in range(blocks):
                h = TinyBlock(self.dtype, name=f"down_{level}_{i}")(h)
        return _conv(h, self.features, self.dtype, "conv_out").astype(jnp.float32)


class TinyDecoder(nn.Module):
    """The mirror of `TinyEncoder`. Fields of the same name mean the same."""

    width: Count = 64
    blocks: tuple[Count, ...] = (1, 3, 3, 3)  # as the encoder's: level 0 is the image's
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, z: Float[Array, "b hh ww d"], channels: int) -> Float[Array, "b h w c"]:
        """Decodes latents: [B H W D] -> [B factor*H factor*W channels] in float32, not clipped"""
        h = nn.relu(_conv(jnp.tanh(z / LARGEST) * LARGEST, self.width, self.dtype, "conv_in"))
        for level, blocks in reversed(tuple(enumerate(self.blocks))):
            for i in range(blocks):
                h = TinyBlock(self.dtype, name=f"up_{level}_{i}")(h)
            if level:
                h = _conv(upsample_nearest(h), self.width, self.dtype, f"up_{level}", bias=False)
        return 2 * _conv(h, channels, self.dtype, "conv_out").astype(jnp.float32) - 1


def _conv(
    x: Float[Array, "b h w c"], features: int, dtype: Dtype, name: str, bias: bool = True, stride: int = 1
) -> Float[Array, "b hh ww d"]:
    """Convolves with 3x3 kernels and a border of zeros; torch's default start."""
    start = fan_in_uniform(9 * x.shape[-1])
    settings = {"kernel_init": start["kernel_init"], **({"bias_init": start["bias_init"]} if bias else {})}
    padding = ((1, 1), (1, 1))
    return nn.Conv(features, (3, 3), stride, padding, use_bias=bias, dtype=compute_dtype(dtype), name=name, **settings)(
        x
    )
