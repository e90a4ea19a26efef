"""Samplers: from noise to data through the estimates of a denoiser. They see a denoise function and a schedule alone.

A step of each of them is linear in the estimate, in where it stands and in fresh noise, so a sampler is a table with a
row of three coefficients for each step, made in float64 before anything is compiled, and all share one loop.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Int

from imagegen_jax.core.model import PRNGKey
from imagegen_jax.diffusion.denoiser import Prediction as Denoise
from imagegen_jax.diffusion.schedule import Schedule, posterior

Spacing = Literal["linear", "leading", "trailing", "quadratic"]


class Transitions(NamedTuple):
    """x <- of_x_0 * denoise(x, t) + of_x * x + sigma * noise, for each row, the noisiest time first."""

    t: Int[np.ndarray, " S"]
    of_x_0: Float64[np.ndarray, " S"]
    of_x: Float64[np.ndarray, " S"]
    sigma: Float64[np.ndarray, " S"]


@dataclasses.dataclass(frozen=True)
class Ancestral:
    """DDPM's sampler (Ho et al. 2020, Algorithm 2): draws x_{t-1} from the posterior as if the estimate were x_0.

    `steps` below the schedule's takes as many times, evenly spaced from end to end, and the variances that belong to
    them, as improved DDPM does (Nichol & Dhariwal 2021, section 4); None: all. `variance` is one of the two extremes of
    section 3.2: the step's beta ("large", DDPM's choice for CIFAR-10), or that of the posterior ("small").
    """

    steps: int | None = None
    variance: Literal["large", "small"] = "large"

    def __call__(
        self, denoise: Denoise, schedule: Schedule, x: Float[Array, "b ..."], key: PRNGKey
    ) -> Float[Array, "b ..."]:
        """x_T ~ N(0, 1) of any shape -> x_0. Raises ValueError where `steps` exceeds the schedule's."""
        return walk(self.transitions(schedule), denoise, x, key)

    def transitions(self, schedule: Schedule) -> Transitions:
        """Line 4 of Algorithm 2, written with x_0: the mean is Eq. 7's; the last step is without noise."""
        t, alpha_bar, previous = _times(schedule, self.steps, "linear")
        q = posterior(alpha_bar, previous)
        variance = q.variance if self.variance == "small" else np.where(previous < 1, 1 - alpha_bar / previous, 0)
        return Transitions(t, q.of_x_0, q.of_x_t, np.sqrt(variance))


@dataclasses.dataclass(frozen=True)
class DDIM:
    """Denoising diffusion implicit models (Song et al. 2020, arXiv 2010.02502): deterministic for `eta` 0.

    `eta` 1 is `Ancestral` with the small variance. `spacing` says which of the schedule's T times the `steps` are:
    "leading", every (T // steps)-th from 0 on, the paper's "linear"; "quadratic", squares of equal distances up to
    0.8 T, the paper's for CIFAR-10, dense where little noise is left (equal times are taken once); "linear", with both
    ends 0 and T - 1; "trailing", from T - 1 down, best for few steps, since it starts where x is noise alone
    (Lin et al. 2023, arXiv 2305.08891, Table 2). Raises ValueError unless 0 <= `eta` <= 1.
    """

    steps: int = 50
    eta: float = 0.0
    spacing: Spacing = "leading"

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"sampler.eta={self.eta} is not between 0 (deterministic) and 1 (DDPM's noise)")

    def __call__(
        self, denoise: Denoise, schedule: Schedule, x: Float[Array, "b ..."], key: PRNGKey
    ) -> Float[Array, "b ..."]:
        """x_T ~ N(0, 1) of any shape -> x_0. Raises ValueError where `steps` exceeds the schedule's."""
        return walk(self.transitions(schedule), denoise, x, key)

    def transitions(self, schedule: Schedule) -> Transitions:
        """Eq. 12 and 16, with epsilon = (x_t - sqrt(alpha_bar) x_0) / sqrt(1 - alpha_bar) from the estimate x_0."""
        t, alpha_bar, previous = _times(schedule, self.steps, self.spacing)
        variance = self.eta**2 * posterior(alpha_bar, previous).variance
        of_epsilon = np.sqrt(1 - previous - variance)
        of_x = of_epsilon / np.sqrt(1 - alpha_bar)
        return Transitions(t, np.sqrt(previous) - of_x * np.sqrt(alpha_bar), of_x, np.sqrt(variance))


def walk(transitions: Transitions, denoise: Denoise, x: Float[Array, "b ..."], key: PRNGKey) -> Float[Array, "b ..."]:
    """Takes each of `transitions` in turn; the noise of the i-th is drawn from `fold_in(key, i)`."""
    t, of_x_0, of_x, sigma = transitions
    table = jnp.asarray(np.stack([of_x_0, of_x, sigma], axis=1), x.dtype)
    noisy = bool(sigma.any())

    def step(x: Float[Array, "b ..."], row: tuple[Array, Array, Array]) -> tuple[Float[Array, "b ..."], None]:
        i, t, (of_x_0, of_x, sigma) = row
        x = of_x_0 * denoise(x, jnp.full(x.shape[:1], t)) + of_x * x
        if noisy:
            x = x + sigma * jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
        return x, None

    return jax.lax.scan(step, x, (jnp.arange(len(t)), jnp.asarray(t), table))[0]


def timesteps(total: int, steps: int | None, spacing: Spacing) -> Int[np.ndarray, " S"]:
    """`steps` (None: all) of the times 0 to `total` - 1, increasing; see `DDIM` for the spacings.

    Raises ValueError unless 1 <= `steps` <= `total`.
    """
    steps = total if steps is None else steps
    if not 1 <= steps <= total:
        raise ValueError(f"sampler.steps={steps} is not between 1 and the {total} steps of the schedule")
    if spacing == "linear":
        times = np.asarray(np.linspace(total - 1, 0, steps))
    elif spacing == "leading":
        times = np.arange(0.0, steps) * (total // steps)
    elif spacing == "trailing":
        times = np.round(total - np.arange(steps) * total / steps) - 1
    else:
        times = np.floor(np.linspace(0, np.sqrt(0.8 * total), steps) ** 2)
    return np.unique(np.round(times).astype(np.int32))


def _times(schedule: Schedule, steps: int | None, spacing: Spacing) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The times from the noisiest on, with alpha_bar at each and at the one after it (1 after the last)."""
    alpha_bar = schedule.alpha_bar
    t = timesteps(len(alpha_bar), steps, spacing)[::-1]
    return t, alpha_bar[t], np.append(alpha_bar[t[1:]], 1.0)
