"""PixArt-alpha (Chen et al. 2023, arXiv 2310.00426): a DiT that attends to a text, one modulation for all its blocks.

512x512           PixArt(): 610,856,096 parameters, with tokens of T5 XXL, 4096 features
256x256           PixArt(extent=16)
1024x1024         PixArt(sizes=True), in the paper 1024-MS
"""

from __future__ import annotations

import functools
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.nn.attention import SequenceAttention
from imagegen_jax.nn.backbones.conditioning import NOTHING, Conditioning, check_seen
from imagegen_jax.nn.backbones.dit import embedded, frequencies, modulated
from imagegen_jax.nn.backbones.transformers.transformer import Perceptron, Style
from imagegen_jax.nn.embed import positions
from imagegen_jax.nn.multihead import Implementation, check_heads
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.resample import check_patches, image, patches, with_source

STYLE = Style(activation="gelu_tanh")  # of the perceptrons

xavier = nn.initializers.xavier_uniform()
zeros = nn.initializers.zeros_init()


class PixArtBlock(nn.Module):
    """Self-attention, attention to the tokens, and a perceptron: adaLN-single (section 2.3).

    The first and the last are normed, scaled, shifted and gated by what all blocks share plus a table of their own.
    """

    heads: int
    expansion: int = 4
    attention: Implementation = "auto"
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        modulation: Float[Array, "b 6 d"],
        tokens: Float[Array, "b m d"],
        mask: Bool[Array, "b m"] | None,
    ) -> Float[Array, "b l d"]:
        """Changes the patches of an image: [B L D] -> [B L D]"""
        d = x.shape[-1]
        attend = functools.partial(SequenceAttention, self.heads, kernel_init=xavier, dtype=self.dtype)
        parts = modulation + self.param("table", nn.initializers.normal(d**-0.5), (6, d)).astype(modulation.dtype)
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = jnp.split(parts, 6, axis=1)
        h = modulated(x, shift_1, scale_1, self.dtype)
        x = x + gate_1 * attend(implementation=self.attention, out_init=xavier, name="self_attention")(h)
        x = x + attend(implementation="xla", out_init=zeros, name="cross_attention")(x, tokens, mask)
        h = modulated(x, shift_2, scale_2, self.dtype)
        return x + gate_2 * Perceptron(self.expansion * d, STYLE, self.dtype, name="mlp")(h)


class PixArt(nn.Module):
    """Blocks of attention over patches and to a text. The defaults are those of 512x512, latents of 64x64.

    `out_channels` are 8, half of them for a variance, as in DiT. With `sizes` the time is told together with the
    picture's height and width in pixels, which `conditioning.sizes` holds. Grids of any size span `extent` places.
    """

    patch: Count = 2
    depth: Count = 28
    width: Count = 1152
    heads: Count = 16
    expansion: Count = 4  # of the perceptrons' hidden layer
    out_channels: Count | None = 8  # None: the image's
    sizes: bool = False
    extent: Count = 32
    attention: Implementation = "auto"  # see `multihead.attend`
    dtype: Dtype = "auto"

    channels_field: ClassVar[str] = "out_channels"

    @nn.nowrap
    def output_channels(self, channels: int) -> int:
        """Returns `out_channels`, or the image's."""
        return self.out_channels or channels

    @property
    def needed(self) -> tuple[str, ...]:
        """The tokens, and the sizes where they are told."""
        return ("tokens", "sizes") if self.sizes else ("tokens",)

    @nn.nowrap
    def sizes_of(self, height: int, width: int) -> tuple[int, ...]:
        """Returns height and width, which the ratio follows from."""
        return (height, width)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], t: Num[Array, " b"], conditioning: Conditioning = NOTHING
    ) -> Float[Array, "b h w d"]:
        """Predicts for `x` at times `t` of 0 to 999: [B H W C], [B] -> [B H W D] in float32.

        Raises ValueError where patches or heads do not fit, or conditions are missing.
        """
        check_seen(self, conditioning, "token_mask", "source", needed=self.needed)
        check_heads(self.width, self.heads)
        check_patches(x.shape[1], x.shape[2], self.patch)
        rows, columns = x.shape[1] // self.patch, x.shape[2] // self.patch
        dense = functools.partial(nn.Dense, dtype=compute_dtype(self.dtype), kernel_init=xavier)
        c = self._embed(t, conditioning.sizes)
        modulation = dense(6 * self.width, name="modulation")(nn.silu(c)).reshape(len(t), 6, self.width)
        tokens = nn.gelu(dense(self.width, name="caption_0")(conditioning.tokens), approximate=True)
        tokens = dense(self.width, name="caption_1")(tokens)
        h = dense(self.width, name="patch")(patches(with_source(x, conditioning.source), self.patch))
        step = (self.extent / rows, self.extent / columns)
        h = h + positions(rows, columns, self.width, step=step).astype(h.dtype)
        for i in range(self.depth):
            block = PixArtBlock(self.heads, self.expansion, self.attention, self.dtype, name=f"block_{i}")
            h = block(h, modulation, tokens, conditioning.token_mask)
        table = self.param("table", nn.initializers.normal(self.width**-0.5), (2, self.width)).astype(c.dtype)
        shift, scale = jnp.split(table + c[:, None], 2, axis=1)
        h = modulated(h, shift, scale, self.dtype)
        h = dense(self.patch**2 * (self.out_channels or x.shape[-1]), kernel_init=zeros, name="out")(h)
        return image(h, rows, columns, self.patch).astype(jnp.float32)

    def _embed(self, t: Num[Array, " b"], sizes: Num[Array, "b 2"] | None) -> Float[Array, "b d"]:
        """Embeds the time, and in 1024-MS height, width and their ratio, a third of the features each."""
        dtype = compute_dtype(self.dtype)
        c = embedded(frequencies(t), self.width, dtype, "time")
        if sizes is None:
            return c
        third = self.width // 3
        sides = embedded(frequencies(sizes.reshape(-1)), third, dtype, "side").reshape(len(t), 2 * third)
        ratio = embedded(frequencies(sizes[:, 0] / sizes[:, 1]), third, dtype, "ratio")
        return c + jnp.concatenate([sides, ratio], axis=-1)
