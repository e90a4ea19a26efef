"""SNGAN (Miyato et al. 2018, arXiv 1802.05957): a residual discriminator whose layers are all spectrally normalised.

With classes, the generator has conditional batch norm, and the discriminator projects its features onto an embedding
of the label (Miyato & Koyama 2018, arXiv 1802.05637) or has an auxiliary classifier (ACGAN). With spectral
normalisation in the generator too, and self-attention in both, it is SAGAN (Zhang et al. 2019, arXiv 1805.08318):

    SNGAN(generator=Generator(spectral=True, attention=16), discriminator=Discriminator(attention=16),
          num_classes=10, discriminator_steps=1)
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

from imagegen_jax.core.arrays.random import streams
from imagegen_jax.core.config.bounds import Count, Natural, Shape
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
from imagegen_jax.gan.residual import conditional
from imagegen_jax.gan.residual.conditional import (
    Head,
    Judgement,
    Labels,
    LabelUse,
    SelfAttention,
    check_attention,
    class_norm,
    sizes,
    sum_pooled,
)
from imagegen_jax.gan.residual.spectral import SpectralDense, spectral_convolutions
from imagegen_jax.gan.resnet import DownBlock, UpBlock, batch_norm, plain
from imagegen_jax.nn.init import fan_avg_uniform
from imagegen_jax.nn.objectives import AnyObjective, Hinge
from imagegen_jax.nn.precision import Dtype, compute_dtype


class Generator(nn.Module):
    """Makes images from latents: a projection to the base, then a block for each doubling (Table 4a).

    The first of `multipliers` is for the base, and each further one for a block, so there is one more than doublings.
    """

    width: Count = 256  # channels
    multipliers: tuple[Count, ...] = (1, 1, 1, 1)  # of `width`
    spectral: bool = False  # True: spectrally normalised like the discriminator
    attention: Natural = 0  # height of the features that attend to themselves; 0: none do
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self, z: Float[Array, "b d"], labels: Labels, image_shape: tuple[int, int, int], num_classes: int, train: bool
    ) -> Image:
        """Makes an image from each latent and label: [B D], [B] -> [B *image_shape] in [-1, 1]"""
        *finer, base = sizes(image_shape, len(self.multipliers) - 1)
        check_attention(self.attention, [size[0] for size in finer])
        first, *features = (self.width * multiplier for multiplier in self.multipliers)
        dtype = compute_dtype(self.dtype)
        dense, conv = functools.partial(nn.Dense, kernel_init=fan_avg_uniform(), dtype=dtype), plain(self.dtype)
        if self.spectral:
            dense, conv = functools.partial(SpectralDense, dtype=self.dtype), spectral_convolutions(self.dtype, 1e-12)
        norm = class_norm(labels, num_classes, train, self.dtype)
        x = dense(math.prod(base) * first, name="project")(z).reshape(-1, *base, first)
        for i, size in enumerate(reversed(finer)):
            x = UpBlock(features[i], conv, norm, name=f"block_{i}")(x, size)
            if size[0] == self.attention:
                x = SelfAttention(dtype=self.dtype, name="attention")(x)
        x = nn.relu(batch_norm(train, dtype, "norm_out")(x))
        return jnp.tanh(conv(image_shape[2], 3, 1.0, "conv_out")(x).astype(jnp.float32))


class Discriminator(nn.Module):
    """Judges images: blocks, the first ones halving, then the sum over pixels and a projection (Table 4b)."""

    width: Count = 128  # channels
    multipliers: tuple[Count, ...] = (1, 1, 1, 1)  # of `width`, one a block
    halvings: Natural = 2  # blocks that halve
    wide: bool = False  # True: a block's hidden layer is as wide as its output, as in StudioGAN and BigGAN
    labels: LabelUse = "projection"  # what labels are for; with "none", nothing holds images to the class asked for
    attention: Natural = 0  # as the generator's
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Image, labels: Labels, num_classes: int) -> Judgement:
        """Judges images, given their labels: [B H W C] in [-1, 1], [B] -> [B] logits, high for real"""
        check_attention(self.attention, [size[0] for size in sizes(x.shape[1:], self.halvings)[1:]])
        conv = spectral_convolutions(self.dtype, 1e-12)
        for i, multiplier in enumerate(self.multipliers):
            features, halves = self.width * multiplier, i < self.halvings
            x = DownBlock(features, conv, halves, i == 0, self.wide, name=f"block_{i}")(x)
            if halves and x.shape[1] == self.attention:
                x = SelfAttention(dtype=self.dtype, name="attention")(x)
        return Head(self.labels, name="head")(sum_pooled(x), labels, num_classes)


@dataclasses.dataclass(frozen=True)
class SNGAN:
    """Spectrally normalised GAN, with or without classes; the defaults are those for CIFAR-10.

    Each training step updates the discriminator, and each `discriminator_steps`-th the generator too. Each phase keeps
    the running statistics and the vectors of spectral norms of the network that it trains. The discriminator judges
    real and generated images in one call, so that a step makes one power iteration.
    """

    image_shape: Shape = (32, 32, 3)
    generator: Generator = Generator()
    discriminator: Discriminator = Discriminator()
    latent_dim: Count = 128
    num_classes: Natural = 0  # 0: without labels
    objective: AnyObjective = Hinge()
    discriminator_steps: Count = 5  # n_dis
    generator_batches: Count = 1  # of latents, in a step of the generator; the paper has 2

    def __post_init__(self) -> None:
        for name in ("latent_dim", "discriminator_steps", "generator_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.num_classes < 0:
            raise ValueError(f"num_classes={self.num_classes}: must be at least 0 (0: without labels)")

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises both networks.

        Raises ValueError where the images have another shape, or there are classes but no labels.
        """
        check_images(self, batch)
        check_labels(self, batch)
        generator_key, discriminator_key = jax.random.split(key)
        z, image = jnp.zeros((1, self.latent_dim)), jnp.zeros((1, *self.image_shape))
        labels = jnp.zeros((1,), jnp.int32) if self.num_classes else None
        generator = self.generator.init(generator_key, z, labels, self.image_shape, self.num_classes, train=False)
        discriminator = self.discriminator.init(discriminator_key, image, labels, self.num_classes)
        return {"generator": generator, "discriminator": discriminator}

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the phases of a step: the discriminator each time, then the generator where it is due."""
        return (
            Phase(("discriminator",), self.discriminator_loss, "discriminator"),
            Phase(("generator",), self.generator_loss, "generator", every=self.discriminator_steps),
        )

    def discriminator_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """E[max(0, 1 - D(x, y))] + E[max(0, 1 + D(G(z, y'), y'))]   (Eq. 16), or another objective's."""
        real, real_labels = inputs.batch["image"], inputs.batch["label"] if self.num_classes else None
        fake, fake_labels, _ = self._generate(nets["generator"], inputs.keys)
        images, labels = jax.tree.map(conditional.together, (real, real_labels), (fake, fake_labels))
        judged, stats = self.discriminator.apply(
            nets["discriminator"], images, labels, self.num_classes, mutable=["spectral"]
        )
        real_judged, fake_judged = conditional.apart(judged)
        loss, metrics = conditional.discriminator_loss(
            self.objective, real_judged, real_labels, fake_judged, fake_labels
        )
        return loss, Aux(metrics, {"discriminator": stats})

    def generator_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """-E[D(G(z, y'), y')]   (Eq. 17), or another objective's."""
        keys = streams(inputs.keys, self.generator_batches).swapaxes(0, 1).reshape(-1)
        fake, labels, stats = self._generate(nets["generator"], keys)
        judged = self._judge(nets["discriminator"], fake, labels)
        real = self._judge_rows(nets["discriminator"], inputs.batch) if self.objective.pairs else None
        loss, metrics = conditional.generator_loss(self.objective, judged, labels, real)
        return loss, Aux(metrics, {"generator": stats}, fake)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1], of the classes `conditions["label"]` [n] where there are classes.

        Images are normalised by the running statistics. Raises ValueError where there are classes but no labels.
        """
        return self.generate(nets, jax.random.normal(key, (n, self.latent_dim)), conditions)

    def generate(self, nets: Nets, z: Float[Array, "b d"], conditions: Batch) -> Image:
        """Makes the images of latents, as `sample` does. Raises ValueError where there are classes but no labels."""
        check_labels(self, conditions)
        labels = conditions["label"] if self.num_classes else None
        return self.generator.apply(nets["generator"], z, labels, self.image_shape, self.num_classes, train=False)

    def _generate(self, variables: Variables, keys: PRNGKeys) -> tuple[Image, Labels, Variables]:
        """Makes images of random latents and classes; returns them, the classes, and the statistics afterwards."""
        z, labels = conditional.draw(keys, self.latent_dim, self.num_classes)
        image, stats = self.generator.apply(
            variables, z, labels, self.image_shape, self.num_classes, train=True, mutable=["batch_stats", "spectral"]
        )
        return image, labels, stats

    def _judge(self, variables: Variables, image: Image, labels: Labels) -> Judgement:
        """Judges images by the spectral norms' vectors as they are."""
        return self.discriminator.apply(variables, image, labels, self.num_classes)

    def _judge_rows(self, variables: Variables, batch: Batch) -> Judgement:
        """Judges the real images, for a pairing objective: each as often as there are generated images of its row."""
        judged = self._judge(variables, batch["image"], batch["label"] if self.num_classes else None)
        return jax.tree.map(lambda x: jnp.repeat(x, self.generator_batches, axis=0), judged)
