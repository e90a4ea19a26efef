"""StyleGAN (Karras et al. 2019, arXiv 1812.04948): configuration F with mixing, growing like ProGAN.

Layers for all sizes exist from the start (`growing.py`). Both optimizers start afresh when a size begins to fade in and
when it is fully in.

Differences from the authors' code: the batch has the experiment's size at all levels; mixing is drawn for each image,
not for each batch; the mean style follows the generator's own steps alone; truncation acts on all layers, where theirs
may leave out the fine ones.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.core.arrays.random import normal_rows, streams
from imagegen_jax.core.capabilities import Styles
from imagegen_jax.core.config.bounds import Count, Natural, NonNegative, Shape, Share
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
from imagegen_jax.gan.regularizers import zero_centred_penalty
from imagegen_jax.gan.style.growing import Growth, Stage, at_stage, enlarged, stretch
from imagegen_jax.gan.style.progan_networks import Discriminator
from imagegen_jax.gan.style.stylegan2_networks import Labels, resolutions
from imagegen_jax.gan.style.stylegan_networks import Generator
from imagegen_jax.gan.style.styles import follow, mix, truncate
from imagegen_jax.gan.truncation import check_truncation
from imagegen_jax.nn.objectives import AnyObjective, NonSaturating, logit_metrics
from imagegen_jax.nn.upfirdn import BINOMIAL


@dataclasses.dataclass(frozen=True)
class StyleGAN:
    """Style-based GAN with adaptive instance normalisation; the defaults are the paper's for FFHQ at 1024x1024.

    With labels, the mapping takes the class, and the discriminator has a logit for each class. Beside its parameters
    the generator has the collections "noise" (one constant map a layer), "averages" (the mean style "w") and "progress"
    (the level of the last step).
    """

    image_shape: Shape = (1024, 1024, 3)
    generator: Generator = Generator()
    discriminator: Discriminator = Discriminator(taps=BINOMIAL)
    latent_dim: Count = 512
    num_classes: Natural = 0
    objective: AnyObjective = NonSaturating()
    r1_weight: NonNegative = 10.0  # gamma; 0: no penalty
    mixing: Share = 0.9  # share of generated images with the styles of two latents
    w_decay: Share = 0.995  # of the mean style, per step
    growth: Growth = Growth(hold=18_750, fade=18_750, first=1)  # 600,000 images in batches of 32, from 8x8 on

    optional_conditions: ClassVar[tuple[str, ...]] = ("truncation",)

    def __post_init__(self) -> None:
        self.growth.check(self.levels)
        if self.latent_dim < 1:
            raise ValueError(f"latent_dim={self.latent_dim}: must be at least 1")
        for name in ("mixing", "w_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be from 0 to 1")

    @property
    def levels(self) -> int:
        """The number of sizes: 9 from 4x4 to 1024x1024."""
        return len(resolutions(*self.image_shape[:2]))

    @property
    def layers(self) -> int:
        """The number of styles of an image: 18 at 1024x1024."""
        return 2 * self.levels

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises both networks.

        Raises ValueError where the images have another shape, or labels are needed and missing.
        """
        check_images(self, batch)
        check_labels(self, batch)
        generator_key, discriminator_key = jax.random.split(key)
        z, image = jnp.zeros((1, self.latent_dim)), jnp.zeros((1, *self.image_shape))
        labels = jnp.zeros((1, self.num_classes)) if self.num_classes else None
        level, every = jnp.float32(self.growth.first), range(self.levels)
        return {
            "generator": {
                **self.generator.init(generator_key, z, labels, self.image_shape),
                "averages": {"w": jnp.zeros(self.generator.style_dim)},
                "progress": {"level": level},
            },
            "discriminator": self.discriminator.init(
                discriminator_key, image, max(self.num_classes, 1), self.image_shape[:2], every, level
            ),
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

    # --- losses ------------------------------------------------------------------------------------------------------

    def discriminator_loss(self, stage: Stage, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """Adds R1 to the objective's loss: gamma / 2 E[|grad D(x)|^2] at real images (Mescheder et al. 2018, Eq. 9).

        R1 is from arXiv 1801.04406. Gradients are those with respect to the full image; a stage sees its means.
        """
        progress, label = self.growth.progress(inputs.step, self.levels), self._label(inputs.batch)
        real = at_stage(inputs.batch["image"], stage, progress, self.levels)
        fake, _ = self._generate(nets["generator"], inputs.keys, label, stage, progress)
        judge = functools.partial(self._judge, nets["discriminator"], label=label, stage=stage, progress=progress)
        real_logits, fake_logits = judge(real), judge(fake)
        loss = self.objective.discriminator(real_logits, fake_logits)
        metrics = logit_metrics(self.objective, real_logits, fake_logits)
        if self.r1_weight > 0:
            metrics["penalty"] = zero_centred_penalty(judge, real) / stretch(stage, self.levels) ** 2
            loss += self.r1_weight / 2 * metrics["penalty"]
        return loss, Aux(metrics)

    def generator_loss(self, stage: Stage, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """Returns the objective's loss; updates the mean style, and stores the level for sampling."""
        progress, label = self.growth.progress(inputs.step, self.levels), self._label(inputs.batch)
        fake, first = self._generate(nets["generator"], inputs.keys, label, stage, progress)
        judge = functools.partial(self._judge, nets["discriminator"], label=label, stage=stage, progress=progress)
        logits, real_logits = judge(fake), None
        if self.objective.pairs:
            real_logits = judge(at_stage(inputs.batch["image"], stage, progress, self.levels))
        loss = self.objective.generator(logits, real_logits)
        mean = follow(nets["generator"]["averages"]["w"], first, self.w_decay)
        stats = {"generator": {"averages": {"w": mean}, "progress": {"level": progress}}}
        metrics = {"fake_logit": jnp.mean(logits), "level": progress}
        return loss, Aux(metrics, stats, enlarged(fake, stage, self.levels))

    def _generate(
        self, variables: Variables, keys: PRNGKeys, label: Int[Array, " b"] | None, stage: Stage, progress: Scalar
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b d"]]:
        """Makes images of random latents at the size of a stage; returns them and the styles of the first latents."""
        first_keys, second_keys, mix_keys, noise_keys = streams(keys, 4)

        def random_styles(keys: PRNGKeys) -> Float[Array, "b d"]:
            z = normal_rows(keys, (self.latent_dim,))
            return self._map(variables, z, label)

        first, layers = random_styles(first_keys), 2 * (stage.level + 1)
        w = jnp.repeat(first[:, None], layers, axis=1)
        if self.mixing > 0:
            w = mix(first, random_styles(second_keys), mix_keys, self.mixing, layers)
        return self._synthesise(variables, w, noise_keys, stage.levels, progress), first

    def _judge(
        self, variables: Variables, image: Image, label: Int[Array, " b"] | None, stage: Stage, progress: Scalar
    ) -> Float[Array, " b"]:
        """Returns logits; with classes, each image's own class's (Mescheder et al. 2018, as in the authors' code)."""
        outputs, sides = max(self.num_classes, 1), self.image_shape[:2]
        logits = self.discriminator.apply(variables, image, outputs, sides, stage.levels, progress)
        return logits[:, 0] if label is None else jnp.sum(logits * self._one_hot(label), axis=-1)

    # --- images ------------------------------------------------------------------------------------------------------

    def check_conditions(self, conditions: Batch) -> None:
        """Raises ValueError where a truncation is outside [0, 1], or not a number."""
        check_truncation(conditions)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1], each with its own noise; as square pixels while the networks are small.

        `conditions` hold "label" where there are classes, and may hold "truncation", psi of `styles` (default 1).
        """
        latent_key, noise_key = jax.random.split(key)
        return self._images(
            nets, jax.random.normal(latent_key, (n, self.latent_dim)), jax.random.split(noise_key, n), conditions
        )

    def generate(self, nets: Nets, z: Float[Array, "b z"], conditions: Batch) -> Image:
        """Makes the images of latents, as `sample` does, but with the constant noise."""
        return self._images(nets, z, None, conditions)

    def _images(self, nets: Nets, z: Float[Array, "b z"], keys: PRNGKeys | None, conditions: Batch) -> Image:
        check_labels(self, conditions)
        w = self.styles(nets, z, conditions.get("label"), conditions.get("truncation", 1.0))
        return jnp.clip(self.synthesise(nets, w, keys), -1, 1)

    def styles(
        self,
        nets: Nets,
        z: Float[Array, "b z"],
        label: Int[Array, " b"] | None = None,
        truncation: float | Float[Array, " n"] = 1.0,
    ) -> Styles:
        """Maps latents to styles, drawn towards the mean by `truncation`, psi: one for all rows or one a row."""
        variables = nets["generator"]
        w = truncate(self._map(variables, z, label), variables["averages"]["w"], truncation)
        return jnp.repeat(w[:, None], self.layers, axis=1)

    def synthesise(self, nets: Nets, w: Styles, keys: PRNGKeys | None = None) -> Float[Array, "b h w c"]:
        """Makes images of styles, not clipped. Noise comes from the rows' `keys`; for None it is the constant one."""
        variables = nets["generator"]
        return self._synthesise(variables, w, keys, range(self.levels), variables["progress"]["level"])

    def _synthesise(
        self, variables: Variables, w: Styles, keys: PRNGKeys | None, levels: range, progress: Scalar
    ) -> Float[Array, "b h w c"]:
        weights = {name: variables[name] for name in ("params", "noise")}
        return self.generator.apply(weights, w, self.image_shape, keys, levels, progress, method="synthesise")

    def _map(self, variables: Variables, z: Float[Array, "b z"], label: Int[Array, " b"] | None) -> Float[Array, "b d"]:
        labels = None if label is None else self._one_hot(label)
        return self.generator.apply({"params": variables["params"]}, z, labels, method="styles")

    def _label(self, batch: Batch) -> Int[Array, " b"] | None:
        return batch["label"] if self.num_classes else None

    def _one_hot(self, label: Int[Array, " b"]) -> Labels:
        return jax.nn.one_hot(label, self.num_classes)
