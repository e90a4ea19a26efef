"""DCGAN (Radford et al. 2016, arXiv 1511.06434): an all-convolutional generator and discriminator with batch norm.

The layout is that of pytorch/examples/dcgan: 4x4 kernels, no biases, no batch norm on the discriminator's first layer
and on both last layers, weights from N(0, 0.02) and norm scales from N(1, 0.02), latents from N(0, 1) (the paper:
uniform). Sizes other than 64 halve, rounded up, to a base of 4 to 7 (`nn.strided.pyramid`), and the number of
layers and the width of the deepest follow from that.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.random import normal_rows
from imagegen_jax.core.config.bounds import Count, NonNegative, Shape
from imagegen_jax.core.model import (
    Aux,
    Batch,
    Image,
    Inputs,
    Nets,
    Phase,
    PRNGKey,
    PRNGKeys,
    Scalar,
    Variables,
    check_images,
)
from imagegen_jax.gan.networks import AnyCritic, AnyGenerator
from imagegen_jax.nn.init import fan_avg_uniform
from imagegen_jax.nn.norm import BatchNorm
from imagegen_jax.nn.objectives import AnyObjective, NonSaturating, logit_metrics
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.strided import Double, Halve, pyramid

weight_init = nn.initializers.normal(0.02)


class Generator(nn.Module):
    """Makes images from latents: a projection to the base, then transposed convolutions that double it (Figure 1)."""

    width: Count = 64  # channels before the last layer; they double with every halving of the size
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, z: Float[Array, "b d"], image_shape: tuple[int, int, int], train: bool) -> Image:
        """Makes an image from each latent: [B D] -> [B *image_shape] in [-1, 1]"""
        *finer, base = pyramid(*image_shape[:2])
        features = self.width * 2 ** (len(finer) - 1)
        x = nn.Dense(
            math.prod(base) * features, use_bias=False, kernel_init=weight_init, dtype=compute_dtype(self.dtype)
        )(z)
        x = nn.relu(BatchNorm(self.dtype)(x.reshape(-1, *base, features), train))
        for size in finer[:0:-1]:
            features //= 2
            x = Double(features, use_bias=False, kernel_init=weight_init, dtype=self.dtype)(x, size)
            x = nn.relu(BatchNorm(self.dtype)(x, train))
        x = Double(image_shape[2], use_bias=False, kernel_init=weight_init, dtype=self.dtype)(x, finer[0])
        return jnp.tanh(x.astype(jnp.float32))


class Discriminator(nn.Module):
    """Judges images: convolutions that halve the size down to the base, then a projection."""

    width: Count = 64  # channels of the first layer; they double with every halving of the size
    slope: NonNegative = 0.2  # of the leaky rectifier
    batch_norm: bool = True  # False: biases and He's initialiser instead, for a penalty on the gradient of each image
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Image, train: bool) -> Float[Array, " b"]:
        """Judges images: [B H W C] in [-1, 1] -> [B] logits, high for real"""
        init = weight_init if self.batch_norm else fan_avg_uniform(2.0)
        for i in range(len(pyramid(*x.shape[1:3])) - 1):
            x = Halve(self.width * 2**i, not self.batch_norm, kernel_init=init, dtype=self.dtype)(x)
            if i > 0 and self.batch_norm:
                x = BatchNorm(self.dtype)(x, train)
            x = nn.leaky_relu(x, self.slope)
        x = nn.Dense(1, use_bias=False, kernel_init=weight_init, dtype=compute_dtype(self.dtype))(
            x.reshape(x.shape[0], -1)
        )
        return x[:, 0].astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class DCGAN:
    """Deep convolutional GAN, for any height and width from 8 pixels on; meant for 32 to 128.

    Each phase keeps the running statistics of the network that it trains; the other network normalises by its
    batch too, and its statistics are dropped. Real and generated images are normalised apart.
    """

    image_shape: Shape = (64, 64, 3)
    generator: AnyGenerator = Generator()
    discriminator: AnyCritic = Discriminator()
    latent_dim: Count = 100
    objective: AnyObjective = NonSaturating()

    def __post_init__(self) -> None:
        pyramid(*self.image_shape[:2])
        if self.latent_dim < 1:
            raise ValueError(f"latent_dim={self.latent_dim}: must be at least 1")

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises both networks. Raises ValueError where the images have another shape."""
        check_images(self, batch)
        generator_key, discriminator_key = jax.random.split(key)
        z, image = jnp.zeros((1, self.latent_dim)), jnp.zeros((1, *self.image_shape))
        return {
            "generator": self.generator.init(generator_key, z, self.image_shape, train=False),
            "discriminator": self.discriminator.init(discriminator_key, image, train=False),
        }

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the phases of a step: the discriminator, then the generator."""
        return (
            Phase(("discriminator",), self.discriminator_loss, "discriminator"),
            Phase(("generator",), self.generator_loss, "generator"),
        )

    def discriminator_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """Returns the objective's loss for logits of one batch of real images and one of generated ones."""
        fake, _ = self._generate(nets["generator"], self._latents(inputs.keys))
        real_logits, stats = self._discriminate(nets["discriminator"], inputs.batch["image"])
        fake_logits, stats = self._discriminate({**nets["discriminator"], **stats}, fake)
        loss = self.objective.discriminator(real_logits, fake_logits)
        metrics = logit_metrics(self.objective, real_logits, fake_logits)
        return loss, Aux(metrics, {"discriminator": stats})

    def generator_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """Returns the objective's loss for logits of generated images."""
        fake, stats = self._generate(nets["generator"], self._latents(inputs.keys))
        logits, _ = self._discriminate(nets["discriminator"], fake)
        pairs = self.objective.pairs
        real_logits = self._discriminate(nets["discriminator"], inputs.batch["image"])[0] if pairs else None
        loss = self.objective.generator(logits, real_logits)
        return loss, Aux({"fake_logit": jnp.mean(logits)}, {"generator": stats}, fake)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1], normalised by the running statistics; `conditions` is not read."""
        return self.generate(nets, jax.random.normal(key, (n, self.latent_dim)), conditions)

    def generate(self, nets: Nets, z: Float[Array, "b d"], conditions: Batch) -> Image:
        """Makes the images of latents, as `sample` does."""
        return self.generator.apply(nets["generator"], z, self.image_shape, train=False)

    def _latents(self, keys: PRNGKeys) -> Float[Array, "b d"]:
        return normal_rows(keys, (self.latent_dim,))

    def _generate(self, variables: Variables, z: Float[Array, "b d"]) -> tuple[Image, Variables]:
        return self.generator.apply(variables, z, self.image_shape, train=True, mutable=["batch_stats"])

    def _discriminate(self, variables: Variables, image: Image) -> tuple[Float[Array, " b"], Variables]:
        return self.discriminator.apply(variables, image, train=True, mutable=["batch_stats"])
