"""Solvers that evaluate both ends of a step: Heun's with churn (EDM) and restarts."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Int

from imagegen_jax import moved
from imagegen_jax.core.config.bounds import Count, NonNegative, Positive
from imagegen_jax.core.model import PRNGKey
from imagegen_jax.diffusion.process.denoiser import Denoise
from imagegen_jax.diffusion.process.process import EDM, AnyProcess, Process, at
from imagegen_jax.diffusion.sampling.levels import karras
from imagegen_jax.diffusion.sampling.solver import (
    Levels,
    Samples,
    check_levels,
    check_noise_scale,
    noise,
    scan,
    velocity,
)

__getattr__ = moved.attributes(__name__)


@dataclasses.dataclass(frozen=True)
class Heun:
    """The sampler of EDM (Karras et al. 2022, arXiv 2206.00364, Algorithm 2): second order, 2 S - 1 evaluations.

    `churn` above 0 adds noise before each step whose level is in [`churn_min`, `churn_max`]; 0 is deterministic. `path`
    is the process whose flow the slopes belong to: `EDM`, where levels are times, is Algorithm 1 with the paper's
    choices; with `RectifiedFlow` these are Heun's steps in its t, which suit levels that begin far above the data.
    Raises ValueError for fields out of range.
    """

    churn: NonNegative = 0.0  # S_churn
    churn_min: NonNegative = 0.0  # S_tmin
    churn_max: NonNegative = math.inf  # S_tmax
    noise_scale: NonNegative = 1.0  # S_noise
    path: AnyProcess = EDM()

    def __post_init__(self) -> None:
        check_noise_scale(self.noise_scale)
        if not (self.churn >= 0 and 0 <= self.churn_min <= self.churn_max):
            raise ValueError(
                f"solver.churn={self.churn}, solver.churn_min={self.churn_min}, solver.churn_max={self.churn_max}: "
                "must obey 0 <= churn and 0 <= churn_min <= churn_max"
            )

    def __call__(self, denoise: Denoise, sigmas: Levels, x: Samples, key: PRNGKey) -> Samples:
        """Solves along the levels; see `solver`. The key is not used where `churn` is 0."""
        now, then = (sigmas := check_levels(self, sigmas))[:-1], sigmas[1:]
        gamma = np.where((self.churn_min <= now) & (now <= self.churn_max), self.churn / len(now), 0.0)
        higher = now * (1 + np.minimum(gamma, math.sqrt(2) - 1))
        added = self.noise_scale * np.sqrt(higher**2 - now**2)
        return heun_walk(np.column_stack([added, higher, then]), self.path, denoise, x, key)


@dataclasses.dataclass(frozen=True)
class RestartInterval:
    """An interval to repeat: from `sigma_min` back up to `sigma_max`, `repeats` times, each time down in `steps`."""

    sigma_min: Positive
    sigma_max: Positive
    repeats: Count = 2  # K
    steps: Count = 4

    def __post_init__(self) -> None:
        if not (0 < self.sigma_min < self.sigma_max < math.inf and self.repeats >= 1 and self.steps >= 1):
            raise ValueError(
                f"interval {self}: must have 0 < sigma_min < sigma_max, and at least 1 of repeats and of steps"
            )


@dataclasses.dataclass(frozen=True)
class Restart:
    """Heun's steps that go back up by noise and down again in intervals (Xu et al. 2023, arXiv 2306.14878, Eq. 3).

    As in its Algorithm 2, noise is added at the level nearest to an interval's `sigma_min`, and Karras's levels lead
    down again. Raises ValueError where the level nearest to an interval's lower end is not below its upper end.
    """

    intervals: tuple[RestartInterval, ...] = (RestartInterval(0.06, 0.30),)
    noise_scale: NonNegative = 1.0

    def __post_init__(self) -> None:
        check_noise_scale(self.noise_scale)

    def __call__(self, denoise: Denoise, sigmas: Levels, x: Samples, key: PRNGKey) -> Samples:
        """Solves along the levels; see `solver`."""
        return heun_walk(self.rows(sigmas), EDM(), denoise, x, key)

    def rows(self, sigmas: Levels) -> Float64[np.ndarray, "S 3"]:
        """Tables the steps: the deviation of the noise before each, the level that it leads to, and the level after."""
        sigmas = check_levels(self, sigmas)
        after: dict[int, list[np.ndarray]] = {}
        for interval in self.intervals:
            positive = sigmas[1:][sigmas[1:] > 0]
            i = int(np.argmin(np.abs(np.log(np.append(positive, np.inf) / interval.sigma_min))))
            if not (len(positive) and positive[i] < interval.sigma_max):
                raise ValueError(
                    f"Restart: {interval} has no noise level near {interval.sigma_min} to start from, among {sigmas}: "
                    "raise the steps, or move the interval"
                )
            down = karras(interval.steps + 1, float(positive[i]), interval.sigma_max)
            added = np.zeros(interval.steps)
            added[0] = self.noise_scale * math.sqrt(interval.sigma_max**2 - positive[i] ** 2)
            after.setdefault(i, []).extend([np.column_stack([added, down[:-1], down[1:]])] * interval.repeats)
        rows = np.column_stack([np.zeros(len(sigmas) - 1), sigmas[:-1], sigmas[1:]])
        return np.concatenate([part for i, row in enumerate(rows) for part in (row[None], *after.get(i, ()))])


def heun_walk(rows: Float64[np.ndarray, "S 3"], path: Process, denoise: Denoise, x: Samples, key: PRNGKey) -> Samples:
    """Walks by EDM's Algorithm 2 along rows (added noise, sigma_hat, sigma'), with slopes of `path`.

    A step to 0 returns the estimate.
    """
    ends, noisy = bool(rows[-1, 2] == 0), bool(rows[:, 0].any())
    steps = rows[: len(rows) - ends]
    t, t_next = (np.asarray(path.time(level), np.float64) for level in steps.T[1:])
    sides = [np.column_stack(at(path, side)) for side in (t, t_next)]
    table = np.column_stack([steps, t_next - t, *sides])

    def slope(x: Samples, sigma: Array, side: Array) -> Samples:
        _, _, alpha_rate, sigma_rate = side
        return velocity(denoise, x, jnp.full(x.shape[:1], sigma), alpha_rate, sigma_rate)

    def step(x: Samples, i: Int[Array, ""], row: Float[Array, " 12"]) -> Samples:
        added, sigma_hat, sigma_next, dt, here, there = *row[:4], row[4:8], row[8:]
        if noisy:
            x = x + added * noise(key, i, x)
        d = slope(x, sigma_hat, here)
        d_next = slope((here[0] * x + dt * d) / there[0], sigma_next, there)
        return (here[0] * x + dt * (d + d_next) / 2) / there[0]

    x = scan(step, x, table, x.dtype)
    if not ends:
        return x
    added, sigma_hat, _ = rows[-1]
    x = x + added * noise(key, jnp.asarray(len(steps)), x) if added else x
    return denoise(x, jnp.full(x.shape[:1], sigma_hat, x.dtype))
