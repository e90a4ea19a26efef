"""ProGAN (Karras et al. 2018, arXiv 1710.10196): both networks grow from 4x4 to the full size while they train.

Layers for all sizes exist from the start (`growing.py`). Both optimizers start afresh when a size begins to fade in and
when it is fully in, as in the authors' code; the averages go on.

Differences from the paper: the batch has the experiment's size at all levels, where theirs shrinks from 128x128 on; a
`group` consists of neighbouring rows.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.random import streams
from imagegen_jax.core.config.bounds import Count, Natural, NonNegative, Shape
from imagegen_jax.core.model import (
    Aux,
    Batch,
    Entry,
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
from imagegen_jax.gan.regularizers import gradient_penalty
from imagegen_jax.gan.residual import conditional
from imagegen_jax.gan.residual.conditional import Judgement, Labels
from imagegen_jax.gan.style.growing import Growth, Stage, at_stage, enlarged, stretch
from imagegen_jax.gan.style.progan_networks import Discriminator, Generator
from imagegen_jax.gan.style.stylegan2_networks import resolutions
from imagegen_jax.nn.objectives import AnyObjective, Wasserstein


@dataclasses.dataclass(frozen=True)
class ProGAN:
    """Progressively growing GAN; the defaults are the paper's for CelebA-HQ at 1024x1024.

    With classes, the generator takes the label beside the latent, and the discriminator guesses it (ACGAN). The
    generator's collection "progress" holds the level of the last step: `sample` needs it.
    """

    image_shape: Shape = (1024, 1024, 3)
    generator: Generator = Generator()
    discriminator: Discriminator = Discriminator()
    latent_dim: Count = 512
    num_classes: Natural = 0
    objective: AnyObjective = Wasserstein(drift=1e-3)
    penalty_weight: NonNegative = 10.0  # lambda; 0: no penalty
    penalty_target: NonNegative = 1.0  # gamma, of the gradient's norm; the paper has 750 for CIFAR-10
    growth: Growth = Growth()

    def __post_init__(self) -> None:
        self.growth.check(self.levels)
        if self.latent_dim < 1:
            raise ValueError(f"latent_dim={self.latent_dim}: must be at least 1")
        if not self.penalty_target > 0:
            raise ValueError(f"penalty_target={self.penalty_target}: must be above 0")

    @property
    def levels(self) -> int:
        """The number of sizes: 9 from 4x4 to 1024x1024."""
        return len(resolutions(*self.image_shape[:2]))

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises both networks.

        Raises ValueError where the images have another shape, or labels are needed and missing.
        """
        check_images(self, batch)
        check_labels(self, batch)
        generator_key, discriminator_key = jax.random.split(key)
        z, image = jnp.zeros((1, self.latent_dim)), jnp.zeros((1, *self.image_shape))
        labels = jnp.zeros((1, self.num_classes)) if self.num_classes else None
        every, level = range(self.levels), jnp.float32(self.growth.first)
        generator = self.generator.init(generator_key, z, labels, self.image_shape, every, level)
        outputs, sides = 1 + self.num_classes, self.image_shape[:2]
        return {
            "generator": {**generator, "progress": {"level": level}},
            "discriminator": self.discriminator.init(discriminator_key, image, outputs, sides, every, level),
        }

    def stage(self, step: int) -> Stage:
        """Returns the size that is trained, and whether it fades in."""
        return self.growth.stage(step, self.levels)

    def enter(self, stage: Hashable, nets: Nets) -> Entry:
        """Keeps the networks and averages as they are, and starts both optimizers afresh."""
        return Entry(nets, fresh_optimizers=("generator", "discriminator"))

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the phases of a step in a `Stage`: the discriminator, then the generator."""
        assert isinstance(stage, Stage)
        return (
            Phase(("discriminator",), functools.partial(self.discriminator_loss, stage), "discriminator"),
            Phase(("generator",), functools.partial(self.generator_loss, stage), "generator"),
        )

    def discriminator_loss(self, stage: Stage, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """E[D(G(z))] - E[D(x)] + lambda E[(|grad D(x_hat)| / gamma - 1)^2] + drift E[D(x)^2]   (appendix A.1)

        With another objective, its loss takes the place of the terms without lambda. Gradients are those with respect
        to the full image; a stage sees its means.
        """
        progress = self.growth.progress(inputs.step, self.levels)
        latent_keys, penalty_keys = streams(inputs.keys, 2)
        real = at_stage(inputs.batch["image"], stage, progress, self.levels)
        fake, labels = self._generate(nets["generator"], latent_keys, stage, progress)
        judge = functools.partial(self._judge, nets["discriminator"], stage=stage, progress=progress)
        loss, metrics = conditional.discriminator_loss(
            self.objective, judge(real), inputs.batch.get("label"), judge(fake), labels
        )
        if self.penalty_weight > 0:
            target = self.penalty_target * stretch(stage, self.levels)
            penalty = gradient_penalty(lambda x: judge(x).logits, real, fake, penalty_keys, target) / target**2
            metrics["penalty"] = self.penalty_weight * penalty
            loss += metrics["penalty"]
        return loss, Aux(metrics)

    def generator_loss(self, stage: Stage, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """-E[D(G(z))], or another objective's; it also stores the level for sampling."""
        progress = self.growth.progress(inputs.step, self.levels)
        fake, labels = self._generate(nets["generator"], inputs.keys, stage, progress)
        judge = functools.partial(self._judge, nets["discriminator"], stage=stage, progress=progress)
        real = None
        if self.objective.pairs:
            real = judge(at_stage(inputs.batch["image"], stage, progress, self.levels))
        loss, metrics = conditional.generator_loss(self.objective, judge(fake), labels, real)
        stats = {"generator": {"progress": {"level": progress}}}
        return loss, Aux({**metrics, "level": progress}, stats, enlarged(fake, stage, self.levels))

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1] of the full size, as square pixels while the networks are small.

        With classes, `conditions` holds "label" [n]; raises ValueError without.
        """
        return self.generate(nets, jax.random.normal(key, (n, self.latent_dim)), conditions)

    def generate(self, nets: Nets, z: Float[Array, "b z"], conditions: Batch) -> Image:
        """Makes the images of latents, as `sample` does."""
        check_labels(self, conditions)
        level, label = nets["generator"]["progress"]["level"], conditions["label"] if self.num_classes else None
        return jnp.clip(self._images(nets["generator"], z, label, range(self.levels), level), -1, 1)

    def _generate(
        self, variables: Variables, keys: PRNGKeys, stage: Stage, progress: Scalar
    ) -> tuple[Float[Array, "b h w c"], Labels]:
        """Makes images of random latents and classes at the size of a stage; returns them and the classes."""
        z, labels = conditional.draw(keys, self.latent_dim, self.num_classes)
        return self._images(variables, z, labels, stage.levels, progress), labels

    def _images(
        self, variables: Variables, z: Float[Array, "b z"], labels: Labels, levels: range, progress: Scalar
    ) -> Float[Array, "b h w c"]:
        one_hot = None if labels is None else jax.nn.one_hot(labels, self.num_classes)
        weights = {"params": variables["params"]}
        return self.generator.apply(weights, z, one_hot, self.image_shape, levels, progress)

    def _judge(self, variables: Variables, image: Image, stage: Stage, progress: Scalar) -> Judgement:
        outputs, sides = 1 + self.num_classes, self.image_shape[:2]
        found = self.discriminator.apply(variables, image, outputs, sides, stage.levels, progress)
        return Judgement(found[:, 0], found[:, 1:] if self.num_classes else None)
