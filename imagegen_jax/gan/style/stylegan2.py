"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958), with ADA or DiffAugment for small data sets (2006.06676).

A step has up to four updates: the generator and its path length, the discriminator and its R1. The penalties are lazy,
taken every 4th and 16th step with 4 and 16 times their weight; the core corrects Adam's rate and decays (appendix B).

Differences from the authors' code: style mixing is drawn for each image, not for each batch; the mean style follows the
generator's own steps alone; activations are not clamped, since bfloat16 has the range that float16 lacks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.core.arrays.random import normal_rows, streams
from imagegen_jax.core.config.bounds import Count, Natural, NonNegative, Shape, Share
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
from imagegen_jax.gan.augment import Adaptive, AnyAugmentation
from imagegen_jax.gan.regularizers import path_lengths, zero_centred_penalty
from imagegen_jax.gan.style.stylegan2_networks import Discriminator, Generator, Labels, resolutions
from imagegen_jax.gan.style.styles import follow, mix, truncate
from imagegen_jax.gan.truncation import check_truncation
from imagegen_jax.nn.objectives import AnyObjective, NonSaturating, logit_metrics

Styles = Float[Array, "b l d"]  # a style for each layer, from coarse to fine


@dataclasses.dataclass(frozen=True)
class StyleGAN2:
    """Style-based GAN; the defaults are configuration F for FFHQ. With labels, both networks take the class.

    Beside their parameters, the generator has the collections "noise" (one constant map a layer) and "averages" (the
    mean style "w" and the mean "path_length"), and the discriminator "augment" (the state of ADA).
    """

    image_shape: Shape = (1024, 1024, 3)
    generator: Generator = Generator()
    discriminator: Discriminator = Discriminator()
    latent_dim: Count = 512
    num_classes: Natural = 0
    objective: AnyObjective = NonSaturating()
    r1_weight: NonNegative = 10.0  # gamma; 0: no such phase
    r1_every: Count = 16  # steps
    path_weight: NonNegative = 2.0  # 0: no such phase
    path_every: Count = 4  # steps
    path_shrink: Count = 2  # takes path lengths of every second row (3: every third), to save memory
    path_decay: Share = 0.01  # weight of a batch in the mean path length
    mixing: Share = 0.9  # share of generated images with the styles of two latents
    w_decay: Share = 0.995  # of the mean style, per step
    augment: AnyAugmentation | None = None  # of all images that the discriminator sees

    optional_conditions: ClassVar[tuple[str, ...]] = ("truncation",)

    def __post_init__(self) -> None:
        resolutions(*self.image_shape[:2])
        for name in ("latent_dim", "r1_every", "path_every", "path_shrink"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        for name in ("mixing", "path_decay", "w_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be from 0 to 1")
        if self.augment is not None and self.image_shape[2] not in (1, 3):
            raise ValueError(f"augment is for images of 1 or 3 channels, but image_shape={self.image_shape}")
        if isinstance(self.augment, Adaptive) and self.augment.signed and not self.objective.signed:
            raise ValueError(
                f"augment={self.augment} follows the signs of logits, which tell nothing with objective="
                f"{self.objective}: take NonSaturating, Saturating or Hinge, or keep p constant by target=None"
            )

    @property
    def layers(self) -> int:
        """The number of styles of an image: 18 at 1024x1024."""
        return 2 * len(resolutions(*self.image_shape[:2]))

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises both networks.

        Raises ValueError where the images have another shape, or labels are needed and missing.
        """
        check_images(self, batch)
        check_labels(self, batch)
        generator_key, discriminator_key = jax.random.split(key)
        z, image = jnp.zeros((1, self.latent_dim)), jnp.zeros((1, *self.image_shape))
        labels = jnp.zeros((1, self.num_classes)) if self.num_classes else None
        averages = {"w": jnp.zeros(self.generator.style_dim), "path_length": jnp.zeros(())}
        return {
            "generator": {**self.generator.init(generator_key, z, labels, self.image_shape), "averages": averages},
            "discriminator": {
                **self.discriminator.init(discriminator_key, image, labels),
                **({"augment": self.augment.start()} if isinstance(self.augment, Adaptive) else {}),
            },
        }

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the phases of a step: the generator, then the discriminator, each followed by its lazy penalty."""
        path = Phase(("generator",), self.path_loss, "path", self.path_every)
        r1 = Phase(("discriminator",), self.r1_loss, "r1", self.r1_every)
        return (
            Phase(("generator",), self.generator_loss, "generator"),
            *((path,) if self.path_weight > 0 else ()),
            Phase(("discriminator",), self.discriminator_loss, "discriminator"),
            *((r1,) if self.r1_weight > 0 else ()),
        )

    # --- losses ------------------------------------------------------------------------------------------------------

    def generator_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """Returns the objective's loss for logits of generated images, and updates the mean style."""
        latent_keys, noise_keys, augment_keys, real_keys = streams(inputs.keys, 4)
        labels = self._labels(inputs.batch)
        w, first = self._training_styles(nets, latent_keys, labels)
        fake = self.synthesise(nets, w, noise_keys)
        logits = self._discriminate(nets, fake, labels, augment_keys)
        real_logits = None
        if self.objective.pairs:
            real_logits = self._discriminate(nets, inputs.batch["image"], labels, real_keys)
        loss = self.objective.generator(logits, real_logits)
        averages = nets["generator"]["averages"]
        mean = follow(averages["w"], first, self.w_decay)
        metrics = {"fake_logit": jnp.mean(logits)}
        return loss, Aux(metrics, {"generator": {"averages": {**averages, "w": mean}}}, fake)

    def path_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """E[(|J_w^T y| - a)^2], where a is the moving mean of these lengths, this batch's included   (Eq. 4)

        As in the authors' code, the gradient also goes through the batch's share of a.
        """
        latent_keys, noise_keys, pixel_keys = streams(inputs.keys[:: self.path_shrink], 3)
        w, _ = self._training_styles(nets, latent_keys, self._labels(inputs.batch, self.path_shrink))
        y = normal_rows(pixel_keys, self.image_shape)
        lengths = path_lengths(lambda w: self.synthesise(nets, w, noise_keys), w, y)
        averages = nets["generator"]["averages"]
        a = averages["path_length"] + self.path_decay * (jnp.mean(lengths) - averages["path_length"])
        penalty = jnp.mean((lengths - a) ** 2)
        metrics = {"penalty": penalty, "path_length": jnp.mean(lengths), "mean_path_length": a}
        loss = self.path_every * self.path_weight * penalty
        return loss, Aux(metrics, {"generator": {"averages": {**averages, "path_length": a}}})

    def discriminator_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """Returns the objective's loss for real and generated images; `augment` adapts to the real logits."""
        latent_keys, noise_keys, real_keys, fake_keys = streams(inputs.keys, 4)
        labels = self._labels(inputs.batch)
        w, _ = self._training_styles(nets, latent_keys, labels)
        fake_logits = self._discriminate(nets, self.synthesise(nets, w, noise_keys), labels, fake_keys)
        real_logits = self._discriminate(nets, inputs.batch["image"], labels, real_keys)
        loss = self.objective.discriminator(real_logits, fake_logits)
        metrics = logit_metrics(self.objective, real_logits, fake_logits)
        if not isinstance(self.augment, Adaptive):
            return loss, Aux(metrics)
        state = self.augment.follow(nets["discriminator"]["augment"], real_logits, inputs.step)
        return loss, Aux({**metrics, "augment_p": state["p"]}, {"discriminator": {"augment": state}})

    def r1_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """gamma / 2 E[|grad D(x)|^2] at real images (Mescheder et al. 2018, arXiv 1801.04406, Eq. 9)."""
        labels = self._labels(inputs.batch)
        penalty = zero_centred_penalty(
            lambda image: self._discriminate(nets, image, labels, inputs.keys), inputs.batch["image"]
        )
        return self.r1_every * self.r1_weight / 2 * penalty, Aux({"penalty": penalty})

    # --- images ------------------------------------------------------------------------------------------------------

    def check_conditions(self, conditions: Batch) -> None:
        """Raises ValueError where a truncation is outside [0, 1], or not a number."""
        check_truncation(conditions)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1], each with its own noise.

        `conditions` hold "label" where there are classes, and may hold "truncation", psi of `styles` (default 1).
        """
        latent_key, noise_key = jax.random.split(key)
        z = jax.random.normal(latent_key, (n, self.latent_dim))
        w = self.styles(nets, z, conditions.get("label"), conditions.get("truncation", 1.0))
        return jnp.clip(self.synthesise(nets, w, jax.random.split(noise_key, n)), -1, 1)

    def generate(self, nets: Nets, z: Float[Array, "b z"], conditions: Batch) -> Image:
        """Makes the images of latents, as `sample` does, but with the constant noise."""
        w = self.styles(nets, z, conditions.get("label"), conditions.get("truncation", 1.0))
        return jnp.clip(self.synthesise(nets, w), -1, 1)

    def styles(
        self,
        nets: Nets,
        z: Float[Array, "b z"],
        label: Int[Array, " b"] | None = None,
        truncation: float | Float[Array, " n"] = 1.0,
    ) -> Styles:
        """Maps latents to styles, drawn towards the mean: w' = mean + psi (w - mean) (arXiv 1812.04948, appendix B).

        `truncation` is psi, one for all rows or one a row: 1 changes nothing, 0 gives the mean.
        """
        labels = self._labels({} if label is None else {"label": label})
        w = truncate(self._map(nets, z, labels), nets["generator"]["averages"]["w"], truncation)
        return jnp.repeat(w[:, None], self.layers, axis=1)

    def synthesise(self, nets: Nets, w: Styles, keys: PRNGKeys | None = None) -> Float[Array, "b h w c"]:
        """Makes images of styles, not clipped. Noise comes from the rows' `keys`; for None it is the constant one."""
        return self.generator.apply(_weights(nets["generator"]), w, self.image_shape, keys, method="synthesise")

    def _map(self, nets: Nets, z: Float[Array, "b z"], labels: Labels | None) -> Float[Array, "b d"]:
        return self.generator.apply(_weights(nets["generator"]), z, labels, method="styles")

    def _training_styles(self, nets: Nets, keys: PRNGKeys, labels: Labels | None) -> tuple[Styles, Float[Array, "b d"]]:
        """Draws styles with mixing (arXiv 1812.04948, section 3.1); returns these, and the first latents' alone."""
        first_keys, second_keys, mix_keys = streams(keys, 3)

        def random_styles(keys: PRNGKeys) -> Float[Array, "b d"]:
            return self._map(nets, normal_rows(keys, (self.latent_dim,)), labels)

        first = random_styles(first_keys)
        if self.mixing == 0:
            return jnp.repeat(first[:, None], self.layers, axis=1), first
        return mix(first, random_styles(second_keys), mix_keys, self.mixing, self.layers), first

    def _discriminate(self, nets: Nets, image: Image, labels: Labels | None, keys: PRNGKeys) -> Float[Array, " b"]:
        if isinstance(self.augment, Adaptive):
            image = self.augment(image, keys, nets["discriminator"]["augment"]["p"])
        elif self.augment is not None:
            image = self.augment(image, keys)
        return self.discriminator.apply(_weights(nets["discriminator"]), image, labels)

    def _labels(self, batch: Batch, every: int = 1) -> Labels | None:
        return jax.nn.one_hot(batch["label"][::every], self.num_classes) if self.num_classes else None


def _weights(variables: Variables) -> Variables:
    """Returns the collections that the linen module reads."""
    return {name: variables[name] for name in ("params", "noise") if name in variables}
