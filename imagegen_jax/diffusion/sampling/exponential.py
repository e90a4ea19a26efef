"""Exponential integrators of the flow and of the diffusion in lambda = -log(sigma): DPM-Solver++ and UniPC.

Both solve x(lambda') = sigma'/sigma x + sigma' int e^lambda D dlambda (Lu et al. 2022, arXiv 2211.01095, Proposition
4.1). In place of D they take a polynomial that goes through the newest estimates at their `places` in a step.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Int

from imagegen_jax.core.config.bounds import Count, NonNegative
from imagegen_jax.core.model import PRNGKey, check_choice
from imagegen_jax.diffusion.process.denoiser import Denoise
from imagegen_jax.diffusion.sampling.multistep import check_order
from imagegen_jax.diffusion.sampling.solver import (
    Levels,
    Samples,
    Table,
    check_levels,
    check_noise_scale,
    log_steps,
    moments,
    padded,
    places,
    scan,
    walk,
    weights,
)


@dataclasses.dataclass(frozen=True)
class DPMSolver:
    """DPM-Solver++ in multistep form: 2M and 3M (Lu et al. 2022, arXiv 2211.01095, Algorithm 2), and their SDEs.

    `order` 1 is DDIM's. `eta` above 0 adds noise: 1 is SDE-DPM-Solver++ (the paper's section 5), and between it is as
    in k-diffusion. The first steps are of lower order, and the step to 0 returns the estimate. `second` says how a
    difference of two estimates is weighted: "exact", by the integral of the line through them, or "midpoint", the
    paper's 2M, by half the step's whole weight. `halve_third` gives the third difference half its weight, as the
    authors' code, `diffusers` and k-diffusion do: they take a divided difference for a second derivative. Their 3M then
    converges with second order only, as every 3M with noise does in distribution. Raises ValueError for an `order`
    other than 1, 2 or 3, for `eta` below 0, and for fewer steps than `order`.
    """

    order: Count = 2
    eta: NonNegative = 0.0
    second: Literal["midpoint", "exact"] = "midpoint"
    halve_third: bool = False
    noise_scale: NonNegative = 1.0

    def __post_init__(self) -> None:
        check_order(self.order, 3)
        check_choice("solver.second", self.second, ("midpoint", "exact"))
        check_noise_scale(self.noise_scale)
        if not 0 <= self.eta < np.inf:
            raise ValueError(f"solver.eta={self.eta}: must be 0 (the flow) or above; 1 is the diffusion in reverse")

    def __call__(self, denoise: Denoise, sigmas: Levels, x: Samples, key: PRNGKey) -> Samples:
        """Solves along the levels; see `solver`. The key is not used where `eta` is 0."""
        return walk(self.table(sigmas), denoise, x, key)

    def table(self, sigmas: Levels) -> Table:
        """Tables the steps by Eq. 18 and its like of other orders; with noise, h in the integral is (1 + eta) h."""
        sigmas = check_levels(self, sigmas, self.order)
        now, then = sigmas[:-1], sigmas[1:]
        h = log_steps(sigmas)
        rows = []
        for i in range(len(h)):
            nodes = places(sigmas, i, self.order)
            m = moments((1 + self.eta) * h[i], len(nodes))
            if len(m) == 2 and self.second == "midpoint":
                m[1] = m[0] / 2
            if len(m) == 3 and self.halve_third:
                m[2] = m[2] / 2
            rows.append(weights(nodes, m))
        decay = np.exp(-self.eta * np.where(then > 0, h, 0.0))
        return Table(now, then / now * decay, padded(rows, self.order), self.noise_scale * then * np.sqrt(1 - decay**2))


@dataclasses.dataclass(frozen=True)
class UniPC:
    """Unified predictor-corrector (Zhao et al. 2023, arXiv 2302.04867, Algorithms 1, 2) on estimates of x_0.

    Each estimate corrects the step that led to it before it is used for the next, so `order` p converges with p + 1
    for one evaluation a step. `variant` is B(h) of the paper's Eq. 3: h ("bh1") or e^h - 1 ("bh2"). It matters only
    where there are no more than two estimates: for the first corrector, for correctors of order 1 and for predictors of
    order 2; elsewhere it cancels. The step to 0 returns the estimate. Raises ValueError unless 1 <= `order` <= 3, and
    for fewer steps than that.
    """

    order: Count = 3
    variant: Literal["bh1", "bh2"] = "bh2"

    def __post_init__(self) -> None:
        check_order(self.order, 3)
        check_choice("solver.variant", self.variant, ("bh1", "bh2"))

    def __call__(self, denoise: Denoise, sigmas: Levels, x: Samples, key: PRNGKey) -> Samples:
        """Solves along the levels; see `solver`. The key is not used."""

        def step(carry: tuple, i: Int[Array, ""], row: Float[Array, " n"]) -> tuple:
            predicted, corrected, past = carry
            past = (denoise(predicted, jnp.full(predicted.shape[:1], row[0])), *past)
            keep, of_corrected, of_x, *of_estimates = row[1:]
            correct, predict = (
                sum(weight * one for weight, one in zip(half, past, strict=True))
                for half in (of_estimates[: len(past)], of_estimates[len(past) :])
            )
            corrected = keep * predicted + of_corrected * corrected + correct
            return of_x * corrected + predict, corrected, past[:-1]

        past = (jnp.zeros_like(x),) * self.order
        return scan(step, (x, x, past), self.rows(sigmas), x.dtype)[0]

    def rows(self, sigmas: Levels) -> Float64[np.ndarray, "S n"]:
        """Tables the steps: sigma, and the weights of two sums.

        First come the weights of the predicted x and of the corrected x before it in the corrected x; then that of the
        corrected x in the next predicted x; then those of the estimates in the corrected and in the predicted x.
        """
        sigmas = check_levels(self, sigmas, self.order)
        h = log_steps(sigmas)
        rows = []
        for i, sigma in enumerate(sigmas[:-1]):
            correct = (
                self._weights(h[i - 1], np.insert(places(sigmas, i - 1, self.order), 0, 1.0)) if i else np.zeros(1)
            )
            predict = self._weights(h[i], places(sigmas, i, self.order))
            ratios = (0.0, sigma / sigmas[i - 1]) if i else (1.0, 0.0)
            both = padded([correct, predict], self.order + 1)
            rows.append(np.concatenate([[sigma, *ratios, sigmas[i + 1] / sigma], *both]))
        return np.stack(rows)

    def _weights(self, h: float, nodes: Float64[np.ndarray, " k"]) -> Float64[np.ndarray, " k"]:
        """Returns the weights of estimates at `nodes` of a step of length h.

        Where there are two of them, rho = 1/2 of B(h), the limit for small h, as in the paper's code (appendix F).
        """
        m = moments(h, len(nodes))
        if len(m) == 2:
            m[1] = (m[0] if self.variant == "bh2" else h) / 2
        return weights(nodes, m)
