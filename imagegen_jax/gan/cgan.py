"""Conditional GAN (Mirza & Osindero 2014, arXiv 1411.1784): both networks see the class beside their input.

The paper's networks are fully connected: `MLPGenerator` and `MLPDiscriminator`. The default ones are DCGAN's (Radford
et al. 2016, arXiv 1511.06434), with a learnt embedding of the class joined to their inputs: a vector to the latent, and
a map to the image as one more channel.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Hashable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.random import normal_rows
from imagegen_jax.core.config.bounds import Count, Natural, NonNegative, Shape
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
    check_labels,
)
from imagegen_jax.gan import dcgan
from imagegen_jax.gan.networks import AnyOneHotCritic, AnyOneHotGenerator
from imagegen_jax.nn.objectives import AnyObjective, NonSaturating, logit_metrics
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.strided import pyramid

Labels = Float[Array, "b k"]  # one-hot rows


class Generator(nn.Module):
    """G(z | y): DCGAN's generator, fed with the latent joined with an embedding of the class.

    The embedding starts much smaller than the latent. When it started as large, each class had collapsed to one image
    within some hundred steps: norm layers fix the variance of a batch, and the class alone could provide it.
    """

    width: Count = 64  # as DCGAN's
    label_dim: Count = 10  # length of the embedding
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, z: Float[Array, "b d"], labels: Labels, image_shape: tuple[int, int, int], train: bool) -> Image:
        """Makes an image of a class from each latent: [B D], [B K] -> [B *image_shape] in [-1, 1]"""
        z = jnp.concatenate([z, _embed(labels, self.label_dim, 0.1)], axis=-1)
        return dcgan.Generator(self.width, self.dtype, name="network")(z, image_shape, train)


class Discriminator(nn.Module):
    """D(x | y): DCGAN's discriminator, fed with the image joined with a map for its class."""

    width: Count = 64  # as DCGAN's
    slope: NonNegative = 0.2  # of the leaky rectifier
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Image, labels: Labels, train: bool) -> Float[Array, " b"]:
        """Judges images of classes: [B H W C] in [-1, 1], [B K] -> [B] logits, high for a real image of that class"""
        b, h, w, _ = x.shape
        x = jnp.concatenate([x, _embed(labels, h * w, 1.0).reshape(b, h, w, 1)], axis=-1)
        return dcgan.Discriminator(self.width, self.slope, dtype=self.dtype, name="network")(x, train)


def _embed(labels: Labels, width: int, std: float) -> Float[Array, "b w"]:
    """Returns the embedding of each row's class, learnt from N(0, std^2) on."""
    return nn.Dense(width, use_bias=False, kernel_init=nn.initializers.normal(std), name="label")(labels)


class MLPGenerator(nn.Module):
    """The paper's generator: a hidden layer each for latent and class, then a joint one (section 4.1)."""

    latent_units: Count = 200
    label_units: Count = 1000
    joint_units: Count = 1200
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, z: Float[Array, "b d"], labels: Labels, image_shape: tuple[int, int, int], train: bool) -> Image:
        """Makes an image of a class from each latent: [B D], [B K] -> [B *image_shape] in [-1, 1].

        `train` changes nothing.
        """
        dense = functools.partial(nn.Dense, dtype=compute_dtype(self.dtype))
        hidden = dense(self.latent_units, name="latent")(z), dense(self.label_units, name="label")(labels)
        x = nn.relu(dense(self.joint_units, name="joint")(nn.relu(jnp.concatenate(hidden, axis=-1))))
        x = dense(math.prod(image_shape), name="image")(x)
        return jnp.tanh(x.astype(jnp.float32)).reshape(-1, *image_shape)


class MLPDiscriminator(nn.Module):
    """The paper's discriminator: a maxout layer each for image and class, then a joint one (section 4.1).

    It has no dropout.
    """

    image_units: Count = 240
    label_units: Count = 50
    joint_units: Count = 240
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Image, labels: Labels, train: bool) -> Float[Array, " b"]:
        """Judges images of classes: [B H W C] in [-1, 1], [B K] -> [B] logits, high for a real image of that class.

        `train` changes nothing.
        """

        def maxout(x: Float[Array, "b d"], units: int, pieces: int, name: str) -> Float[Array, "b u"]:
            x = nn.Dense(units * pieces, dtype=compute_dtype(self.dtype), name=name)(x)
            return jnp.max(x.reshape(-1, units, pieces), axis=-1)

        image = maxout(x.reshape(x.shape[0], -1), self.image_units, 5, "image")
        label = maxout(labels, self.label_units, 5, "label")
        joint = maxout(jnp.concatenate([image, label], axis=-1), self.joint_units, 4, "joint")
        return nn.Dense(1, name="logit")(joint.astype(jnp.float32))[:, 0]


@dataclasses.dataclass(frozen=True)
class CGAN:
    """A GAN of labelled images: its training makes images of the batch's classes, its sampling of those asked for.

    Where networks have norms, these are used and kept as in `DCGAN`.
    """

    image_shape: Shape = (32, 32, 1)
    generator: AnyOneHotGenerator = Generator()
    discriminator: AnyOneHotCritic = Discriminator()
    latent_dim: Count = 100
    num_classes: Natural = 10
    objective: AnyObjective = NonSaturating()

    def __post_init__(self) -> None:
        pyramid(*self.image_shape[:2])
        for name in ("latent_dim", "num_classes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises both networks. Raises ValueError where the images have another shape, or there are no labels."""
        check_images(self, batch)
        check_labels(self, batch)
        generator_key, discriminator_key = jax.random.split(key)
        z, image = jnp.zeros((1, self.latent_dim)), jnp.zeros((1, *self.image_shape))
        labels = jnp.zeros((1, self.num_classes))
        return {
            "generator": self.generator.init(generator_key, z, labels, self.image_shape, train=False),
            "discriminator": self.discriminator.init(discriminator_key, image, labels, train=False),
        }

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the phases of a step: the discriminator, then the generator."""
        return (
            Phase(("discriminator",), self.discriminator_loss, "discriminator"),
            Phase(("generator",), self.generator_loss, "generator"),
        )

    def discriminator_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """-E[log D(x | y)] - E[log(1 - D(G(z | y) | y))]   (Eq. 2), or another objective's."""
        labels = self._one_hot(inputs.batch)
        fake, _ = self._generate(nets["generator"], self._latents(inputs.keys), labels)
        real_logits, stats = self._discriminate(nets["discriminator"], inputs.batch["image"], labels)
        fake_logits, stats = self._discriminate({**nets["discriminator"], **stats}, fake, labels)
        loss = self.objective.discriminator(real_logits, fake_logits)
        metrics = logit_metrics(self.objective, real_logits, fake_logits)
        return loss, Aux(metrics, {"discriminator": stats})

    def generator_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """-E[log D(G(z | y) | y)], the paper's second term made non-saturating, or another objective's."""
        labels = self._one_hot(inputs.batch)
        fake, stats = self._generate(nets["generator"], self._latents(inputs.keys), labels)
        logits, _ = self._discriminate(nets["discriminator"], fake, labels)
        pairs, image = self.objective.pairs, inputs.batch["image"]
        real_logits = self._discriminate(nets["discriminator"], image, labels)[0] if pairs else None
        loss = self.objective.generator(logits, real_logits)
        return loss, Aux({"fake_logit": jnp.mean(logits)}, {"generator": stats}, fake)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1] of the classes `conditions["label"]` [n], normalised by the running statistics.

        Raises ValueError without labels.
        """
        return self.generate(nets, jax.random.normal(key, (n, self.latent_dim)), conditions)

    def generate(self, nets: Nets, z: Float[Array, "b d"], conditions: Batch) -> Image:
        """Makes the images of latents, as `sample` does. Raises ValueError without labels."""
        check_labels(self, conditions)
        return self.generator.apply(nets["generator"], z, self._one_hot(conditions), self.image_shape, train=False)

    def _one_hot(self, batch: Batch) -> Labels:
        return jax.nn.one_hot(batch["label"], self.num_classes)

    def _latents(self, keys: PRNGKeys) -> Float[Array, "b d"]:
        return normal_rows(keys, (self.latent_dim,))

    def _generate(self, variables: Variables, z: Float[Array, "b d"], labels: Labels) -> tuple[Image, Variables]:
        return self.generator.apply(variables, z, labels, self.image_shape, train=True, mutable=["batch_stats"])

    def _discriminate(self, variables: Variables, image: Image, labels: Labels) -> tuple[Float[Array, " b"], Variables]:
        return self.discriminator.apply(variables, image, labels, train=True, mutable=["batch_stats"])
