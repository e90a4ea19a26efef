"""The networks of BigGAN (Brock et al. 2019, arXiv 1809.11096, appendix B).

Biases start at 0, where BigGAN-PyTorch leaves them to torch: uniform within 1 / sqrt(fan in) of 0.
"""

from __future__ import annotations

import functools
import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from imagegen_jax.core.config.bounds import Count, Natural, NonNegative
from imagegen_jax.core.model import Image, PRNGKey
from imagegen_jax.gan.residual.conditional import (
    Head,
    SelfAttention,
    check_attention,
    class_norm,
    sizes,
    sum_pooled,
    vector_norm,
)
from imagegen_jax.gan.residual.spectral import SpectralDense, spectral_convolutions
from imagegen_jax.gan.resnet import DownBlock, UpBlock, batch_norm
from imagegen_jax.nn.precision import Dtype, compute_dtype

Start = Literal["orthogonal", "normal"]  # how kernels and embeddings start; "normal" is N(0, 0.02)


def initializer(start: Start) -> Initializer:
    """Returns the initialiser of that name."""
    return nn.initializers.orthogonal() if start == "orthogonal" else _normal


def _normal(key: PRNGKey, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    # Drawn flat, since random numbers with four indices take the CPU compiler ten times as long.
    return 0.02 * jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)


class Generator(nn.Module):
    """Makes images from latents and classes; the defaults are those for 128x128 (Table 4a).

    The first of `multipliers` is for the base, and each further one for a block that doubles.
    """

    width: Count = 96  # channels, ch in the paper
    multipliers: tuple[Count, ...] = (16, 16, 8, 4, 2, 1)  # of `width`
    shared_dim: Count = 128  # length of the class's embedding; 0: each norm has a table of its own, as in SNGAN
    hierarchical: bool = True  # False: the whole latent makes the base
    attention: Natural = 64  # height of the features that attend to themselves; 0: none do
    start: Start = "orthogonal"
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
        first, *features = (self.width * multiplier for multiplier in self.multipliers)
        init = initializer(self.start)
        conv = spectral_convolutions(self.dtype, self.epsilon, lambda scale: init)
        dense = functools.partial(SpectralDense, kernel_init=init, epsilon=self.epsilon, dtype=self.dtype)
        z, *conditions = self._parts(z)
        y = nn.Embed(num_classes, self.shared_dim, embedding_init=init, name="shared")(labels) if self.shared_dim else z
        x = dense(math.prod(base) * first, name="project")(z).reshape(-1, *base, first)
        for i, size in enumerate(reversed(finer)):
            if self.shared_dim:
                condition = jnp.concatenate([y, *conditions[i : i + 1]], axis=-1)
                norm = vector_norm(condition, dense, train, self.dtype)
            else:
                norm = class_norm(labels, num_classes, train, self.dtype, init)  # as BigGAN-PyTorch
            x = UpBlock(features[i], conv, norm, name=f"block_{i}")(x, size)
            if size[0] == self.attention:
                x = SelfAttention(init, self.epsilon, self.dtype, name="attention")(x)
        x = nn.relu(batch_norm(train, compute_dtype(self.dtype), "norm_out")(x))
        return jnp.tanh(conv(image_shape[2], 3, 1.0, "conv_out")(x).astype(jnp.float32))

    def _parts(self, z: Float[Array, "b d"]) -> list[Float[Array, "b p"]]:
        """Splits a hierarchical latent into a part for the base and one for each block.

        Raises ValueError where the parts would differ in length, or there is no shared embedding.
        """
        if not self.hierarchical:
            return [z]
        if not self.shared_dim or z.shape[-1] % len(self.multipliers):
            raise ValueError(
                f"hierarchical=True needs shared_dim above 0 (it is {self.shared_dim}) and a latent_dim "
                f"(it is {z.shape[-1]}) that the base and the blocks, {len(self.multipliers)} in all, divide"
            )
        return jnp.split(z, len(self.multipliers), axis=-1)


class Discriminator(nn.Module):
    """Judges images of classes; the defaults are those for 128x128 (Table 4b)."""

    width: Count = 96  # channels
    multipliers: tuple[Count, ...] = (1, 2, 4, 8, 16, 16)  # of `width`, one a block
    halvings: Natural = 5  # blocks that halve
    attention: Natural = 64  # as the generator's
    start: Start = "orthogonal"
    epsilon: NonNegative = 1e-6  # of spectral norms
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Image, labels: Int[Array, " b"], num_classes: int) -> Float[Array, " b"]:
        """Judges images of classes: [B H W C] in [-1, 1], [B] -> [B] logits, high for a real image of that class"""
        check_attention(self.attention, [size[0] for size in sizes(x.shape[1:], self.halvings)[1:]])
        init = initializer(self.start)
        conv = spectral_convolutions(self.dtype, self.epsilon, lambda scale: init)
        for i, multiplier in enumerate(self.multipliers):
            x = DownBlock(self.width * multiplier, conv, i < self.halvings, i == 0, True, name=f"block_{i}")(x)
            if i < self.halvings and x.shape[1] == self.attention:
                x = SelfAttention(init, self.epsilon, self.dtype, name="attention")(x)
        head = Head("projection", init, self.epsilon, name="head")
        return head(sum_pooled(x), labels, num_classes).logits
