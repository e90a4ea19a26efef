"""Deterministic solvers of dx/dsigma = epsilon, one evaluation a step: Euler, and those that remember estimates.

The flow in these coordinates is Eq. 1 of Karras et al. (2022, arXiv 2206.00364) with sigma(t) = t and s(t) = 1.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.model import PRNGKey
from imagegen_jax.diffusion.process.denoiser import Denoise
from imagegen_jax.diffusion.sampling.solver import (
    Levels,
    Samples,
    Table,
    check_levels,
    moments,
    noise_estimate,
    padded,
    places,
    walk,
    weights,
)

ADAMS_BASHFORTH = ((3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))  # orders 2 to 4


@dataclasses.dataclass(frozen=True)
class Euler:
    """x + (sigma' - sigma) epsilon: first order; DDIM with eta 0, and Euler's steps in t of a rectified flow."""

    def __call__(self, denoise: Denoise, sigmas: Levels, x: Samples, key: PRNGKey) -> Samples:
        """Solves along the levels; see `solver`. The key is not used."""
        return walk(self.table(sigmas), denoise, x, key)

    def table(self, sigmas: Levels) -> Table:
        """Tables the steps of EDM's Algorithm 1 without lines 6 to 8, written with the estimate of x_0."""
        sigmas = check_levels(self, sigmas)
        of_x = sigmas[1:] / sigmas[:-1]
        return Table(sigmas[:-1], of_x, (1 - of_x)[:, None], 0 * of_x)


@dataclasses.dataclass(frozen=True)
class LMS:
    """Linear multistep, Adams and Bashforth's for any levels: a polynomial in sigma through the newest estimates.

    It is k-diffusion's `sample_lms`, and rho-AB of DEIS (Zhang & Chen 2023, arXiv 2204.13902, Eq. 16, Table 2). The
    first steps are of lower order. Raises ValueError unless 1 <= `order` <= 4, and for fewer steps than that.
    """

    order: Count = 4

    def __post_init__(self) -> None:
        check_order(self.order, 4)

    def __call__(self, denoise: Denoise, sigmas: Levels, x: Samples, key: PRNGKey) -> Samples:
        """Solves along the levels; see `solver`. The key is not used."""
        return walk(self.table(sigmas), noise_estimate(denoise), x, key)

    def table(self, sigmas: Levels) -> Table:
        """Tables the steps, by moments of (sigma - sigma_i) / (sigma_{i+1} - sigma_i) over each."""
        sigmas = check_levels(self, sigmas, self.order)
        rows = []
        for i, step in enumerate(np.diff(sigmas)):
            known = sigmas[i::-1][: self.order]
            rows.append(weights((known - sigmas[i]) / step, step / np.arange(1, len(known) + 1)))
        return _of_noise(sigmas[:-1], rows, self.order)


@dataclasses.dataclass(frozen=True)
class DEIS:
    """Diffusion exponential integrator: a polynomial in log(sigma) through the newest estimates of epsilon.

    It is tAB-DEIS of Zhang & Chen (2023, arXiv 2204.13902, Eq. 15) with the logarithm for t, as in `diffusers`. The
    first steps, and the step to 0, are of lower order. Raises ValueError unless 1 <= `order` <= 4, and for fewer steps
    than that.
    """

    order: Count = 3

    def __post_init__(self) -> None:
        check_order(self.order, 4)

    def __call__(self, denoise: Denoise, sigmas: Levels, x: Samples, key: PRNGKey) -> Samples:
        """Solves along the levels; see `solver`. The key is not used."""
        return walk(self.table(sigmas), noise_estimate(denoise), x, key)

    def table(self, sigmas: Levels) -> Table:
        """Tables the steps by C_ij = int L_j dsigma, where L_j are Lagrange's polynomials in log(sigma)."""
        sigmas = check_levels(self, sigmas, self.order)
        rows = []
        for i, (now, then) in enumerate(itertools.pairwise(sigmas)):
            nodes = places(sigmas, i, self.order)
            integrals = then * moments(np.log(then / now), len(nodes)) if then > 0 else np.array([-now])
            rows.append(weights(nodes, integrals))
        return _of_noise(sigmas[:-1], rows, self.order)


@dataclasses.dataclass(frozen=True)
class PNDM:
    """Pseudo linear multistep of fourth order (Liu et al. 2022, arXiv 2202.09778, Eq. 12).

    The weights are those of equal steps, whatever the levels. It begins with one step of Heun's method, then two steps
    of lower order, as Stable Diffusion and `diffusers` with `skip_prk_steps` do, not with the paper's pseudo
    Runge-Kutta steps. It takes one evaluation a step, and one more. Raises ValueError for fewer than 4 steps.
    """

    def __call__(self, denoise: Denoise, sigmas: Levels, x: Samples, key: PRNGKey) -> Samples:
        """Solves along the levels; see `solver`. The key is not used."""
        return walk(self.table(sigmas), noise_estimate(denoise), x, key)

    def table(self, sigmas: Levels) -> Table:
        """Tables the steps: the second row turns the first into Heun's step, and later rows skip its estimate."""
        sigmas = check_levels(self, sigmas, 4)
        steps = np.diff(sigmas)
        rows = [np.array([steps[0]]), steps[0] * np.array([0.5, -0.5])]
        for i, step in enumerate(steps[1:], 1):
            row = np.array(ADAMS_BASHFORTH[min(i, 3) - 1])
            rows.append(step * (np.insert(row, i, 0.0) if i < 4 else row))
        return _of_noise(np.insert(sigmas[:-1], 1, sigmas[1]), rows, 5)


def check_order(order: int, most: int) -> None:
    """Raises ValueError for an order that a solver does not have."""
    if order not in range(1, most + 1):
        raise ValueError(f"solver.order={order} is not between 1 and {most}")


def _of_noise(sigma: Levels, rows: list[np.ndarray], width: int) -> Table:
    return Table(sigma, np.ones(len(rows)), padded(rows, width), np.zeros(len(rows)))
