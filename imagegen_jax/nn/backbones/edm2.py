"""The magnitude-preserving U-Net of EDM2 (Karras et al. 2024, arXiv 2312.02696, config G, Figure 21).

No layer has a bias or a norm with weights: weights are normalised, and sums, concatenations and activations are scaled,
so that inputs of unit magnitude give outputs of unit magnitude. Train with `core.optim.NormaliseWeights`, so that
stored weights cannot grow.

    sizes XXS, XS, S, M, L, XL, XXL    width 64, 128, 192, 256, 320, 384, 448
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
from imagegen_jax.core.optim import unit_magnitude
from imagegen_jax.nn.backbones.conditioning import NOTHING, Conditioning, check_seen
from imagegen_jax.nn.backbones.unet import check_halvings
from imagegen_jax.nn.dropout import Dropout
from imagegen_jax.nn.multihead import Implementation, attend
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.resample import upsample_nearest, with_source
from imagegen_jax.nn.upfirdn import convolve, downsample

LIMIT = 256.0  # on a block's output, for half precision


# --- parts without weights -------------------------------------------------------------------------------------------


def mp_silu(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """silu(x) / 0.596   (Eq. 81)"""
    return nn.silu(x) / 0.596


def mp_sum(a: Float[Array, "*b"], b: Float[Array, "*b"], t: float = 0.5) -> Float[Array, "*b"]:
    """((1 - t) a + t b) / sqrt((1 - t)^2 + t^2)   (Eq. 88)"""
    return ((1 - t) * a + t * b) / math.hypot(1 - t, t)


def mp_cat(a: Float[Array, "*b c"], b: Float[Array, "*b d"], t: float = 0.5) -> Float[Array, "*b c+d"]:
    """sqrt((N_a + N_b) / ((1 - t)^2 + t^2)) [(1 - t) / sqrt(N_a) a, t / sqrt(N_b) b]   (Eq. 103)"""
    n_a, n_b = a.shape[-1], b.shape[-1]
    scale = math.sqrt(n_a + n_b) / math.hypot(1 - t, t)
    return jnp.concatenate([scale * (1 - t) / math.sqrt(n_a) * a, scale * t / math.sqrt(n_b) * b], axis=-1)


def pixel_norm(x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    """Scales each pixel's features to a mean square of 1   (Eq. 30), measured in float32."""
    return unit_magnitude(x.astype(jnp.float32), -1).astype(x.dtype)


# --- layers ----------------------------------------------------------------------------------------------------------


class MPFourier(nn.Module):
    """sqrt(2) cos(2 pi (f t + phi)) at random f ~ N(0, 1) and phi ~ U(0, 1), which are not trained   (Eq. 75)."""

    features: int

    @nn.compact
    def __call__(self, t: Num[Array, " b"]) -> Float[Array, "b c"]:
        shape = (self.features,)
        f = self.variable("constants", "f", lambda: jax.random.normal(self.make_rng("params"), shape))
        phi = self.variable("constants", "phi", lambda: jax.random.uniform(self.make_rng("params"), shape))
        turns = t[:, None].astype(jnp.float32) * f.value + phi.value
        return math.sqrt(2) * jnp.cos(2 * jnp.pi * turns)


class MPConv(nn.Module):
    """A convolution, or with a `size` of 1 a dense layer, with weights w / |w| for each output   (Eq. 47, 66)."""

    features: int
    size: Literal[1, 3] = 1
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"], gain: Float[Array, ""] | float = 1.0) -> Float[Array, "*b d"]:
        dtype, window = compute_dtype(self.dtype), (3, 3) if self.size == 3 else ()
        kernel = self.param("kernel", nn.initializers.normal(1.0), (*window, x.shape[-1], self.features))
        fan_in = math.prod(kernel.shape[:-1])
        kernel = (unit_magnitude(kernel) * (gain / math.sqrt(fan_in))).astype(dtype)
        return convolve(x.astype(dtype), kernel) if self.size == 3 else x.astype(dtype) @ kernel


class MPBlock(nn.Module):
    """A block of the encoder, which normalises each pixel first, or of the decoder, which does not (Figure 21)."""

    channels: int
    kind: Literal["encoder", "decoder"]
    heads: int = 0  # of self-attention; 0: none
    change: Literal["up", "down"] | None = None
    balance: float = 0.3  # t of the sums with the convolutions and with attention
    dropout: float = 0.0
    implementation: Implementation = "auto"  # of attention
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], embedding: Float[Array, "b e"], keys: PRNGKeys | None
    ) -> Float[Array, "b hh ww d"]:
        conv = functools.partial(MPConv, self.channels, 3, self.dtype)
        if self.change:
            x = upsample_nearest(x) if self.change == "up" else downsample(x, (1.0, 1.0))
        if self.kind == "encoder":
            x = pixel_norm(self._shortcut(x))
        y = conv(name="conv_1")(mp_silu(x))
        gain = self.param("gain", nn.initializers.zeros_init(), ())
        scale = 1 + MPConv(self.channels, dtype=self.dtype, name="embed")(embedding, gain)
        y = Dropout(self.dropout, name="dropout")(mp_silu(y * scale[:, None, None]), keys)
        y = conv(name="conv_2")(y)
        if self.kind == "decoder":
            x = self._shortcut(x)
        x = mp_sum(x, y, self.balance)
        if self.heads:
            x = mp_sum(x, self._attention(x), self.balance)
        return jnp.clip(x, -LIMIT, LIMIT)

    def _shortcut(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        return x if x.shape[-1] == self.channels else MPConv(self.channels, dtype=self.dtype, name="shortcut")(x)

    def _attention(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Computes cosine attention: queries, keys and values have unit magnitude in each head (appendix B.3)."""
        b, h, w, c = x.shape
        heads = (b, h * w, self.heads, c // self.heads)
        q, k, v = (
            pixel_norm(MPConv(c, dtype=self.dtype, name=name)(x).reshape(heads)) for name in ("query", "key", "value")
        )
        mixed = attend(q, k, v, self.implementation).reshape(x.shape)
        return MPConv(c, dtype=self.dtype, name="out")(mixed)


# --- networks --------------------------------------------------------------------------------------------------------


class EDM2UNet(nn.Module):
    """A U-Net whose activations keep unit magnitude; the defaults are EDM2-S.

    That has 280,212,837 parameters for latents of 1000 classes, the 128 of `Uncertainty` included. Level i has `blocks`
    blocks of `width` * `multipliers[i]` channels, and half the height and width of the level above. Levels whose height
    is in `attention_at` end each block with self-attention, and so does the middle. Raises ValueError where the levels
    cannot halve the image, and where heads do not divide the channels.
    """

    width: Count = 192
    multipliers: tuple[Count, ...] = (1, 2, 3, 4)
    blocks: Count = 3
    attention_at: tuple[Count, ...] = (16, 8)
    head_channels: Count = 64
    dropout: BelowOne = 0.0
    attention: Implementation = "auto"  # see `multihead.attend`
    dtype: Dtype = "auto"

    label_rows: ClassVar[LabelRows] = "unit"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], t: Num[Array, " b"], conditioning: Conditioning = NOTHING
    ) -> Float[Array, "b h w c"]:
        """Predicts for `x` at times `t`, in float32 with the shape of `x`.

        In EDM2, x has unit magnitude and t = log(sigma) / 4.

        A learned gain makes the output start as zero. Raises ValueError for tokens.
        """
        check_seen(self, conditioning, "labels", "source", "span")
        labels, _, _, source, span, *_, keys = conditioning
        check_halvings(x.shape[1], x.shape[2], len(self.multipliers))
        embedding = self._embed(t, labels, span)
        block = self._block("decoder")
        h, states = self._descend(with_source(x, source), embedding, keys)
        h = block(h.shape[-1], heads=self._heads(h.shape[-1]), name="middle_0")(h, embedding, keys)
        h = block(h.shape[-1], name="middle_1")(h, embedding, keys)
        for level, multiplier in reversed(tuple(enumerate(self.multipliers))):
            channels = self.width * multiplier
            heads = self._heads(channels) if h.shape[1] in self.attention_at else 0
            for i in range(self.blocks + 1):
                h = block(channels, heads=heads, name=f"up_{level}_{i}")(mp_cat(h, states.pop()), embedding, keys)
            if level > 0:
                h = block(channels, change="up", name=f"up_{level}")(h, embedding, keys)
        gain = self.param("gain", nn.initializers.zeros_init(), ())
        return MPConv(x.shape[-1], 3, self.dtype, name="conv_out")(h, gain).astype(jnp.float32)

    def _descend(
        self, x: Float[Array, "b h w c"], embedding: Float[Array, "b e"], keys: PRNGKeys | None
    ) -> tuple[Float[Array, "b hh ww d"], list[Array]]:
        """Runs the way down; returns its output, and the states to keep for the way up."""
        block = self._block("encoder")
        # A channel of ones takes the place of biases.
        h = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
        h = MPConv(self.width * self.multipliers[0], 3, self.dtype, name="conv_in")(h)
        states = [h]
        for level, multiplier in enumerate(self.multipliers):
            if level > 0:
                h = block(h.shape[-1], change="down", name=f"down_{level}")(h, embedding, keys)
                states.append(h)
            channels = self.width * multiplier
            heads = self._heads(channels) if h.shape[1] in self.attention_at else 0
            for i in range(self.blocks):
                h = block(channels, heads=heads, name=f"down_{level}_{i}")(h, embedding, keys)
                states.append(h)
        return h, states

    def _embed(
        self, t: Num[Array, " b"], labels: Float[Array, "b k"] | None, span: Num[Array, " b"] | None
    ) -> Float[Array, "b e"]:
        dense = functools.partial(MPConv, self.width * max(self.multipliers), dtype=self.dtype)
        fourier = functools.partial(MPFourier, self.width * self.multipliers[0])
        h = dense(name="time")(fourier(name="fourier")(t))
        if span is not None:
            h = mp_sum(h, dense(name="span")(fourier(name="fourier_span")(span)))
        if labels is not None:
            h = mp_sum(h, dense(name="label")(labels * math.sqrt(labels.shape[-1])))
        return mp_silu(h)

    def _block(self, kind: Literal["encoder", "decoder"]) -> functools.partial[MPBlock]:
        fields = {"dropout": self.dropout, "implementation": self.attention, "dtype": self.dtype}
        return functools.partial(MPBlock, kind=kind, **fields)

    def _heads(self, channels: int) -> int:
        if channels % self.head_channels:
            raise ValueError(
                f"attention over {channels} channels, but head_channels={self.head_channels}, which does not divide "
                "them: change it, or the width"
            )
        return channels // self.head_channels


class Uncertainty(nn.Module):
    """u(sigma), an estimate of the logarithm of the loss at t = log(sigma) / 4, to weight it by   (Eq. 21).

    The loss becomes loss / exp(u) + u. Only training needs it.
    """

    features: Count = 128

    @nn.compact
    def __call__(self, t: Num[Array, " b"]) -> Float[Array, " b"]:
        """Estimates the logarithm of the loss at times t: [B] -> [B], in float32."""
        return MPConv(1, dtype="float32", name="dense")(MPFourier(self.features, name="fourier")(t))[:, 0]
