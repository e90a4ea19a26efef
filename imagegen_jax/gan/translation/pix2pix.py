"""Pix2Pix (Isola et al. 2017, arXiv 1611.07004): a U-Net makes an image from another, judged patch by patch.

The layout is that of the authors' code: 4x4 kernels; batch norm, except after the first and the last layer on the way
down and the last on the way up; a bias on the last layer alone; weights from N(0, 0.02), norm scales from N(1, 0.02). x
is the source, y the image, and z the noise, which comes from dropout alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import BelowOne, Count, NonNegative, Shape
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
    check_condition_rows,
    check_images,
)
from imagegen_jax.nn.backbones.patch import PatchDiscriminator, weight_init
from imagegen_jax.nn.dropout import Dropout
from imagegen_jax.nn.norm import BatchNorm
from imagegen_jax.nn.objectives import AnyObjective, NonSaturating, logit_metrics
from imagegen_jax.nn.precision import Dtype
from imagegen_jax.nn.strided import Double, Halve

_NOISY = 3  # layers on the way up that have dropout


class Generator(nn.Module):
    """The paper's U-Net (appendix 6.1.1): down to a point by halves and back up, each layer joined with its mirror."""

    width: Count = 64  # channels of the first layer; they double with every halving, up to 8 times as many
    levels: Count = 8  # halvings: 8 bring 256 pixels to one, 6 bring 64 there
    dropout: BelowOne = 0.5  # of the first three layers on the way up
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], channels: int, keys: PRNGKeys | None, train: bool
    ) -> Float[Array, "b h w d"]:
        """Makes an image from another: [B H W C] in [-1, 1] -> [B H W channels] in [-1, 1].

        `keys` hold one key a row for dropout; None: no dropout.

        Raises ValueError where the image cannot be halved that often.
        """
        check_levels(x.shape[1], x.shape[2], self.levels)
        down, sizes = [], []
        for level in range(self.levels):
            sizes.append(x.shape[1:3])
            x = nn.leaky_relu(x, 0.2) if level > 0 else x
            x = Halve(self._features(level), use_bias=False, kernel_init=weight_init, dtype=self.dtype)(x)
            if 0 < level < self.levels - 1:
                x = BatchNorm(self.dtype)(x, train)
            down.append(x)
        x = down.pop()
        for level in range(self.levels - 1, 0, -1):
            up = Double(self._features(level - 1), use_bias=False, kernel_init=weight_init, dtype=self.dtype)
            x = BatchNorm(self.dtype)(up(nn.relu(x), sizes[level]), train)
            if self.levels - level <= _NOISY:
                x = Dropout(self.dropout)(x, keys)
            x = jnp.concatenate([down.pop(), x], axis=-1)
        x = Double(channels, kernel_init=weight_init, dtype=self.dtype)(nn.relu(x), sizes[0])
        return jnp.tanh(x.astype(jnp.float32))

    def _features(self, level: int) -> int:
        return self.width * min(2**level, 8)


def check_levels(height: int, width: int, levels: int) -> None:
    """Raises ValueError where images of this size cannot be halved `levels` times, or there are fewer than two."""
    most = (min(height, width) - 1).bit_length()
    if not 2 <= levels <= most:
        raise ValueError(
            f"generator.levels={levels}: images of {height}x{width} can be halved {most} times, and two levels are the "
            f"fewest: set it to {max(2, most)} to halve them down to a point"
        )


@dataclasses.dataclass(frozen=True)
class Pix2Pix:
    """Conditional GAN from images to images: an adversarial loss on pairs, plus the absolute difference.

    The discriminator sees the source and the image together. Each phase keeps the running statistics of the batch norms
    that it trains; samples, however, are normalised by their own statistics, image by image, as in the paper.
    """

    image_shape: Shape = (256, 256, 3)
    source_channels: Count = 3
    generator: Generator = Generator()
    discriminator: PatchDiscriminator = PatchDiscriminator()
    objective: AnyObjective = NonSaturating()
    l1_weight: NonNegative = 100.0  # lambda in Eq. 4
    discriminator_weight: NonNegative = 0.5  # of the discriminator's objective, which slows it down (section 3.3)
    sample_dropout: bool = True  # whether sampling has dropout too, the only noise
    sample_norm: Literal["image", "running"] = "image"  # whose statistics normalise samples; "running" for batches > 1

    @property
    def condition_rows(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the condition that images are made from: "source", with their height and width."""
        return {"source": jax.ShapeDtypeStruct((*self.image_shape[:2], self.source_channels), np.uint8)}

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises both networks from one row of the batch.

        Raises ValueError where images or sources have another shape, or a shape that the networks cannot have.
        """
        check_images(self, batch)
        check_condition_rows(self, batch)
        generator_key, discriminator_key = jax.random.split(key)
        x, y = (batch[name][:1] for name in ("source", "image"))
        return {
            "generator": self.generator.init(generator_key, x, self.image_shape[2], None, train=False),
            "discriminator": self.discriminator.init(discriminator_key, jnp.concatenate([x, y], axis=-1), train=False),
        }

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the phases of a step: the discriminator, then the generator (section 3.3)."""
        return (
            Phase(("discriminator",), self.discriminator_loss, "discriminator"),
            Phase(("generator",), self.generator_loss, "generator"),
        )

    def discriminator_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """-(E[log D(x, y)] + E[log(1 - D(x, G(x, z)))]) / 2   (Eq. 1), with the default objective and weight."""
        x, y = inputs.batch["source"], inputs.batch["image"]
        fake, _ = self._generate(nets["generator"], x, inputs.keys)
        real_logits, stats = self._discriminate(nets["discriminator"], x, y)
        fake_logits, stats = self._discriminate({**nets["discriminator"], **stats}, x, fake)
        loss = self.discriminator_weight * self.objective.discriminator(real_logits, fake_logits)
        metrics = logit_metrics(self.objective, real_logits, fake_logits)
        return loss, Aux(metrics, {"discriminator": stats})

    def generator_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """L_cGAN(G, D) + lambda E|y - G(x, z)|   (Eqs. 3 and 4), where G raises log D(x, G(x, z)) (section 3.3)."""
        x, y = inputs.batch["source"], inputs.batch["image"]
        fake, stats = self._generate(nets["generator"], x, inputs.keys)
        logits, _ = self._discriminate(nets["discriminator"], x, fake)
        real_logits = self._discriminate(nets["discriminator"], x, y)[0] if self.objective.pairs else None
        adversarial = self.objective.generator(logits, real_logits)
        l1 = jnp.mean(jnp.abs(y - fake))
        loss = adversarial + self.l1_weight * l1
        metrics = {"adversarial": adversarial, "l1": l1, "fake_logit": jnp.mean(logits)}
        return loss, Aux(metrics, {"generator": stats}, fake)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Makes images of the `n` sources `conditions["source"]` in [-1, 1]. Raises ValueError without them."""
        check_condition_rows(self, conditions)
        x, keys = conditions["source"], jax.random.split(key, n)
        if self.sample_norm == "running":
            given = keys if self.sample_dropout else None
            return self.generator.apply(nets["generator"], x, self.image_shape[2], given, train=False)

        def one(x: Float[Array, "h w c"], key: PRNGKey) -> Float[Array, "h w d"]:
            return self._generate(nets["generator"], x[None], key[None] if self.sample_dropout else None)[0][0]

        return jax.vmap(one)(x, keys)

    def _generate(
        self, variables: Variables, x: Float[Array, "b h w c"], keys: PRNGKeys | None
    ) -> tuple[Image, Variables]:
        return self.generator.apply(variables, x, self.image_shape[2], keys, train=True, mutable=["batch_stats"])

    def _discriminate(
        self, variables: Variables, x: Float[Array, "b h w c"], y: Image
    ) -> tuple[Float[Array, " p"], Variables]:
        """Returns the logits of all patches of all rows, and the new statistics."""
        joined = jnp.concatenate([x, y], axis=-1)
        logits, stats = self.discriminator.apply(variables, joined, train=True, mutable=["batch_stats"])
        return logits.ravel(), stats
