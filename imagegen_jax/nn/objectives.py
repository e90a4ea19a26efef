"""Objectives of generators and discriminators: functions of logits [B], means over the batch, in float32.

A logit is the discriminator's output before any sigmoid, high for real images. Any GAN here takes any objective, by its
field `objective`. A generator's loss is given the logits of the real images too where `pairs` says that it reads them.
`signed` says that the best discriminator has 0 between real and fake, so that the logits' signs are judgements.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import NonNegative
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import Image, Scalar
from imagegen_jax.core.reporting.health import sign_statistics

Logits = Float[Array, " b"]
Critic = Callable[[Image], Logits]


@runtime_checkable
class Objective(Protocol):
    """An objective, as GANs use it."""

    @property
    def pairs(self) -> bool:
        """Tells whether the generator's loss reads the logits of real images."""
        ...

    @property
    def signed(self) -> bool:
        """Tells whether the logits' signs are judgements."""
        ...

    def discriminator(self, real: Logits, fake: Logits) -> Scalar:
        """Returns the loss of the network that judges."""
        ...

    def generator(self, fake: Logits, real: Logits | None = None) -> Scalar:
        """Returns the loss of the network that is judged."""
        ...


AnyObjective = Annotated[
    Objective,
    Choices(
        "imagegen_jax.nn.objectives:NonSaturating, Saturating, LeastSquares, Hinge, Wasserstein, RelativisticPairing",
    ),
]


@dataclasses.dataclass(frozen=True)
class NonSaturating:
    """D(x) = sigmoid(logit); the generator raises log D(G(z)) (Goodfellow et al. 2014, arXiv 1406.2661, section 3)."""

    pairs: ClassVar[bool] = False
    signed: ClassVar[bool] = True

    def discriminator(self, real: Logits, fake: Logits) -> Scalar:
        """-E[log D(x)] - E[log(1 - D(G(z)))]   (Eq. 1)"""
        return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))

    def generator(self, fake: Logits, real: Logits | None = None) -> Scalar:
        """-E[log D(G(z))]"""
        return jnp.mean(jax.nn.softplus(-fake))


@dataclasses.dataclass(frozen=True)
class Saturating(NonSaturating):
    """The minimax game itself; its generator learns little from a discriminator that is sure."""

    def generator(self, fake: Logits, real: Logits | None = None) -> Scalar:
        """E[log(1 - D(G(z)))]   (Goodfellow et al. 2014, Eq. 1)"""
        return -jnp.mean(jax.nn.softplus(fake))


@dataclasses.dataclass(frozen=True)
class LeastSquares:
    """LSGAN (Mao et al. 2017, arXiv 1611.04076): regression to targets, with the paper's 0-1 coding."""

    real_target: float = 1.0  # b, and c of the generator
    fake_target: float = 0.0  # a

    pairs: ClassVar[bool] = False
    signed: ClassVar[bool] = False

    def discriminator(self, real: Logits, fake: Logits) -> Scalar:
        """1/2 E[(D(x) - b)^2] + 1/2 E[(D(G(z)) - a)^2]   (Eq. 2)"""
        return 0.5 * jnp.mean((real - self.real_target) ** 2) + 0.5 * jnp.mean((fake - self.fake_target) ** 2)

    def generator(self, fake: Logits, real: Logits | None = None) -> Scalar:
        """1/2 E[(D(G(z)) - c)^2]   (Eq. 2)"""
        return 0.5 * jnp.mean((fake - self.real_target) ** 2)


@dataclasses.dataclass(frozen=True)
class Hinge:
    """The hinge loss of SNGAN and BigGAN (Lim & Ye 2017, arXiv 1705.02894; Miyato et al. 2018, arXiv 1802.05957)."""

    pairs: ClassVar[bool] = False
    signed: ClassVar[bool] = True

    def discriminator(self, real: Logits, fake: Logits) -> Scalar:
        """E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]   (Miyato et al., Eq. 16)"""
        return jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))

    def generator(self, fake: Logits, real: Logits | None = None) -> Scalar:
        """-E[D(G(z))]   (Miyato et al., Eq. 17)"""
        return -jnp.mean(fake)


@dataclasses.dataclass(frozen=True)
class Wasserstein:
    """The dual of the Wasserstein distance, for critics that are 1-Lipschitz (Arjovsky et al. 2017, 1701.07875)."""

    drift: NonNegative = 0.0  # weight of E[D(x)^2], which keeps logits near 0; ProGAN has 1e-3

    pairs: ClassVar[bool] = False
    signed: ClassVar[bool] = False

    def discriminator(self, real: Logits, fake: Logits) -> Scalar:
        """E[D(G(z))] - E[D(x)] + drift E[D(x)^2]   (Arjovsky et al., Eq. 3; Karras et al. 2018, 1710.10196, A.1)"""
        return jnp.mean(fake) - jnp.mean(real) + self.drift * jnp.mean(real**2)

    def generator(self, fake: Logits, real: Logits | None = None) -> Scalar:
        """-E[D(G(z))]"""
        return -jnp.mean(fake)


@dataclasses.dataclass(frozen=True)
class RelativisticPairing:
    """RpGAN: compares each generated image with the real one in its row (Jolicoeur-Martineau 2018, arXiv 1807.00734).

    Its f is log sigmoid, as in R3GAN (Huang et al. 2024, arXiv 2501.05441, Eq. 2).
    """

    pairs: ClassVar[bool] = True
    signed: ClassVar[bool] = False

    def discriminator(self, real: Logits, fake: Logits) -> Scalar:
        """-E[log sigmoid(D(x) - D(G(z)))]"""
        return jnp.mean(jax.nn.softplus(fake - real))

    def generator(self, fake: Logits, real: Logits | None = None) -> Scalar:
        """-E[log sigmoid(D(G(z)) - D(x))]. Raises ValueError without the logits of real images."""
        if real is None:
            raise ValueError("RelativisticPairing: the generator's loss needs the logits of the real images")
        return jnp.mean(jax.nn.softplus(real - fake))


def squared_gradient(critic: Critic, images: Image) -> Float[Array, " b"]:
    """|grad D(x)|^2 of each image, in the images' float32 whatever the critic computes in."""
    grads = jax.grad(lambda x: jnp.sum(critic(x)))(images)
    return jnp.sum(jnp.square(grads), axis=(1, 2, 3))


def logit_metrics(objective: Objective, real: Logits, fake: Logits) -> dict[str, Scalar]:
    """Returns the means of both logits and, where their signs are judgements, of the signs (`reporting.health`)."""
    means = {"real_logit": jnp.mean(real), "fake_logit": jnp.mean(fake)}
    return means | (sign_statistics(real, fake) if objective.signed else {})
