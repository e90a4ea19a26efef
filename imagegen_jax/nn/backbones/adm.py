"""The U-Net of improved DDPM and ADM, and ADM's classifier of noisy images, which is its first half.

Improved DDPM: Nichol & Dhariwal 2021, arXiv 2102.09672. ADM: Dhariwal & Nichol 2021, arXiv 2105.05233.

    ADM, ImageNet 256x256          ADM(), with labels: 553,838,086 parameters
    EDM, ImageNet 64x64            ADM(192, (1, 2, 3, 4), blocks=3, dropout=0.1, learned_variance=False)
    improved DDPM, CIFAR-10        ADM(128, (1, 2, 2, 2), blocks=3, attention_at=(16, 8), head_channels=None, heads=4,
                                       resample="conv", dropout=0.3)
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from imagegen_jax.core.config.bounds import BelowOne, Count, Natural, Positive
from imagegen_jax.core.model import PRNGKeys
from imagegen_jax.nn.attention import SelfAttention
from imagegen_jax.nn.backbones.conditioning import NOTHING, Conditioning, check_seen
from imagegen_jax.nn.backbones.unet import check_halvings
from imagegen_jax.nn.dropout import Dropout
from imagegen_jax.nn.embed import sinusoidal
from imagegen_jax.nn.init import fan_in_uniform
from imagegen_jax.nn.multihead import CrossAttention, Implementation, attend, in_heads
from imagegen_jax.nn.norm import group_norm
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.resample import upsample_nearest, with_source
from imagegen_jax.nn.upfirdn import downsample

EPSILON = 1e-5  # of all norms
BOX = (1.0, 1.0)  # taps of the mean of 2x2 pixels

Change = Literal["up", "down"]


class BlockConditions(NamedTuple):
    """All that a block sees beside the features."""

    embedding: Float[Array, "b e"]  # of time, class and second time
    keys: PRNGKeys | None = None
    tokens: Float[Array, "b m f"] | None = None
    token_mask: Bool[Array, "b m"] | None = None


class Block(nn.Module):
    """Two 3x3 convolutions after group norm and swish, then self-attention where `heads` is not 0.

    Where there are tokens, attention to these follows.
    AdaGN(h, y) = (1 + y_s) GroupNorm(h) + y_b   (ADM, section 3): the embedding scales and shifts the second norm's
    output; without `scale_shift` it is added to that norm's input. `change` doubles or halves the size before the first
    convolution.
    """

    channels: int
    heads: int = 0
    change: Change | None = None
    scale_shift: bool = True
    dropout: float = 0.0
    implementation: Implementation = "auto"  # of attention
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], conditions: BlockConditions) -> Float[Array, "b hh ww d"]:
        dtype, channels = compute_dtype(self.dtype), self.channels
        h = nn.swish(group_norm(x.shape[-1], dtype, "norm_1", EPSILON)(x))
        h = conv(resized(h, self.change), channels, dtype, "conv_1")
        features = channels * (2 if self.scale_shift else 1)
        y = dense(nn.swish(conditions.embedding), features, dtype, "embed")[:, None, None]
        norm = group_norm(channels, dtype, "norm_2", EPSILON)
        if self.scale_shift:
            y_s, y_b = jnp.split(y, 2, axis=-1)
            h = norm(h) * (1 + y_s) + y_b
        else:
            h = norm(h + y)
        h = Dropout(self.dropout, name="dropout")(nn.swish(h), conditions.keys)
        h = conv(h, channels, dtype, "conv_2", zero=True)
        x = resized(x, self.change)
        h = h + (x if x.shape[-1] == channels else dense(x, channels, dtype, "shortcut"))
        if not self.heads:
            return h
        start = {**fan_in_uniform(channels), "out_init": nn.initializers.zeros_init()}
        h = SelfAttention(
            self.dtype, self.heads, EPSILON, **start, implementation=self.implementation, name="attention"
        )(h)
        if conditions.tokens is None:
            return h
        return CrossAttention(self.dtype, name="cross_attention")(h, conditions.tokens, conditions.token_mask)


class ADM(nn.Module):
    """A U-Net with attention at several resolutions; the defaults are ADM's for ImageNet at 256x256.

    Level i has `blocks` blocks of `width` * `multipliers[i]` channels, and half the height and width of the level
    above. Levels whose height is in `attention_at` end each block with self-attention, and so does the middle; with
    `cross_attention`, attention to the tokens follows. Raises ValueError where the levels cannot halve the image, and
    where heads do not divide the channels.
    """

    width: Count = 256
    multipliers: tuple[Positive, ...] = (1, 1, 2, 2, 4, 4)
    blocks: Count = 2
    attention_at: tuple[Count, ...] = (32, 16, 8)
    head_channels: Count | None = 64  # channels of each head; None: `heads` heads, whatever the channels
    heads: Count = 4  # where `head_channels` is None
    scale_shift: bool = True  # how the embedding enters a block
    resample: Literal["block", "conv"] = "block"  # changes the resolution
    learned_variance: bool = True  # True: twice the channels, half of them for the variance
    dropout: BelowOne = 0.0
    attention: Implementation = "auto"  # see `multihead.attend`
    dtype: Dtype = "auto"
    cross_attention: bool = False

    channels_field: ClassVar[str] = "learned_variance"

    @nn.nowrap
    def output_channels(self, channels: int) -> int:
        """Returns how many channels are put out for images with `channels`: twice as many with a variance."""
        return 2 * channels if self.learned_variance else channels

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], t: Num[Array, " b"], conditioning: Conditioning = NOTHING
    ) -> Float[Array, "b h w d"]:
        """Predicts for `x` at times `t` of 0 to 999: [B H W C], [B] -> [B H W D] in float32.

        D is C, or 2 C with `learned_variance`.

        Raises ValueError where there are tokens but no `cross_attention`, or the other way round.
        """
        check_seen(self, conditioning, "labels", "source", "span", cross_attention=self.cross_attention)
        labels, tokens, token_mask, source, span, *_, keys = conditioning
        check_halvings(x.shape[1], x.shape[2], len(self.multipliers))
        dtype = compute_dtype(self.dtype)
        embedding = embed(t, self.width, dtype)
        if span is not None:
            embedding += embed(span, self.width, dtype, "span")
        if labels is not None:
            start = nn.initializers.normal(1.0)
            embedding += nn.Dense(4 * self.width, False, dtype=dtype, kernel_init=start, name="label")(labels)
        conditions = BlockConditions(embedding, keys, tokens, token_mask)
        h, states = descend(self, with_source(x, source), conditions)
        for level, multiplier in reversed(tuple(enumerate(self.multipliers))):
            attention = h.shape[1] in self.attention_at
            for i in range(self.blocks + 1):
                h = jnp.concatenate([h, states.pop()], axis=-1)
                h = block(self, int(self.width * multiplier), f"up_{level}_{i}", attention)(h, conditions)
            if level > 0:
                h = changed(self, h, conditions, "up", f"up_{level}")
        h = nn.swish(group_norm(h.shape[-1], dtype, "norm_out", EPSILON)(h))
        channels = x.shape[-1] * (2 if self.learned_variance else 1)
        return conv(h, channels, dtype, "conv_out", zero=True).astype(jnp.float32)


class ADMClassifier(nn.Module):
    """A classifier of noisy images, for guidance (ADM, section 4); the defaults are ImageNet's at 256x256.

    It is the way down and the middle of `ADM`, then attention pooling. Fields that both have mean the same, and raise
    the same errors.
    """

    num_classes: Natural = 1000
    width: Count = 128
    multipliers: tuple[Positive, ...] = (1, 1, 2, 2, 4, 4)
    blocks: Count = 2
    attention_at: tuple[Count, ...] = (32, 16, 8)
    head_channels: Count | None = 64
    heads: Count = 4
    scale_shift: bool = True
    resample: Literal["block", "conv"] = "block"
    dropout: BelowOne = 0.0
    attention: Implementation = "auto"  # see `multihead.attend`
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], t: Num[Array, " b"], keys: PRNGKeys | None = None
    ) -> Float[Array, "b k"]:
        """Returns logits in float32 for images `x` at times `t` of 0 to 999; `keys` as in `ADM`."""
        check_halvings(x.shape[1], x.shape[2], len(self.multipliers))
        dtype = compute_dtype(self.dtype)
        h, _ = descend(self, x, BlockConditions(embed(t, self.width, dtype), keys))
        h = nn.swish(group_norm(h.shape[-1], dtype, "norm_out", EPSILON)(h))
        return AttentionPool(
            self.num_classes, heads_of(h.shape[-1], self.heads, self.head_channels), self.dtype, name="pool"
        )(h)


class AttentionPool(nn.Module):
    """Pools by attention from the mean of all pixels to itself and to them (CLIP; Radford et al. 2021, 2103.00020)."""

    features: int
    heads: int
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b d"]:
        b, h, w, c = x.shape
        dtype = compute_dtype(self.dtype)
        x = x.reshape(b, h * w, c)
        x = jnp.concatenate([x.mean(axis=1, keepdims=True), x], axis=1)
        x = x + self.param("position", nn.initializers.normal(c**-0.5), (h * w + 1, c)).astype(dtype)
        seen = {"query": x[:, :1], "key": x, "value": x}
        q, k, v = (in_heads(dense(y, c, dtype, name), self.heads) for name, y in seen.items())
        mixed = attend(q, k, v, "xla").reshape(b, c)  # with a single query, fused attention saves nothing
        return dense(mixed, self.features, dtype, "out").astype(jnp.float32)


# --- parts that a network calls to build itself -----------------------------------------------------------------------


def embed(t: Num[Array, " b"], width: int, dtype: jnp.dtype, name: str = "time") -> Float[Array, "b e"]:
    """Embeds times: [B] -> [B 4*width].

    Sines come first, where the references have cosines: only a layer's inputs are in another order.
    """
    h = nn.swish(dense(sinusoidal(t, width, endpoint=False), 4 * width, dtype, f"{name}_0"))
    return dense(h, 4 * width, dtype, f"{name}_1")


def descend(
    network: ADM | ADMClassifier, x: Float[Array, "b h w c"], conditions: BlockConditions
) -> tuple[Float[Array, "b hh ww d"], list[Array]]:
    """Runs the way down and the middle; returns their output, and the states to keep for the way up."""
    h = conv(x, int(network.width * network.multipliers[0]), compute_dtype(network.dtype), "conv_in")
    states = [h]
    for level, multiplier in enumerate(network.multipliers):
        if level > 0:
            h = changed(network, h, conditions, "down", f"down_{level}")
            states.append(h)
        attention = h.shape[1] in network.attention_at
        for i in range(network.blocks):
            h = block(network, int(network.width * multiplier), f"down_{level}_{i}", attention)(h, conditions)
            states.append(h)
    h = block(network, h.shape[-1], "middle_0", attention=True)(h, conditions)
    return block(network, h.shape[-1], "middle_1")(h, conditions), states


def block(
    network: ADM | ADMClassifier, channels: int, name: str, attention: bool = False, change: Change | None = None
) -> Block:
    """Makes a block as the fields of `network` say."""
    heads = heads_of(channels, network.heads, network.head_channels) if attention else 0
    shared = (network.scale_shift, network.dropout, network.attention, network.dtype)
    return Block(channels, heads, change, *shared, name=name)


def heads_of(channels: int, heads: int, head_channels: int | None) -> int:
    """Returns the number of attention heads over `channels` channels. Raises ValueError where it is not whole."""
    if channels % (head_channels or heads):
        wanted = f"heads={heads}" if head_channels is None else f"head_channels={head_channels}"
        raise ValueError(
            f"attention over {channels} channels, but {wanted}, which does not divide them: change it, or the width"
        )
    return channels // head_channels if head_channels else heads


def changed(
    network: ADM | ADMClassifier,
    x: Float[Array, "b h w c"],
    conditions: BlockConditions,
    change: Change,
    name: str,
) -> Float[Array, "b hh ww c"]:
    """Doubles or halves `x`, by a block of ADM or by a convolution of improved DDPM."""
    if network.resample == "block":
        return block(network, x.shape[-1], name, change=change)(x, conditions)
    dtype, strides = compute_dtype(network.dtype), 2 if change == "down" else 1
    return conv(upsample_nearest(x) if change == "up" else x, x.shape[-1], dtype, name, strides)


def resized(x: Float[Array, "b h w c"], change: Change | None) -> Float[Array, "b hh ww c"]:
    """Repeats pixels, or averages 2x2 of them; None: leaves the image as it is."""
    if change is None:
        return x
    return upsample_nearest(x) if change == "up" else downsample(x, BOX)


def conv(x: Array, features: int, dtype: jnp.dtype, name: str, strides: int = 1, zero: bool = False) -> Array:
    """Convolves with 3x3 kernels and a border of zeros; with `zero` the output starts as zero."""
    start = {"kernel_init": nn.initializers.zeros_init()} if zero else fan_in_uniform(9 * x.shape[-1])
    return nn.Conv(features, (3, 3), strides, ((1, 1), (1, 1)), dtype=dtype, **start, name=name)(x)


def dense(x: Array, features: int, dtype: jnp.dtype, name: str) -> Array:
    """Applies a dense layer, over pixels a 1x1 convolution."""
    return nn.Dense(features, dtype=dtype, **fan_in_uniform(x.shape[-1]), name=name)(x)
