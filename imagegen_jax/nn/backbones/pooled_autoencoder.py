"""The convolutional encoder and decoder of MaskGIT's tokenizer (Chang et al. 2022, arXiv 2202.04200, section 4.1).

A VQGAN without attention. Beside `autoencoder.ConvEncoder`, its levels are halved by means over 2x2 pixels, its
decoder has as many blocks as the encoder, most convolutions have no bias, and blocks that change the number of channels
have no way around their convolutions.
"""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.nn.backbones.autoencoder import activated, check_levels
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.resample import upsample_nearest


class PooledBlock(nn.Module):
    """x + h, h = conv(swish(norm(conv(swish(norm(x)))))); where its channels differ from x's, h + W h.

    So the authors' code has it, whose variable for x is h by then.
    """

    channels: Count
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Applies the block: [B H W C] -> [B H W channels]"""
        h = _conv(activated(x, self.dtype, "norm_1"), self.channels, self.dtype, "conv_1", bias=False)
        h = _conv(activated(h, self.dtype, "norm_2"), self.channels, self.dtype, "conv_2", bias=False)
        if x.shape[-1] == self.channels:
            return x + h
        return h + nn.Dense(self.channels, use_bias=False, dtype=compute_dtype(self.dtype), name="shortcut")(h)


class PooledEncoder(nn.Module):
    """Residual blocks with group norm, level by level, then as many again; it ends with a norm and swish.

    The 1x1 convolution that follows in the authors' code is the tokenizer's own.
    """

    width: Count = 128
    multipliers: tuple[Count, ...] = (1, 1, 2, 2, 4)  # of the width, a level each; all but the last halve the image
    blocks: Count = 2
    dtype: Dtype = "auto"

    def __post_init__(self) -> None:
        check_levels(self.multipliers, ())
        super().__post_init__()

    @property
    def factor(self) -> int:
        """How many pixels of an image's side are one of the grid's."""
        return 2 ** (len(self.multipliers) - 1)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b hh ww f"]:
        """Encodes images whose sides `factor` divides: [B H W C] -> [B H/factor W/factor width * multipliers[-1]]"""
        h = _conv(x, self.width, self.dtype, "conv_in", bias=False)
        for level, multiplier in enumerate(self.multipliers):
            for i in range(self.blocks):
                h = PooledBlock(self.width * multiplier, self.dtype, name=f"down_{level}_{i}")(h)
            if level < len(self.multipliers) - 1:
                h = nn.avg_pool(h, (2, 2), (2, 2))
        for i in range(self.blocks):
            h = PooledBlock(h.shape[-1], self.dtype, name=f"middle_{i}")(h)
        return activated(h, self.dtype, "norm_out")


class PooledDecoder(nn.Module):
    """The mirror of `PooledEncoder`. Fields of the same name mean the same."""

    width: Count = 128
    multipliers: tuple[Count, ...] = (1, 1, 2, 2, 4)  # as the encoder's: level 0 is the image's
    blocks: Count = 2
    dtype: Dtype = "auto"

    last_kernel: ClassVar[tuple[str, ...]] = ("conv_out", "kernel")  # of its parameters, that of the last layer

    def __post_init__(self) -> None:
        check_levels(self.multipliers, ())
        super().__post_init__()

    @nn.compact
    def __call__(self, z: Float[Array, "b hh ww d"], channels: int) -> Float[Array, "b h w c"]:
        """Decodes vectors: [B H W D] -> [B factor*H factor*W channels] in float32, not clipped"""
        h = _conv(z, self.width * self.multipliers[-1], self.dtype, "conv_in")
        for i in range(self.blocks):
            h = PooledBlock(h.shape[-1], self.dtype, name=f"middle_{i}")(h)
        for level, multiplier in reversed(tuple(enumerate(self.multipliers))):
            for i in range(self.blocks):
                h = PooledBlock(self.width * multiplier, self.dtype, name=f"up_{level}_{i}")(h)
            if level > 0:
                h = _conv(upsample_nearest(h), h.shape[-1], self.dtype, f"up_{level}")
        h = activated(h, self.dtype, "norm_out")
        return _conv(h, channels, self.dtype, "conv_out").astype(jnp.float32)


def _conv(
    x: Float[Array, "b h w c"], features: int, dtype: Dtype, name: str, bias: bool = True
) -> Float[Array, "b h w d"]:
    """Convolves with 3x3 kernels and a border of zeros."""
    return nn.Conv(features, (3, 3), use_bias=bias, dtype=compute_dtype(dtype), name=name)(x)
