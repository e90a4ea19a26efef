"""The U-Net of DDPM (Ho et al. 2020, arXiv 2006.11239, appendix B): 35,746,307 parameters at its CIFAR-10 size."""

from __future__ import annotations

import functools
import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from imagegen_jax.core.config.bounds import BelowOne, Count
from imagegen_jax.core.model import PRNGKeys
from imagegen_jax.nn.attention import SelfAttention
from imagegen_jax.nn.backbones.conditioning import NOTHING, Conditioning, check_seen
from imagegen_jax.nn.dropout import Dropout
from imagegen_jax.nn.embed import positions, sinusoidal
from imagegen_jax.nn.init import fan_avg_uniform
from imagegen_jax.nn.multihead import CrossAttention, Implementation
from imagegen_jax.nn.norm import group_norm
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.resample import check_patches, image, patches, upsample_nearest, with_source


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after group norm and swish, the embedding added between them; then attention.

    Pixels attend to each other, and then to the tokens where there are any.
    """

    channels: int
    attention: bool = False
    dropout: float = 0.0
    implementation: Implementation = "auto"  # of attention
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        embedding: Float[Array, "b e"],
        keys: PRNGKeys | None,
        tokens: Float[Array, "b m f"] | None = None,
        token_mask: Bool[Array, "b m"] | None = None,
    ) -> Float[Array, "b h w d"]:
        dtype = compute_dtype(self.dtype)
        dense = functools.partial(nn.Dense, self.channels, dtype=dtype, kernel_init=fan_avg_uniform())
        h = nn.swish(group_norm(x.shape[-1], dtype, name="norm_1")(x))
        h = conv(self.channels, dtype, name="conv_1")(h)
        h = h + dense(name="embed")(nn.swish(embedding))[:, None, None]
        h = nn.swish(group_norm(self.channels, dtype, name="norm_2")(h))
        h = Dropout(self.dropout, name="dropout")(h, keys)
        h = conv(self.channels, dtype, scale=0, name="conv_2")(h)
        h = h + (x if x.shape[-1] == self.channels else dense(name="shortcut")(x))
        if not self.attention:
            return h
        h = SelfAttention(self.dtype, implementation=self.implementation, name="attention")(h)
        return h if tokens is None else CrossAttention(self.dtype, name="cross_attention")(h, tokens, token_mask)


class UNet(nn.Module):
    """Residual blocks down to low resolutions and back up; on the way up each sees the output of its mirror image.

    The defaults are DDPM's for CIFAR-10. Level i has `blocks` residual blocks of `width` * `multipliers[i]` channels,
    and half the height and width of the level above. Levels whose height is in `attention_at` end each block with
    self-attention (heights that do not occur are ignored), and so does the middle; with `cross_attention`, attention to
    the tokens follows. See `group_norm` for how many groups its norms have. With a `patch` of p the first level has a
    place for each p x p pixels, which are its channels (Luhman & Luhman 2022, arXiv 2207.04316, section 3.1): the same
    time then pays for wider levels. Convolutions know of places only by the zeros around the image; `positions` saves
    learning "on the left" from these (as in CoordConv, Liu et al. 2018, arXiv 1807.03247, with DiT's embedding).
    """

    width: Count = 128
    multipliers: tuple[Count, ...] = (1, 2, 2, 2)
    blocks: Count = 2
    attention_at: tuple[Count, ...] = (16,)
    dropout: BelowOne = 0.1
    cross_attention: bool = False
    attention: Implementation = "auto"  # see `multihead.attend`
    dtype: Dtype = "auto"
    patch: Count = 1  # height and width of what is one place of the first level, in pixels
    positions: bool = False  # whether sines and cosines tell the first level where each place lies

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], t: Num[Array, " b"], conditioning: Conditioning = NOTHING
    ) -> Float[Array, "b h w c"]:
        """Predicts for `x` at times `t`, counted 0 to 999 as in DDPM's code; in float32 with the shape of `x`.

        Raises ValueError where patches do not divide the image or levels cannot halve it, and where there are tokens
        but no `cross_attention`, or the other way round.
        """
        check_seen(self, conditioning, "labels", "source", "span", cross_attention=self.cross_attention)
        labels, tokens, token_mask, source, span, *_, keys = conditioning
        check_patches(x.shape[1], x.shape[2], self.patch)
        rows, columns = x.shape[1] // self.patch, x.shape[2] // self.patch
        check_halvings(rows, columns, len(self.multipliers), self.patch)
        dtype = compute_dtype(self.dtype)
        block = functools.partial(ResidualBlock, dropout=self.dropout, implementation=self.attention, dtype=self.dtype)
        conditions = (self._embed(t, labels, span), keys, tokens, token_mask)
        h = patches(with_source(x, source), self.patch).reshape(len(x), rows, columns, -1)
        h = conv(self.width, dtype, name="conv_in")(h)
        if self.positions:
            h = h + positions(rows, columns, self.width).reshape(rows, columns, -1).astype(dtype)
        skips = [h]
        for level, multiplier in enumerate(self.multipliers):
            if level > 0:
                h = conv(h.shape[-1], dtype, strides=2, name=f"down_{level}")(h)
                skips.append(h)
            attention = h.shape[1] in self.attention_at
            for i in range(self.blocks):
                h = block(self.width * multiplier, attention, name=f"down_{level}_{i}")(h, *conditions)
                skips.append(h)
        h = block(h.shape[-1], attention=True, name="middle_0")(h, *conditions)
        h = block(h.shape[-1], name="middle_1")(h, *conditions)
        for level, multiplier in reversed(tuple(enumerate(self.multipliers))):
            attention = h.shape[1] in self.attention_at
            for i in range(self.blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = block(self.width * multiplier, attention, name=f"up_{level}_{i}")(h, *conditions)
            if level > 0:
                h = conv(h.shape[-1], dtype, name=f"up_{level}")(upsample_nearest(h))
        h = nn.swish(group_norm(h.shape[-1], dtype, name="norm_out")(h))
        h = conv(self.patch**2 * x.shape[-1], dtype, scale=0, name="conv_out")(h)
        return image(h, rows, columns, self.patch).astype(jnp.float32)

    def _embed(
        self, t: Num[Array, " b"], labels: Float[Array, "b k"] | None, span: Num[Array, " b"] | None
    ) -> Float[Array, "b e"]:
        dense = functools.partial(nn.Dense, 4 * self.width, dtype=compute_dtype(self.dtype))

        def embedded(time: Num[Array, " b"], name: str) -> Float[Array, "b e"]:
            h = nn.swish(dense(kernel_init=fan_avg_uniform(), name=f"{name}_0")(sinusoidal(time, self.width)))
            return dense(kernel_init=fan_avg_uniform(), name=f"{name}_1")(h)

        h = embedded(t, "time") if span is None else embedded(t, "time") + embedded(span, "span")
        if labels is None:
            return h
        # DDPM has no classes; improved DDPM (Nichol & Dhariwal 2021) adds an embedding of each from N(0, 1) on.
        return h + dense(use_bias=False, kernel_init=nn.initializers.normal(1.0), name="label")(labels)


def conv(channels: int, dtype: jnp.dtype, name: str, strides: int = 1, scale: float = 1.0) -> nn.Conv:
    """Makes a 3x3 convolution. "SAME" at stride 2 pads below and right only, as the reference does."""
    init = fan_avg_uniform(scale)
    return nn.Conv(channels, (3, 3), (strides, strides), "SAME", dtype=dtype, kernel_init=init, name=name)


def check_halvings(height: int, width: int, levels: int, patch: int = 1) -> None:
    """Raises ValueError where an image, or the grid of its patches, cannot be halved `levels` - 1 times."""
    factor = 2 ** (levels - 1)
    if height % factor or width % factor:
        odd = math.gcd(height, width)
        possible = (odd & -odd).bit_length()
        grid = "an image" if patch == 1 else f"a grid of patches (patch={patch})"
        raise ValueError(
            f"{grid} of {height}x{width} cannot be halved {levels - 1} times, as the {levels} levels of this U-Net "
            f"need: use images of a height and width divisible by {factor * patch}, or multipliers of at most "
            f"{possible} levels"
        )
