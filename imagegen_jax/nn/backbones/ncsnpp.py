"""DDPM++ and NCSN++ (Song et al. 2021, arXiv 2011.13456) as EDM trains them (Karras et al. 2022, arXiv 2206.00364).

    DDPM++    SongUNet(): 55,733,891 parameters with augmentation labels
    NCSN++    SongUNet(embedding="fourier", encoder="residual", taps=(1, 3, 3, 1))

The defaults are EDM's for CIFAR-10; for FFHQ and AFHQv2 at 64x64, EDM has multipliers (1, 2, 2, 2).
"""

from __future__ import annotations

import functools
import math
from typing import ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from imagegen_jax.core.config.bounds import BelowOne, Count
from imagegen_jax.core.model import LabelRows, PRNGKeys
from imagegen_jax.nn.attention import SelfAttention
from imagegen_jax.nn.backbones.conditioning import NOTHING, Conditioning, check_seen
from imagegen_jax.nn.backbones.unet import check_halvings, conv
from imagegen_jax.nn.dropout import Dropout
from imagegen_jax.nn.embed import sinusoidal
from imagegen_jax.nn.init import fan_avg_uniform
from imagegen_jax.nn.multihead import Implementation
from imagegen_jax.nn.norm import group_norm
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.resample import with_source
from imagegen_jax.nn.upfirdn import Taps, convolve_down, downsample, upsample

HALF = math.sqrt(0.5)  # keeps the variance of a sum of two


class SongBlock(nn.Module):
    """(shortcut + two 3x3 convolutions) / sqrt(2), then attention likewise: BigGAN's blocks, which DDPM++ took over.

    `change` doubles or halves the size by the filter `taps`, before the first convolution and on the shortcut.
    """

    channels: int
    attention: bool = False
    change: Literal["up", "down"] | None = None
    taps: Taps = (1.0, 1.0)
    dropout: float = 0.0
    implementation: Implementation = "auto"  # of attention
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], embedding: Float[Array, "b e"], keys: PRNGKeys | None
    ) -> Float[Array, "b hh ww d"]:
        dtype = compute_dtype(self.dtype)
        dense = functools.partial(nn.Dense, self.channels, dtype=dtype, kernel_init=fan_avg_uniform())
        h = self._resized(nn.swish(group_norm(x.shape[-1], dtype, name="norm_1")(x)))
        h = conv(self.channels, dtype, name="conv_1")(h)
        h = h + dense(name="embed")(embedding)[:, None, None]
        h = nn.swish(group_norm(self.channels, dtype, name="norm_2")(h))
        h = Dropout(self.dropout, name="dropout")(h, keys)
        h = conv(self.channels, dtype, scale=0, name="conv_2")(h)
        if self.change or x.shape[-1] != self.channels:
            x = dense(name="shortcut")(self._resized(x))
        h = (x + h) * HALF
        if not self.attention:
            return h
        start = fan_avg_uniform(0.1)
        attend = SelfAttention(self.dtype, kernel_init=start, implementation=self.implementation, name="attention")
        return attend(h) * HALF

    def _resized(self, x: Float[Array, "b h w c"]) -> Float[Array, "b hh ww c"]:
        if self.change is None:
            return x
        return (upsample if self.change == "up" else downsample)(x, self.taps)


class SongUNet(nn.Module):
    """A U-Net of blocks (`SongBlock`), as in EDM's code; the defaults are DDPM++ for CIFAR-10.

    Level i has `blocks` blocks of `width` * `multipliers[i]` channels, and half the height and width of the level
    above. At heights in `attention_at`, every block on the way down and the last on the way up ends with
    self-attention, and so does the middle. With the "residual" encoder each level also sees the one above, and the
    first such level the image, by a filtered convolution.
    """

    width: Count = 128
    multipliers: tuple[Count, ...] = (2, 2, 2)
    blocks: Count = 4
    attention_at: tuple[Count, ...] = (16,)
    embedding: Literal["positional", "fourier"] = "positional"
    encoder: Literal["standard", "residual"] = "standard"
    taps: Taps = (1.0, 1.0)  # of the filter that changes the resolution
    dropout: BelowOne = 0.13
    attention: Implementation = "auto"  # see `multihead.attend`
    dtype: Dtype = "auto"

    reads_augmentation: ClassVar[bool] = True
    label_rows: ClassVar[LabelRows] = "scaled"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], t: Num[Array, " b"], conditioning: Conditioning = NOTHING
    ) -> Float[Array, "b h w c"]:
        """Predicts for `x` at times `t`, in float32 with the shape of `x`; EDM has t = log(sigma) / 4.

        `augment_labels` say how each image was augmented, in EDM by 9 numbers. None is the same as zeros, which stand
        for no augmentation, but a network that will see them must be initialised with them. Raises ValueError where
        the levels cannot halve the image, and for tokens.
        """
        check_seen(self, conditioning, "labels", "source", "span", "augment_labels")
        labels, _, _, source, span, augment_labels, *_, keys = conditioning
        check_halvings(x.shape[1], x.shape[2], len(self.multipliers))
        dtype = compute_dtype(self.dtype)
        embedding = self._embed(t, labels, augment_labels, span)
        block = functools.partial(
            SongBlock, taps=self.taps, dropout=self.dropout, implementation=self.attention, dtype=self.dtype
        )
        h, states = self._descend(with_source(x, source), block, embedding, keys)
        h = block(h.shape[-1], attention=True, name="middle_0")(h, embedding, keys)
        h = block(h.shape[-1], name="middle_1")(h, embedding, keys)
        for level, multiplier in reversed(tuple(enumerate(self.multipliers))):
            attention = h.shape[1] in self.attention_at
            for i in range(self.blocks + 1):
                h = jnp.concatenate([h, states.pop()], axis=-1)
                last = i == self.blocks
                h = block(self.width * multiplier, attention and last, name=f"up_{level}_{i}")(h, embedding, keys)
            if level > 0:
                h = block(h.shape[-1], change="up", name=f"up_{level}")(h, embedding, keys)
        h = nn.swish(group_norm(h.shape[-1], dtype, name="norm_out")(h))
        return conv(x.shape[-1], dtype, scale=0, name="conv_out")(h).astype(jnp.float32)

    def _descend(
        self,
        x: Float[Array, "b h w c"],
        block: functools.partial[SongBlock],
        embedding: Float[Array, "b e"],
        keys: PRNGKeys | None,
    ) -> tuple[Float[Array, "b hh ww d"], list[Array]]:
        """Runs the way down; returns its output, and the states to keep for the way up."""
        h = conv(self.width, compute_dtype(self.dtype), name="conv_in")(x)
        above, states = x, [h]
        for level, multiplier in enumerate(self.multipliers):
            if level > 0:
                h = block(h.shape[-1], change="down", name=f"down_{level}")(h, embedding, keys)
                if self.encoder == "residual":
                    seen = FilteredConv(h.shape[-1], self.taps, self.dtype, name=f"residual_{level}")(above)
                    h = above = (h + seen) * HALF
                states.append(h)
            attention = h.shape[1] in self.attention_at
            for i in range(self.blocks):
                h = block(self.width * multiplier, attention, name=f"down_{level}_{i}")(h, embedding, keys)
                states.append(h)
        return h, states

    def _embed(
        self,
        t: Num[Array, " b"],
        labels: Float[Array, "b k"] | None,
        augment_labels: Float[Array, "b a"] | None,
        span: Num[Array, " b"] | None,
    ) -> Float[Array, "b e"]:
        dense = functools.partial(nn.Dense, dtype=compute_dtype(self.dtype), kernel_init=fan_avg_uniform())

        def waves(time: Num[Array, " b"], name: str) -> Float[Array, "b w"]:
            return Fourier(self.width, name=name)(time) if self.embedding == "fourier" else sinusoidal(time, self.width)

        h = waves(t, "fourier")
        if span is not None:
            h = h + dense(h.shape[-1], name="span")(waves(span, "fourier_span"))
        if labels is not None:
            h = h + dense(h.shape[-1], name="label")(labels * math.sqrt(labels.shape[-1]))
        if augment_labels is not None:
            h = h + dense(h.shape[-1], use_bias=False, name="augment")(augment_labels)
        h = nn.swish(dense(4 * self.width, name="time_0")(h))
        return nn.swish(dense(4 * self.width, name="time_1")(h))


class Fourier(nn.Module):
    """Sines, then cosines of 2 pi f t at random frequencies f ~ N(0, scale^2) (Tancik et al. 2020, arXiv 2006.10739).

    The frequencies are not trained: the collection "constants" keeps them.
    """

    frequencies: int
    scale: float = 16.0

    @nn.compact
    def __call__(self, t: Num[Array, " b"]) -> Float[Array, "b 2*f"]:
        f = self.variable(
            "constants", "f", lambda: self.scale * jax.random.normal(self.make_rng("params"), (self.frequencies,))
        )
        angle = 2 * jnp.pi * t[:, None].astype(jnp.float32) * f.value
        return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class FilteredConv(nn.Module):
    """A 3x3 convolution that halves the size, filtered by `taps`."""

    features: int
    taps: Taps
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 d"]:
        dtype = compute_dtype(self.dtype)
        kernel = self.param("kernel", fan_avg_uniform(), (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return convolve_down(x.astype(dtype), kernel.astype(dtype), self.taps) + bias.astype(dtype)
