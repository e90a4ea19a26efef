"""The convolutional encoder and decoder of VQGAN (Esser et al. 2021, arXiv 2012.09841, appendix A, table 7).

Latent diffusion (Rombach et al. 2022, arXiv 2112.10752) and Stable Diffusion have the same, with other numbers. Each
level has residual blocks and half the height and width of the level above it. With z the features of the grid:

    VQGAN f16                     multipliers (1, 1, 2, 2, 4), attention_levels (4,), z 256
    VQGAN f8                      multipliers (1, 1, 2, 4), attention_levels (3,), z 256
    Stable Diffusion              multipliers (1, 2, 4, 4), no attention_levels, z 4, of which the encoder makes twice
    latent diffusion, VQ-f4       multipliers (1, 2, 4), no attention_levels, z 3
"""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import Count, Natural
from imagegen_jax.nn.attention import SelfAttention
from imagegen_jax.nn.init import fan_in_uniform
from imagegen_jax.nn.multihead import Implementation
from imagegen_jax.nn.norm import group_norm
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.resample import upsample_nearest

EPSILON = 1e-6  # of all norms
SAME = ((1, 1), (1, 1))
HALVING = ((0, 1), (0, 1))  # zeros below and right only


class ResidualBlock(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x)))))), with a 1x1 convolution of x where its channels differ."""

    channels: Count
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Applies the block: [B H W C] -> [B H W channels]"""
        h = conv(activated(x, self.dtype, "norm_1"), self.channels, self.dtype, "conv_1")
        h = conv(activated(h, self.dtype, "norm_2"), self.channels, self.dtype, "conv_2")
        if x.shape[-1] == self.channels:
            return x + h
        start = fan_in_uniform(x.shape[-1])
        return h + nn.Dense(self.channels, dtype=compute_dtype(self.dtype), **start, name="shortcut")(x)


class ConvEncoder(nn.Module):
    """Residual blocks with group norm, level by level, then two more with attention between them."""

    width: Count = 128
    multipliers: tuple[Count, ...] = (1, 1, 2, 2, 4)  # of the width, a level each; all but the last halve the image
    blocks: Count = 2
    attention_levels: tuple[Natural, ...] = ()  # the levels, from 0, whose blocks end with attention
    middle_attention: bool = True
    features: Count = 256  # of its output; for a posterior twice the latents' channels
    attention: Implementation = "auto"  # see `multihead.attend`
    dtype: Dtype = "auto"

    def __post_init__(self) -> None:
        check_levels(self.multipliers, self.attention_levels)
        super().__post_init__()

    @property
    def factor(self) -> int:
        """How many pixels of an image's side are one of the grid's."""
        return 2 ** (len(self.multipliers) - 1)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b hh ww f"]:
        """Encodes images whose sides `factor` divides: [B H W C] -> [B H/factor W/factor features]"""
        h = conv(x, self.width, self.dtype, "conv_in")
        for level, multiplier in enumerate(self.multipliers):
            for i in range(self.blocks):
                h = block(self, h, self.width * multiplier, level, f"down_{level}_{i}")
            if level < len(self.multipliers) - 1:
                h = conv(h, h.shape[-1], self.dtype, f"down_{level}", halve=True)
        h = activated(middle(self, h), self.dtype, "norm_out")
        return conv(h, self.features, self.dtype, "conv_out")


class ConvDecoder(nn.Module):
    """The mirror of `ConvEncoder`, with a block more in each level. Fields of the same name mean the same."""

    width: Count = 128
    multipliers: tuple[Count, ...] = (1, 1, 2, 2, 4)  # as the encoder's: level 0 is the image's
    blocks: Count = 2  # of each level of the encoder
    attention_levels: tuple[Natural, ...] = ()
    middle_attention: bool = True
    attention: Implementation = "auto"
    dtype: Dtype = "auto"

    last_kernel: ClassVar[tuple[str, ...]] = ("conv_out", "kernel")  # of its parameters, that of the last layer

    def __post_init__(self) -> None:
        check_levels(self.multipliers, self.attention_levels)
        super().__post_init__()

    @nn.compact
    def __call__(self, z: Float[Array, "b hh ww d"], channels: int) -> Float[Array, "b h w c"]:
        """Decodes vectors: [B H W D] -> [B factor*H factor*W channels] in float32, not clipped"""
        h = conv(z, self.width * self.multipliers[-1], self.dtype, "conv_in")
        h = middle(self, h)
        for level, multiplier in reversed(tuple(enumerate(self.multipliers))):
            for i in range(self.blocks + 1):
                h = block(self, h, self.width * multiplier, level, f"up_{level}_{i}")
            if level > 0:
                h = conv(upsample_nearest(h), h.shape[-1], self.dtype, f"up_{level}")
        h = activated(h, self.dtype, "norm_out")
        return conv(h, channels, self.dtype, "conv_out").astype(jnp.float32)


# --- parts that a network calls to build itself -----------------------------------------------------------------------


def block(
    network: ConvEncoder | ConvDecoder, x: Float[Array, "b h w c"], channels: int, level: int, name: str
) -> Float[Array, "b h w d"]:
    """Applies a residual block, and attention where its level has that."""
    x = ResidualBlock(channels, network.dtype, name=name)(x)
    return attended(network, x, f"{name}_attention") if level in network.attention_levels else x


def middle(network: ConvEncoder | ConvDecoder, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Applies the blocks of the lowest resolution."""
    x = ResidualBlock(x.shape[-1], network.dtype, name="middle_0")(x)
    x = attended(network, x, "middle_attention_0") if network.middle_attention else x
    return ResidualBlock(x.shape[-1], network.dtype, name="middle_1")(x)


def attended(network: ConvEncoder | ConvDecoder, x: Float[Array, "b h w c"], name: str) -> Float[Array, "b h w c"]:
    """Adds attention over all pixels, with a single head."""
    start = fan_in_uniform(x.shape[-1])
    return SelfAttention(
        network.dtype,
        epsilon=EPSILON,
        **start,
        out_init=start["kernel_init"],
        implementation=network.attention,
        name=name,
    )(x)


def activated(x: Float[Array, "b h w c"], dtype: Dtype, name: str) -> Float[Array, "b h w c"]:
    """Applies group norm and swish."""
    return nn.swish(group_norm(x.shape[-1], compute_dtype(dtype), name, EPSILON)(x))


def conv(
    x: Float[Array, "b h w c"], features: int, dtype: Dtype, name: str, halve: bool = False
) -> Float[Array, "b hh ww d"]:
    """Convolves with 3x3 kernels and a border of zeros; torch's default start."""
    strides, padding = (2, HALVING) if halve else (1, SAME)
    start = fan_in_uniform(9 * x.shape[-1])
    return nn.Conv(features, (3, 3), strides, padding, dtype=compute_dtype(dtype), **start, name=name)(x)


def check_levels(multipliers: tuple[int, ...], attention_levels: tuple[int, ...]) -> None:
    """Raises ValueError where there is no level, or attention in one that is not there."""
    if not multipliers:
        raise ValueError("multipliers=(): give one a level, such as (1, 2, 4), which halves an image twice")
    beyond = [level for level in attention_levels if level >= len(multipliers)]
    if beyond:
        raise ValueError(
            f"attention_levels={attention_levels}: there is no level {beyond[0]}; with multipliers={multipliers} the "
            f"levels are 0 to {len(multipliers) - 1}, the finest first"
        )
