"""Wasserstein GANs: the critic is kept 1-Lipschitz, and the generator is trained once in a few critic steps.

WGAN-GP (Gulrajani et al. 2017, arXiv 1704.00028) penalises the critic's gradient between real and generated images;
DRAGAN (Kodali et al. 2017, arXiv 1705.07215) does so around real ones, with the objective of the first GAN. WGAN
itself (Arjovsky et al. 2017, arXiv 1701.07875) clips the critic's weights, which the optimizer does:

    WGAN(penalty=None, ...), optim={"critic": RMSprop(5e-5, project=(ClipWeights(0.01),)), ...}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Annotated, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.random import normal_rows, streams
from imagegen_jax.core.config.bounds import Count, NonNegative, Shape
from imagegen_jax.core.config.choices import Choices
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
from imagegen_jax.gan.regularizers import Critic, dragan_penalty, gradient_penalty
from imagegen_jax.gan.resnet import ResNetCritic, ResNetGenerator
from imagegen_jax.nn.objectives import AnyObjective, Wasserstein, logit_metrics
from imagegen_jax.nn.strided import pyramid


class Penalty(Protocol):
    """A penalty that a WGAN adds to the loss of its critic."""

    def __call__(self, critic: Critic, real: Image, fake: Image, keys: PRNGKeys) -> Scalar:
        """Returns the penalty, its weight included."""
        ...


AnyPenalty = Annotated[Penalty, Choices("imagegen_jax.gan.wgan:GradientPenalty, DRAGAN")]


@dataclasses.dataclass(frozen=True)
class GradientPenalty:
    """lambda E[(|grad D(x_hat)| - target)^2] between real and generated images (Gulrajani et al., Eq. 3)."""

    weight: NonNegative = 10.0  # lambda
    target: NonNegative = 1.0  # norm of the gradient; 0 is the zero-centred penalty of Thanh-Tung et al. 2019

    def __call__(self, critic: Critic, real: Image, fake: Image, keys: PRNGKeys) -> Scalar:
        return self.weight * gradient_penalty(critic, real, fake, keys, self.target)


@dataclasses.dataclass(frozen=True)
class DRAGAN:
    """lambda E[(|grad D(x + delta)| - k)^2] around real images (Kodali et al., Eq. 5)."""

    weight: NonNegative = 10.0  # lambda
    target: NonNegative = 1.0  # k

    def __call__(self, critic: Critic, real: Image, fake: Image, keys: PRNGKeys) -> Scalar:
        return self.weight * dragan_penalty(critic, real, keys, self.target)


@dataclasses.dataclass(frozen=True)
class WGAN:
    """A critic and a generator, of residual blocks or of DCGAN's strided convolutions; the defaults are WGAN-GP's.

    Each training step updates the critic, and each `critic_steps`-th the generator too. Each phase keeps the
    running statistics of the network that it trains, where there are norms.
    """

    image_shape: Shape = (32, 32, 3)
    generator: AnyGenerator = ResNetGenerator()
    critic: AnyCritic = ResNetCritic()
    latent_dim: Count = 128
    objective: AnyObjective = Wasserstein()
    penalty: AnyPenalty | None = GradientPenalty()
    critic_steps: Count = 5  # n_critic of Algorithm 1
    generator_batches: Count = 1  # of latents, in a step of the generator; the authors' code for CIFAR-10 has 2

    def __post_init__(self) -> None:
        pyramid(*self.image_shape[:2])
        for name in ("latent_dim", "critic_steps", "generator_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises both networks. Raises ValueError where the images have another shape."""
        check_images(self, batch)
        generator_key, critic_key = jax.random.split(key)
        z, image = jnp.zeros((1, self.latent_dim)), jnp.zeros((1, *self.image_shape))
        return {
            "generator": self.generator.init(generator_key, z, self.image_shape, train=False),
            "critic": self.critic.init(critic_key, image, train=False),
        }

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the phases of a step: the critic each time, then the generator where it is due (Algorithm 1)."""
        return (
            Phase(("critic",), self.critic_loss, "critic"),
            Phase(("generator",), self.generator_loss, "generator", every=self.critic_steps),
        )

    def critic_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """E[D(G(z))] - E[D(x)] + lambda E[(|grad D(x_hat)| - 1)^2]   (Gulrajani et al., Eq. 3)

        With another objective, its loss takes the place of the first two terms. For a 1-Lipschitz critic, the
        difference of the mean logits estimates the Wasserstein distance from below.
        """
        latent_keys, penalty_keys = streams(inputs.keys, 2)
        real, (fake, _) = inputs.batch["image"], self._generate(nets["generator"], self._latents(latent_keys))
        real_logits, stats = self._judge(nets["critic"], real)
        fake_logits, stats = self._judge({**nets["critic"], **stats}, fake)
        loss = self.objective.discriminator(real_logits, fake_logits)
        metrics = logit_metrics(self.objective, real_logits, fake_logits)
        if self.penalty is not None:
            metrics["penalty"] = self.penalty(lambda x: self._judge(nets["critic"], x)[0], real, fake, penalty_keys)
            loss += metrics["penalty"]
        return loss, Aux(metrics, {"critic": stats})

    def generator_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """-E[D(G(z))]   (Algorithm 1), or another objective's."""
        keys = streams(inputs.keys, self.generator_batches).swapaxes(0, 1).reshape(-1)
        fake, stats = self._generate(nets["generator"], self._latents(keys))
        logits, _ = self._judge(nets["critic"], fake)
        real_logits = self._judge(nets["critic"], inputs.batch["image"])[0] if self.objective.pairs else None
        if real_logits is not None:
            real_logits = jnp.repeat(real_logits, self.generator_batches)
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

    def _judge(self, variables: Variables, image: Image) -> tuple[Float[Array, " b"], Variables]:
        return self.critic.apply(variables, image, train=True, mutable=["batch_stats"])
