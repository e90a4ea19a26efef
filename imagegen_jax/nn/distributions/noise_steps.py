"""Noise in discrete time: how much of an image is left after each of T steps of noise, and the way back step by step.

Times are counted from 0 as in DDPM's code: `t` here is the paper's t - 1, and the image itself comes before time 0.
Steps with learned variances are those of improved DDPM (Nichol & Dhariwal 2021, arXiv 2102.09672, section 3.1).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float64, Int

from imagegen_jax.core.arrays.bits_per_dim import log_prob_of_level
from imagegen_jax.core.config.bounds import Count, NonNegative, Positive, Share
from imagegen_jax.core.config.choices import Choices


class Schedule(Protocol):
    """What samplers and losses ask of a schedule."""

    @property
    def steps(self) -> int:
        """The number of times, T."""
        ...

    @property
    def alpha_bar(self) -> Float64[np.ndarray, " T"]:
        """The share of the image's variance that is left at each time, decreasing, in (0, 1)."""
        ...


AnySchedule = Annotated[Schedule, Choices("imagegen_jax.nn.distributions.noise_steps:LinearSchedule, CosineSchedule")]


@dataclasses.dataclass(frozen=True)
class LinearSchedule:
    """Steps of noise whose variance beta, or a root of it, grows linearly (Ho et al. 2020, section 4).

    Raises ValueError unless there is a step, 0 < `start` <= `end` < 1 and `power` > 0.
    """

    steps: Count = 1000  # T
    start: NonNegative = 1e-4  # beta_1
    end: NonNegative = 0.02  # beta_T
    power: Positive = 1.0  # beta^(1 / power) is what grows linearly: 2 in latent diffusion's code, 2112.10752

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"schedule.steps={self.steps}: a diffusion needs at least 1 step of noise")
        if not 0 < self.start <= self.end < 1:
            raise ValueError(
                f"schedule.start={self.start}, schedule.end={self.end}: the variances of the steps must obey "
                "0 < start <= end < 1, as the default 0.0001 and 0.02 do"
            )
        if not 0 < self.power < math.inf:
            raise ValueError(f"schedule.power={self.power}: must be above 0; 1 is DDPM's, 2 latent diffusion's")

    @property
    def betas(self) -> Float64[np.ndarray, " T"]:
        """The variance of each step's noise."""
        root = 1 / self.power
        return np.linspace(self.start**root, self.end**root, self.steps, dtype=np.float64) ** self.power

    @property
    def alpha_bar(self) -> Float64[np.ndarray, " T"]:
        """The product of 1 - beta up to each time (below Eq. 4), in float64: float32 would lose its last digits."""
        return np.cumprod(1.0 - self.betas)


@dataclasses.dataclass(frozen=True)
class CosineSchedule:
    """alpha_bar falls like a squared cosine (Nichol & Dhariwal 2021, arXiv 2102.09672, Eq. 17), with beta capped.

    Raises ValueError unless there is a step, `offset` is 0 or above and 0 < `largest` < 1.
    """

    steps: Count = 1000  # T
    offset: NonNegative = 0.008  # s, which keeps the first steps from being too small
    largest: Share = 0.999  # beta's cap, which keeps a trace of the image at the end

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"schedule.steps={self.steps}: a diffusion needs at least 1 step of noise")
        if not (0 <= self.offset < math.inf and 0 < self.largest < 1):
            raise ValueError(
                f"schedule.offset={self.offset}, schedule.largest={self.largest}: the offset must be 0 or above and "
                "the largest variance of a step between 0 and 1, as the default 0.008 and 0.999 are"
            )

    @property
    def betas(self) -> Float64[np.ndarray, " T"]:
        """The variance of each step's noise, 1 - alpha_bar_t / alpha_bar_{t-1}, at most `largest`."""
        angle = math.pi / 2 * (np.linspace(0, 1, self.steps + 1) + self.offset) / (1 + self.offset)
        return np.minimum(1 - np.cos(angle[1:]) ** 2 / np.cos(angle[:-1]) ** 2, self.largest)

    @property
    def alpha_bar(self) -> Float64[np.ndarray, " T"]:
        """The product of 1 - beta up to each time."""
        return np.cumprod(1.0 - self.betas)


class Posterior(NamedTuple):
    """q(x_s | x_t, x_0) = N(of_x_0 * x_0 + of_x_t * x_t, variance)."""

    of_x_0: Float64[np.ndarray, "*s"]
    of_x_t: Float64[np.ndarray, "*s"]
    variance: Float64[np.ndarray, "*s"]


def posterior(alpha_bar: Float64[np.ndarray, "*s"], previous: Float64[np.ndarray, "*s"]) -> Posterior:
    """Returns the posterior q(x_s | x_t, x_0) of steps between any two times s < t (Eq. 6 and 7).

    `alpha_bar` is the schedule's at t, and `previous` its at s (1 where x_s is the image).
    """
    alpha = alpha_bar / previous
    beta = 1 - alpha
    return Posterior(
        of_x_0=np.sqrt(previous) * beta / (1 - alpha_bar),
        of_x_t=np.sqrt(alpha) * (1 - previous) / (1 - alpha_bar),
        variance=(1 - previous) / (1 - alpha_bar) * beta,
    )


class StepTable(NamedTuple):
    """The numbers of steps between chosen times, float32 [S], from the least noisy on."""

    t: Any
    signal: Any
    noise: Any
    of_x_0: Any
    of_x_t: Any
    log_least: Any  # of the posterior's variance, beta~
    log_most: Any  # of beta


def step_table(schedule: Schedule, t: Int[np.ndarray, " S"]) -> StepTable:
    """Tables the steps from each of the increasing times `t` to the one before; the first leads to the image."""
    alpha_bar = schedule.alpha_bar[t]
    previous = np.append(1.0, alpha_bar[:-1])
    q = posterior(alpha_bar, previous)
    # To the image itself the posterior has no variance: the next step's stands for it, as in the authors' code.
    least = np.append(q.variance[1:2] if len(t) > 1 else 1 - alpha_bar, q.variance[1:])
    columns = [np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar), q.of_x_0, q.of_x_t]
    columns += [np.log(least), np.log(1 - alpha_bar / previous)]
    return StepTable(jnp.asarray(t), *(jnp.asarray(column, jnp.float32) for column in columns))


def signal_and_noise(
    schedule: Schedule, t: Int[Array, " b"], ndim: int
) -> tuple[Float[Array, "b ..."], Float[Array, "b ..."]]:
    """Returns sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), the factors of x_0 and of epsilon in x_t (Eq. 4).

    Both have `ndim` axes.
    """
    alpha_bar = schedule.alpha_bar
    table = jnp.asarray(np.stack([np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)]), jnp.float32)
    signal, noise = table[:, t].reshape(2, -1, *(1,) * (ndim - 1))
    return signal, noise


# --- steps with learned variances ------------------------------------------------------------------------------------


class Step(NamedTuple):
    """p(x_s | x_t) or q(x_s | x_t, x_0): a normal distribution of each value."""

    mean: Float[Array, "b ..."]
    log_variance: Float[Array, "b ..."]


def rows_of(table: StepTable, i: Int[Array, ...], ndim: int) -> StepTable:
    """Returns the table's row at each of the numbers `i`, as columns that have `ndim` axes."""
    return StepTable(*(column[i].reshape(*i.shape, *(1,) * (ndim - i.ndim)) for column in table))


def x_0_of(row: StepTable, x_t: Float[Array, "b ..."], epsilon: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
    """Returns the estimate of x_0 that belongs to an estimate of the noise in x_t."""
    return (x_t - row.noise * epsilon) / row.signal


def backward(
    row: StepTable, x_t: Float[Array, "b ..."], x_0: Float[Array, "b ..."], between: Float[Array, "b ..."]
) -> Step:
    """Returns p(x_{t-1} | x_t): the mean by x_0, log variance v log beta + (1 - v) log beta~   (Eq. 9, 10 and 15)"""
    return Step(row.of_x_0 * x_0 + row.of_x_t * x_t, between * row.log_most + (1 - between) * row.log_least)


def bound_terms(
    row: StepTable, x_0: Float[Array, "b ..."], x_t: Float[Array, "b ..."], p: Step, first: Bool[Array, "b ..."]
) -> Float[Array, "b ..."]:
    """L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p) of each value in nats, or -log p(x_0 | x_1) where `first`   (Eq. 4 to 7)

    The latter treats x_0 as 8-bit values in [-1, 1].
    """
    q = Step(row.of_x_0 * x_0 + row.of_x_t * x_t, row.log_least)
    ratio = q.log_variance - p.log_variance
    divergence = 0.5 * (jnp.exp(ratio) - 1 - ratio + (q.mean - p.mean) ** 2 * jnp.exp(-p.log_variance))
    return jnp.where(first, -log_prob_of_level(x_0, *p), divergence)
