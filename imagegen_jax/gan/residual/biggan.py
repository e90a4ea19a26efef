"""BigGAN (Brock et al. 2019, arXiv 1809.11096): large batches, a shared embedding of the class, a latent in parts.

Part 0 of the latent makes the base; each block takes another part, joined with the embedding, as the condition of its
batch norms. Both networks are spectrally normalised, start orthogonal and attend to themselves at one size.
Sampling may truncate the latents. BigGAN-deep is the same model with the networks of `gan.residual.biggan_deep`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

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
from imagegen_jax.gan.networks import AnyClassCritic, AnyClassGenerator
from imagegen_jax.gan.regularizers import orthogonality
from imagegen_jax.gan.residual import conditional
from imagegen_jax.gan.residual.biggan_networks import Discriminator, Generator
from imagegen_jax.gan.residual.conditional import Judgement, Labels
from imagegen_jax.gan.truncation import check_truncation
from imagegen_jax.nn.conditional_norm import MOMENTUM
from imagegen_jax.nn.objectives import AnyObjective, Hinge


@dataclasses.dataclass(frozen=True)
class BigGAN:
    """Class-conditional GAN at scale; the defaults are those for ImageNet at 128x128.

    Phases keep statistics as SNGAN's do. `conditions["truncation"]`, t in [0, 1], a number or one for each image,
    draws each latent from the central share t of a normal's mass (`truncated_normal`); 1, the default, is
    the distribution of training. The running statistics belong to t = 1: with `standing_batches`, sampling instead
    gathers statistics from that many batches of its own, of random classes at the t asked for, as the paper does.
    """

    image_shape: Shape = (128, 128, 3)
    generator: AnyClassGenerator = Generator()
    discriminator: AnyClassCritic = Discriminator()
    latent_dim: Count = 120
    num_classes: Natural = 1000
    objective: AnyObjective = Hinge()
    discriminator_steps: Count = 1
    orthogonal_weight: NonNegative = 1e-4  # beta in Eq. 3, for the generator; BigGAN-PyTorch's 1e-4 is 5e-5 here
    standing_batches: Natural = 0  # 0: sampling reads the running statistics

    optional_conditions: ClassVar[tuple[str, ...]] = ("truncation",)

    def __post_init__(self) -> None:
        for name in ("latent_dim", "num_classes", "discriminator_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        for name in ("orthogonal_weight", "standing_batches"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 0")

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises both networks. Raises ValueError where the images have another shape, or there are no labels."""
        check_images(self, batch)
        check_labels(self, batch)
        generator_key, discriminator_key = jax.random.split(key)
        z, image, labels = jnp.zeros((1, self.latent_dim)), jnp.zeros((1, *self.image_shape)), jnp.zeros(1, jnp.int32)
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
        """E[max(0, 1 - D(x, y))] + E[max(0, 1 + D(G(z, y'), y'))], or another objective's."""
        real_rows = (inputs.batch["image"], inputs.batch["label"])
        *fake_rows, _ = self._generate(nets["generator"], inputs.keys)
        image, labels = jax.tree.map(conditional.together, real_rows, tuple(fake_rows))
        logits, stats = self._judge(nets["discriminator"], image, labels, mutable=["spectral"])
        real, fake_judged = conditional.apart(Judgement(logits))
        loss, metrics = conditional.discriminator_loss(self.objective, real, None, fake_judged, None)
        return loss, Aux(metrics, {"discriminator": stats})

    def generator_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """-E[D(G(z, y'), y')] + R_beta, or another objective's; R_beta = beta |W^T W o (1 - I)|^2   (Eq. 3)"""
        fake, labels, stats = self._generate(nets["generator"], inputs.keys)
        judged, real = Judgement(self._judge(nets["discriminator"], fake, labels)), None
        if self.objective.pairs:
            real = Judgement(self._judge(nets["discriminator"], inputs.batch["image"], inputs.batch["label"]))
        loss, metrics = conditional.generator_loss(self.objective, judged, labels, real)
        if self.orthogonal_weight:
            metrics["orthogonality"] = orthogonality(nets["generator"]["params"])
            loss += self.orthogonal_weight * metrics["orthogonality"]
        return loss, Aux(metrics, {"generator": stats}, fake)

    def check_conditions(self, conditions: Batch) -> None:
        """Raises ValueError where a truncation is outside [0, 1], or not a number."""
        check_truncation(conditions)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1] of the classes `conditions["label"]` [n]. Raises ValueError without labels."""
        return self.generate(nets, self.latents(key, n, conditions), conditions)

    def latents(self, key: PRNGKey, n: int, conditions: Batch) -> Float[Array, "n d"]:
        """Draws the latents of `n` samples, truncated."""
        return truncated_normal(key, (n, self.latent_dim), conditions.get("truncation", 1.0))

    def generate(self, nets: Nets, z: Float[Array, "n d"], conditions: Batch) -> Image:
        """Makes the images of latents, as `sample` does; `conditions["truncation"]` chooses the statistics alone."""
        check_labels(self, conditions)
        variables = nets["generator"]
        if self.standing_batches:
            variables = self.standing(variables, len(z), conditions.get("truncation", 1.0))
        return self.generator.apply(variables, z, conditions["label"], self.image_shape, self.num_classes, train=False)

    def standing(self, variables: Variables, n: int, truncation: float | Float[Array, " n"]) -> Variables:
        """Returns the generator with the mean statistics of `standing_batches` batches of `n` images.

        The latents and classes of these batches are always the same, so that an image depends on `n` but not on the
        other images.
        """
        blank = jax.tree.map(jnp.zeros_like, variables["batch_stats"])

        def add(total: Variables, key: PRNGKey) -> tuple[Variables, None]:
            latent_key, label_key = jax.random.split(key)
            z = truncated_normal(latent_key, (n, self.latent_dim), truncation)
            labels = jax.random.randint(label_key, (n,), 0, self.num_classes)
            _, stats = self.generator.apply(
                {**variables, "batch_stats": blank},
                z, labels, self.image_shape, self.num_classes, train=True, mutable=["batch_stats"],
            )  # fmt: skip
            return jax.tree.map(jnp.add, total, stats["batch_stats"]), None

        total, _ = jax.lax.scan(add, blank, jax.random.split(jax.random.key(0), self.standing_batches))
        share = (1 - MOMENTUM) * self.standing_batches  # a batch's share of statistics that were zero before
        return {**variables, "batch_stats": jax.tree.map(lambda x: x / share, total)}

    def _generate(self, variables: Variables, keys: PRNGKeys) -> tuple[Image, Labels, Variables]:
        """Makes images of random latents and classes; returns them, the classes, and the statistics afterwards."""
        z, labels = conditional.draw(keys, self.latent_dim, self.num_classes)
        image, stats = self.generator.apply(
            variables, z, labels, self.image_shape, self.num_classes, train=True, mutable=["batch_stats", "spectral"]
        )
        return image, labels, stats

    def _judge(self, variables: Variables, image: Image, labels: Labels, mutable: Any = False) -> Any:
        """Returns logits; with `mutable`, (logits, statistics)."""
        return self.discriminator.apply(variables, image, labels, self.num_classes, mutable=mutable)


def truncated_normal(key: PRNGKey, shape: tuple[int, int], share: float | Float[Array, " n"]) -> Float[Array, "n d"]:
    """Draws from the central `share` of a normal's mass, in [0, 1]: one share for all rows, or one for each of n.

    Brock et al. redraw values beyond a threshold c (section 3.1). Here share = erf(c / sqrt(2)): thresholds 2, 1, 0.5
    and 0.04 are shares 0.954, 0.683, 0.383 and 0.032. With share 1 this is `jax.random.normal`.
    """
    low = np.nextafter(np.float32(-1), np.float32(0))
    u = jax.random.uniform(key, shape, minval=low, maxval=1.0)
    return math.sqrt(2) * jax.lax.erf_inv(u * jnp.asarray(share, jnp.float32).reshape(-1, 1))
