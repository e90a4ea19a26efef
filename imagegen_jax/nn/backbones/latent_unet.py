"""The U-Net of latent diffusion (Rombach et al. 2022, arXiv 2112.10752): residual blocks, and transformers over pixels.

    Stable Diffusion 1              LatentUNet(): 859,520,964 parameters, with tokens of 768 features
    Stable Diffusion 2              LatentUNet(head_channels=64): 865,910,724, with tokens of 1024 features
    SDXL (arXiv 2307.01952)         LatentUNet(multipliers=(1, 2, 4), depths=(0, 2, 10), head_channels=64, added=True):
                                        2,567,463,684, with tokens of 2048 features
    LDM-8, ImageNet 256x256         LatentUNet(256, (1, 2, 4), depths=(1, 1, 1), head_channels=32, class_token=512,
                                        dropped_token=False): 394,984,196, and 512,000 that make the class's token
    LDM-4, without a text           `adm.ADM(224, (1, 2, 3, 4), attention_at=(32, 16, 8), head_channels=32,
                                        scale_shift=False, resample="conv", learned_variance=False)`: 274,056,163

What is called linear projections in Stable Diffusion 2 and SDXL are the same layers, stored in another layout.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from imagegen_jax.core.config.bounds import BelowOne, Count, Natural
from imagegen_jax.core.model import LabelRows
from imagegen_jax.nn.attention import SequenceAttention
from imagegen_jax.nn.backbones.adm import EPSILON, Block, BlockConditions, conv, dense, embed, heads_of
from imagegen_jax.nn.backbones.conditioning import NOTHING, Conditioning, check_seen
from imagegen_jax.nn.backbones.unet import check_halvings
from imagegen_jax.nn.embed import sinusoidal
from imagegen_jax.nn.multihead import Implementation
from imagegen_jax.nn.norm import group_norm
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.resample import upsample_nearest, with_source

SIZE_FREQUENCIES = 256  # sines and cosines that embed each size, in SDXL

start = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # torch's default


class TransformerBlock(nn.Module):
    """Attention to all pixels, attention to the tokens, and a perceptron with a gate, each normed and added."""

    heads: int
    implementation: Implementation = "auto"  # of attention among pixels
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l d"], tokens: Float[Array, "b m e"], mask: Bool[Array, "b m"] | None
    ) -> Float[Array, "b l d"]:
        """Changes pixels by each other and by the `tokens` where `mask` is True: [B L D] -> [B L D]"""
        d = x.shape[-1]
        dtype = compute_dtype(self.dtype)
        norm = functools.partial(nn.LayerNorm, 1e-5, dtype)
        attention = functools.partial(
            SequenceAttention, self.heads, use_bias=False, kernel_init=start, out_init=start, dtype=self.dtype
        )
        x = x + attention(implementation=self.implementation, name="self_attention")(norm(name="norm_0")(x))
        x = x + attention(implementation="xla", name="cross_attention")(norm(name="norm_1")(x), tokens, mask)
        # GEGLU (arXiv 2002.05202); one layer makes both of its factors, as in the published files.
        h, gate = jnp.split(dense(norm(name="norm_2")(x), 8 * d, dtype, "hidden"), 2, axis=-1)
        return x + dense(h * nn.gelu(gate, approximate=False), d, dtype, "out")


class SpatialTransformer(nn.Module):
    """x + out(blocks(in(norm(x)))), which starts as x: the pixels of a feature map are the places of a sequence."""

    depth: int
    heads: int
    implementation: Implementation = "auto"
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], tokens: Float[Array, "b m e"], mask: Bool[Array, "b m"] | None
    ) -> Float[Array, "b h w c"]:
        """Changes a feature map by itself and by the tokens: [B H W C] -> [B H W C]"""
        b, height, width, c = x.shape
        dtype = compute_dtype(self.dtype)
        h = dense(group_norm(c, dtype, "norm")(x).reshape(b, height * width, c), c, dtype, "in")
        for i in range(self.depth):
            h = TransformerBlock(self.heads, self.implementation, self.dtype, name=f"block_{i}")(h, tokens, mask)
        out = nn.Dense(c, dtype=dtype, kernel_init=nn.initializers.zeros_init(), name="out")
        return x + out(h).reshape(x.shape)


class LatentUNet(nn.Module):
    """A U-Net whose levels attend to tokens, a text's or a class's. The defaults are Stable Diffusion 1's.

    Level i has `blocks` residual blocks of `width` * `multipliers[i]` channels, each with a transformer of `depths[i]`
    blocks after it (0: none), and half the height and width of the level above. The middle has one as deep as the
    lowest level that has any. With `added`, as in SDXL, the pooled text and the `sizes` are added to the time: height
    and width of the original, top and left of the part that was cut out, and height and width to draw, in pixels. With
    `class_token`, as in latent diffusion of ImageNet, the only token is one that stands for the image's class, or, with
    `dropped_token`, for that it was dropped, as guidance needs.
    """

    width: Count = 320
    multipliers: tuple[Count, ...] = (1, 2, 4, 4)
    blocks: Count = 2
    depths: tuple[Natural, ...] = (1, 1, 1, 0)
    head_channels: Count | None = None  # channels of each head; None: `heads` heads, whatever the channels
    heads: Count = 8  # where `head_channels` is None
    added: bool = False
    class_token: Count | None = None  # features of the class's token; None: the tokens are given
    dropped_token: bool = True  # where there is `class_token`: a last one for a label that is dropped
    dropout: BelowOne = 0.0
    attention: Implementation = "auto"  # see `multihead.attend`
    dtype: Dtype = "auto"

    @property
    def needed(self) -> tuple[str, ...]:
        """The tokens or the labels that one is made of, and what is `added`."""
        return ("labels" if self.class_token else "tokens", *(("pooled", "sizes") if self.added else ()))

    @property
    def label_rows(self) -> LabelRows:
        """Tells whether the last row is of a label that was dropped."""
        return "dropped" if self.dropped_token else "plain"

    @nn.nowrap
    def sizes_of(self, height: int, width: int) -> tuple[int, ...]:
        """Returns the `sizes` of a picture that was as large as it is drawn, and of which nothing was cut off."""
        return (height, width, 0, 0, height, width)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], t: Num[Array, " b"], conditioning: Conditioning = NOTHING
    ) -> Float[Array, "b h w c"]:
        """Predicts for `x` at times `t` of 0 to 999: [B H W C], [B] -> [B H W C] in float32.

        Raises ValueError where the levels cannot halve the image, heads do not divide the channels, or conditions are
        missing.
        """
        check_seen(self, conditioning, *(() if self.class_token else ("token_mask",)), "source", needed=self.needed)
        check_depths(self.multipliers, self.depths)
        check_halvings(x.shape[1], x.shape[2], len(self.multipliers))
        dtype = compute_dtype(self.dtype)
        if self.class_token and conditioning.labels is not None:
            conditioning = conditioning._replace(tokens=self._token(conditioning.labels))
        block = functools.partial(self._block, conditioning, self._embed(t, conditioning))
        h = conv(with_source(x, conditioning.source), self.width, dtype, "conv_in")
        states = [h]
        levels = tuple(zip(self.multipliers, self.depths, strict=True))
        for level, (multiplier, depth) in enumerate(levels):
            if level > 0:
                h = conv(h, h.shape[-1], dtype, f"down_{level}", strides=2)
                states.append(h)
            for i in range(self.blocks):
                h = block(h, self.width * multiplier, depth, f"down_{level}_{i}")
                states.append(h)
        h = block(h, h.shape[-1], next((depth for depth in self.depths[::-1] if depth), 0), "middle_0")
        h = block(h, h.shape[-1], 0, "middle_1")
        for level, (multiplier, depth) in reversed(tuple(enumerate(levels))):
            for i in range(self.blocks + 1):
                h = jnp.concatenate([h, states.pop()], axis=-1)
                h = block(h, self.width * multiplier, depth, f"up_{level}_{i}")
            if level > 0:
                h = conv(upsample_nearest(h), h.shape[-1], dtype, f"up_{level}")
        h = nn.swish(group_norm(h.shape[-1], dtype, "norm_out", EPSILON)(h))
        return conv(h, x.shape[-1], dtype, "conv_out", zero=True).astype(jnp.float32)

    def _embed(self, t: Num[Array, " b"], conditioning: Conditioning) -> Float[Array, "b e"]:
        """Embeds the time, and in SDXL the pooled text and the sizes."""
        dtype = compute_dtype(self.dtype)
        h, pooled, sizes = embed(t, self.width, dtype), conditioning.pooled, conditioning.sizes
        if pooled is None or sizes is None:
            return h
        sides = sinusoidal(sizes.reshape(-1), SIZE_FREQUENCIES, endpoint=False).reshape(len(t), -1)
        told = jnp.concatenate([pooled, sides], axis=-1)
        told = nn.swish(dense(told, 4 * self.width, dtype, "added_0"))
        return h + dense(told, 4 * self.width, dtype, "added_1")

    def _token(self, labels: Float[Array, "b k"]) -> Float[Array, "b 1 e"]:
        """Makes the token of each class, and that of a dropped label where it has one."""
        if self.dropped_token:
            labels = jnp.concatenate([labels, 1 - labels.sum(axis=1, keepdims=True)], axis=1)
        dtype, init = compute_dtype(self.dtype), nn.initializers.normal(1.0)  # torch's, of embeddings
        made = nn.Dense(self.class_token or 0, False, dtype, precision="highest", kernel_init=init, name="label")
        return made(labels)[:, None]

    def _block(
        self, told: Conditioning, embedding: Float[Array, "b e"], x: Any, channels: int, depth: int, name: str
    ) -> Float[Array, "b h w d"]:
        """Applies a residual block, and the transformer after it where there is one."""
        made = Block(channels, scale_shift=False, dropout=self.dropout, dtype=self.dtype, name=name)
        x = made(x, BlockConditions(embedding, told.keys))
        if not depth:
            return x
        heads = heads_of(channels, self.heads, self.head_channels)
        transformer = SpatialTransformer(depth, heads, self.attention, self.dtype, name=f"{name}_transformer")
        return transformer(x, told.tokens, told.token_mask)


def check_depths(multipliers: tuple[int, ...], depths: tuple[int, ...]) -> None:
    """Raises ValueError unless each level has a depth."""
    if len(depths) != len(multipliers):
        raise ValueError(
            f"depths={depths} are {len(depths)}, but multipliers={multipliers} make {len(multipliers)} levels: give "
            "as many of both, with 0 for a level without transformers"
        )
