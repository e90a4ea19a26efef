"""StyleGAN (Karras et al. 2019, arXiv 1812.04948): configuration F with mixing, which grows as ProGAN does.

Layers for all sizes exist from the start (`growing.py`). Wherever a size begins to fade in, or has done so, both
optimizers and the averages start afresh.

Differences from the authors' code: the batch is as large at all sizes as the experiment says; mixing is drawn for each
image, not for each batch; the mean style follows the generator's own steps alone; truncation is that of all layers,
where theirs may leave the fine ones as they are.
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
from imagegen_jax.gan.losses import AnyObjective, NonSaturating, logit_metrics
from imagegen_jax.gan.regularizers import zero_centred_penalty
from imagegen_jax.gan.style.growing import Growth, Stage, at_stage, enlarged, stretch
from imagegen_jax.gan.style.progan_networks import Discriminator
from imagegen_jax.gan.style.stylegan2_networks import Labels, resolutions
from imagegen_jax.gan.style.stylegan_networks import Generator
from imagegen_jax.gan.style.styles import follow, mix, truncate
from imagegen_jax.gan.truncation import check_truncation
from imagegen_jax.nn.upfirdn import BINOMIAL


@dataclasses.dataclass(frozen=True)
class StyleGAN:
    """Style-based GAN with adaptive instance normalisation; the defaults are the paper's for FFHQ at 1024x1024.

    With labels, the mapping is given the class, and the discriminator has a logit for each. Collections of the
    generator beside its parameters: "noise" (one constant map a layer), "averages" (the mean style "w") and "progress"
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
        """How many sizes there are: 9 from 4x4 to 1024x1024."""
        return len(resolutions(*self.image_shape[:2]))

    @property
    def layers(self) -> int:
        """How many styles an image has: 18 at 1024x1024."""
        return 2 * self.levels

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Raises ValueError where the images have another shape, or labels are needed and missing."""
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
        """The size that is trained, and whether it fades in."""
        return self.growth.stage(step, self.levels)

    def enter(self, stage: Hashable, nets: Nets) -> Entry:
        """The networks and averages as they are; both optimizers start afresh."""
        return Entry(nets, fresh_optimizers=("generator", "discriminator"))

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """The discriminator, then the generator, at each step of a `Stage`."""
        assert isinstance(stage, Stage)
        return (
            Phase(("discriminator",), functools.partial(self.discriminator_loss, stage), "discriminator"),
            Phase(("generator",), functools.partial(self.generator_loss, stage), "generator"),
        )

    # --- losses ------------------------------------------------------------------------------------------------------

    def discriminator_loss(self, stage: Stage, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """The objective's, and gamma / 2 E[|grad D(x)|^2] at real images (Mescheder et al. 2018, 1801.04406, Eq. 9).

        Gradients are those with respect to the full image, of which a stage sees means.
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
        """The objective's; the mean style moves on, and the level that samples are drawn at."""
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
        """Images of random latents at the size of a stage, and the styles of the first latents alone."""
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
        """Logits, with classes that of each image's own (Mescheder et al. 2018, as in the authors' code)."""
        outputs, sides = max(self.num_classes, 1), self.image_shape[:2]
        logits = self.discriminator.apply(variables, image, outputs, sides, stage.levels, progress)
        return logits[:, 0] if label is None else jnp.sum(logits * self._one_hot(label), axis=-1)

    # --- images ------------------------------------------------------------------------------------------------------

    def check_conditions(self, conditions: Batch) -> None:
        """Raises ValueError where a truncation is outside [0, 1], or not a number."""
        check_truncation(conditions)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """`n` images in [-1, 1] with noise of their own, of square pixels while the networks are small.

        `conditions` may hold "truncation", psi of `styles` (default 1), and with classes holds "label".
        """
        latent_key, noise_key = jax.random.split(key)
        return self._images(
            nets, jax.random.normal(latent_key, (n, self.latent_dim)), jax.random.split(noise_key, n), conditions
        )

    def generate(self, nets: Nets, z: Float[Array, "b z"], conditions: Batch) -> Image:
        """The images of latents, as `sample` makes them, but with the constant noise."""
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
        """The styles of latents, drawn towards the mean by `truncation`, psi, one for all or one a row."""
        variables = nets["generator"]
        w = truncate(self._map(variables, z, label), variables["averages"]["w"], truncation)
        return jnp.repeat(w[:, None], self.layers, axis=1)

    def synthesise(self, nets: Nets, w: Styles, keys: PRNGKeys | None = None) -> Float[Array, "b h w c"]:
        """Images of styles, not clipped; noise from the `keys` of the rows, or for None the constant one."""
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
