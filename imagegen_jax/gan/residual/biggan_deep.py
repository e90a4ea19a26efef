"""The networks of BigGAN-deep (Brock et al. 2019, arXiv 1809.11096, appendix B): bottleneck blocks, two a size.

Where a block changes the number of channels, its shortcut drops the surplus (generator) or makes only the missing ones
(discriminator): the channels that a block hands on are not changed. The whole latent, joined with the embedding of the
class, makes the base and is the condition of every block.
"""

from __future__ import annotations

import functools
import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.core.config.bounds import Count, Natural, NonNegative
from imagegen_jax.core.model import Image
from imagegen_jax.gan.residual.conditional import Head, SelfAttention, check_attention, sizes, sum_pooled, vector_norm
from imagegen_jax.gan.residual.spectral import SpectralDense, spectral_convolutions
from imagegen_jax.gan.resnet import Convolution, Norm, batch_norm, double, halve
from imagegen_jax.nn.precision import Dtype, compute_dtype

BOTTLENECK = 4  # channels of a block, over those of the convolutions in it
orthogonal = nn.initializers.orthogonal()


class DeepUpBlock(nn.Module):
    """A generator's block: 1x1, 3x3, 3x3, 1x1 convolutions through a quarter of the channels.

    All but the first are at the new size.
    """

    features: int
    conv: Convolution
    norm: Norm

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b hh ww d"]:
        """Keeps or doubles the size: [B H W C] -> [B *size features]; `size` is x's, or twice that"""

        def resized(x: Float[Array, "b h w c"]) -> Float[Array, "b hh ww c"]:
            return x if x.shape[1:3] == size else double(x, size)

        hidden = x.shape[-1] // BOTTLENECK
        h = self.conv(hidden, 1, 1.0, "conv_1")(nn.relu(self.norm("norm_1")(x)))
        h = self.conv(hidden, 3, 1.0, "conv_2")(resized(nn.relu(self.norm("norm_2")(h))))
        h = self.conv(hidden, 3, 1.0, "conv_3")(nn.relu(self.norm("norm_3")(h)))
        h = self.conv(self.features, 1, 1.0, "conv_4")(nn.relu(self.norm("norm_4")(h)))
        return h + resized(x[..., : self.features])


class DeepDownBlock(nn.Module):
    """A discriminator's block: the same without norms; only the last convolution is at the new size (Figure 16c)."""

    features: int
    conv: Convolution
    halves: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b hh ww d"]:
        """Halves the image where it is to: [B H W C] -> [B H W features], or [B ceil(H/2) ceil(W/2) features]"""
        resample = halve if self.halves else lambda x: x
        hidden, missing = self.features // BOTTLENECK, self.features - x.shape[-1]
        h = self.conv(hidden, 1, 1.0, "conv_1")(nn.relu(x))
        h = self.conv(hidden, 3, 1.0, "conv_2")(nn.relu(h))
        h = self.conv(hidden, 3, 1.0, "conv_3")(nn.relu(h))
        h = self.conv(self.features, 1, 1.0, "conv_4")(resample(nn.relu(h)))
        x = resample(x)
        if missing:
            x = jnp.concatenate([x, self.conv(missing, 1, 1.0, "shortcut")(x)], axis=-1)
        return h + x


class DeepGenerator(nn.Module):
    """Makes images from latents and classes; the defaults are those for 128x128 (Table 7).

    The first of `multipliers` is for the base, and each further one for a size.
    """

    width: Count = 128  # channels
    multipliers: tuple[Count, ...] = (16, 16, 8, 4, 2, 1)  # of `width`
    depth: Count = 2  # blocks a size; the last one doubles
    shared_dim: Count = 128  # length of the embedding of the class
    attention: Natural = 64  # height of the features that attend to themselves; 0: none do
    epsilon: NonNegative = 1e-6  # of spectral norms
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "b d"],
        labels: Int[Array, " b"],
        image_shape: tuple[int, int, int],
        num_classes: int,
        train: bool,
    ) -> Image:
        """Makes an image of a class from each latent: [B D], [B] -> [B *image_shape] in [-1, 1]"""
        *finer, base = sizes(image_shape, len(self.multipliers) - 1)
        check_attention(self.attention, [size[0] for size in finer])
        _check_order(self.multipliers[::-1], "DeepGenerator.multipliers[::-1]")
        first, *features = (self.width * multiplier for multiplier in self.multipliers)
        conv = spectral_convolutions(self.dtype, self.epsilon, lambda scale: orthogonal)
        dense = functools.partial(SpectralDense, kernel_init=orthogonal, epsilon=self.epsilon, dtype=self.dtype)
        y = nn.Embed(num_classes, self.shared_dim, embedding_init=orthogonal, name="shared")(labels)
        y = jnp.concatenate([z, y], axis=-1)

        norm = vector_norm(y, dense, train, self.dtype)
        x, size = dense(math.prod(base) * first, name="project")(y).reshape(-1, *base, first), base
        for i, larger in enumerate(reversed(finer)):
            for j in range(self.depth - 1):
                x = DeepUpBlock(x.shape[-1], conv, norm, name=f"block_{i}_{j}")(x, size)
            x, size = DeepUpBlock(features[i], conv, norm, name=f"block_{i}_{self.depth - 1}")(x, larger), larger
            if size[0] == self.attention:
                x = SelfAttention(orthogonal, self.epsilon, self.dtype, name="attention")(x)
        x = nn.relu(batch_norm(train, compute_dtype(self.dtype), "norm_out")(x))
        return jnp.tanh(conv(image_shape[2], 3, 1.0, "conv_out")(x).astype(jnp.float32))


class DeepDiscriminator(nn.Module):
    """Judges images of classes; the defaults are those for 128x128 (Table 7).

    The first of `multipliers` is for the first convolution, and each further one for the blocks of a size.
    """

    width: Count = 128  # channels
    multipliers: tuple[Count, ...] = (1, 2, 4, 8, 16, 16)  # of `width`
    halvings: Natural = 5  # sizes that begin with a halving
    depth: Count = 2  # blocks a size; the first one halves
    attention: Natural = 64  # as the generator's
    epsilon: NonNegative = 1e-6  # of spectral norms
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Image, labels: Int[Array, " b"], num_classes: int) -> Float[Array, " b"]:
        """Judges images of classes: [B H W C] in [-1, 1], [B] -> [B] logits, high for a real image of that class"""
        check_attention(self.attention, [size[0] for size in sizes(x.shape[1:], self.halvings)[1:]])
        _check_order(self.multipliers, "DeepDiscriminator.multipliers")
        conv = spectral_convolutions(self.dtype, self.epsilon, lambda scale: orthogonal)
        first, *features = (self.width * multiplier for multiplier in self.multipliers)
        x = conv(first, 3, 1.0, "conv_in")(x)
        for i, width in enumerate(features):
            for j in range(self.depth):
                x = DeepDownBlock(width, conv, i < self.halvings and j == 0, name=f"block_{i}_{j}")(x)
            if i < self.halvings and x.shape[1] == self.attention:
                x = SelfAttention(orthogonal, self.epsilon, self.dtype, name="attention")(x)
        head = Head("projection", orthogonal, self.epsilon, name="head")
        return head(sum_pooled(x), labels, num_classes).logits


def _check_order(multipliers: tuple[int, ...], name: str) -> None:
    """Raises ValueError where a multiplier is smaller than the one before: no shortcut could follow."""
    if list(multipliers) != sorted(multipliers):
        raise ValueError(f"{name}={multipliers}: must not fall from one to the next")
