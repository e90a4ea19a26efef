"""Solvers: they lead from noise to data by the estimates of a denoiser, at given noise levels, and see nothing else.

A solver is a frozen dataclass, called as `solver(denoise, sigmas, x, key)`. `denoise(x, sigma)` is a
`denoiser.Denoise`; `sigmas` [S + 1] are decreasing levels, float64 in NumPy (`levels`), and the last may be 0; `x` of
any shape [B ...] is noise of deviation `sigmas[0]`, or an image with such noise; the result is at `sigmas[-1]`. Each
raises ValueError for levels that it cannot go along. A call may be compiled whole, and not again for another key.

Most solvers are linear in x, in estimates and in noise, with numbers that follow from the levels alone. Such a solver
is a table with a row for each step, made in float64 before anything is compiled; all share one loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Int

from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import PRNGKey
from imagegen_jax.diffusion.process.denoiser import Denoise
from imagegen_jax.diffusion.process.prediction import broadcast_rows

GAUSS = np.polynomial.legendre.leggauss(40)  # on [-1, 1], more than enough for exponentials over any step
Levels = Float64[np.ndarray, " S+1"]
Samples = Float[Array, "b ..."]


class Solver(Protocol):
    """What a model asks of a solver."""

    def __call__(self, denoise: Denoise, sigmas: Levels, x: Samples, key: PRNGKey) -> Samples:
        """Leads x along the levels, from noise to data."""
        ...


AnySolver = Annotated[
    Solver,
    Choices(
        "imagegen_jax.diffusion.sampling.multistep:Euler, LMS, DEIS, PNDM",
        "imagegen_jax.diffusion.sampling.heun:Heun, Restart",
        "imagegen_jax.diffusion.sampling.ancestral:EulerAncestral, DDPMAncestral, ConsistencyMultistep",
        "imagegen_jax.diffusion.sampling.exponential:DPMSolver, UniPC",
        "imagegen_jax.diffusion.sampling.ode:RK45",
    ),
]


class Path(NamedTuple):
    """A solver and the levels that it goes along; a model draws, and its images are edited, along its path."""

    solver: Solver
    sigmas: Levels

    def draw(self, denoise: Denoise, shape: tuple[int, ...], key: PRNGKey) -> Samples:
        """Draws samples of `shape` [B ...], from noise of deviation sqrt(1 + s^2) at the first level s.

        x_T ~ N(0, 1), over alpha, has this deviation in a process that preserves variance. Where the last level is
        above 0, samples are that process's x_t as they are.
        """
        noise_key, solver_key = jax.random.split(key)
        latent = jax.random.normal(noise_key, shape)
        start = latent * jnp.asarray((1 + self.sigmas[0] ** 2) ** 0.5, latent.dtype)
        return self.ended(self.solver(denoise, self.sigmas, start, solver_key))

    def ended(self, x: Samples) -> Samples:
        """Returns what the solver ends with, x_t over alpha at the last level, as x_t."""
        return x / jnp.asarray((1 + self.sigmas[-1] ** 2) ** 0.5, x.dtype) if self.sigmas[-1] else x


class Table(NamedTuple):
    """x <- of_x * x + sum_j of_estimates[j] * (the j-th newest estimate) + of_noise * noise, for each row."""

    sigma: Float64[np.ndarray, " S"]  # the level of the newest estimate, made of the x before the step
    of_x: Float64[np.ndarray, " S"]
    of_estimates: Float64[np.ndarray, "S K"]
    of_noise: Float64[np.ndarray, " S"]


def walk(table: Table, estimate: Denoise, x: Samples, key: PRNGKey) -> Samples:
    """Takes each row of `table` in turn; estimates of x_0, or of something else, come from `estimate(x, sigma)`."""
    rows = np.column_stack([table.sigma, table.of_x, table.of_noise, table.of_estimates])
    noisy = bool(table.of_noise.any())
    Carry = tuple[Samples, tuple[Samples, ...]]

    def step(carry: Carry, i: Int[Array, ""], row: Float[Array, " K+3"]) -> Carry:
        x, past = carry
        sigma, of_x, of_noise, *of_estimates = row
        past = (estimate(x, jnp.full(x.shape[:1], sigma)), *past)
        x = of_x * x + sum(weight * one for weight, one in zip(of_estimates, past, strict=True))
        return x + of_noise * noise(key, i, x) if noisy else x, past[:-1]

    history = (jnp.zeros_like(x),) * (table.of_estimates.shape[1] - 1)
    return scan(step, (x, history), rows, x.dtype)[0]


def scan(step: Any, carry: Any, rows: Float64[np.ndarray, "S n"], dtype: Any) -> Any:
    """Repeats carry <- step(carry, i, rows[i]) for every i, in one compiled loop; rows become `dtype`."""
    given = (jnp.arange(len(rows)), jnp.asarray(rows, dtype))
    return jax.lax.scan(lambda carry, i_row: (step(carry, *i_row), None), carry, given)[0]


def noise(key: PRNGKey, i: Int[Array, ""], x: Samples) -> Samples:
    """Draws the standard normal noise of the i-th step, like x; every solver's noise comes from here."""
    return jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)


def noise_estimate(denoise: Denoise) -> Denoise:
    """Returns the estimate of epsilon, (x, sigma) -> (x - D(x; sigma)) / sigma.

    It is the slope dx/dsigma of the flow, too (EDM, Algorithm 1).
    """

    def estimate(x: Samples, sigma: Float[Array, " b"]) -> Samples:
        return (x - denoise(x, sigma)) / broadcast_rows(sigma, x)

    return estimate


def velocity(denoise: Denoise, x: Samples, sigma: Float[Array, " b"], alpha_rate: Any, sigma_rate: Any) -> Samples:
    """Returns alpha' x_0 + sigma' epsilon, the slope of alpha x along the flow of a process with these rates."""
    x_0 = denoise(x, sigma)
    return broadcast_rows(alpha_rate, x) * x_0 + broadcast_rows(sigma_rate, x) * (x - x_0) / broadcast_rows(sigma, x)


def check_noise_scale(noise_scale: float) -> None:
    """Raises ValueError for a factor of the noise below 0."""
    if not 0 <= noise_scale < math.inf:
        raise ValueError(f"solver.noise_scale={noise_scale}: must be 0 or above; 1 is the noise of the paper")


def check_levels(solver: Any, sigmas: Levels, least_steps: int = 1) -> Levels:
    """Returns `sigmas` as float64. Raises ValueError where they do not fall to 0 or more, or are fewer than needed."""
    sigmas = np.asarray(sigmas, np.float64)
    name = solver if isinstance(solver, str) else type(solver).__name__
    if sigmas.ndim != 1 or len(sigmas) < least_steps + 1:
        raise ValueError(
            f"{name} needs at least {least_steps} steps, that is {least_steps + 1} noise levels in a row, but sigmas "
            f"has the shape {sigmas.shape}: raise the steps of the levels"
        )
    if len(sigmas) > 1 and np.all(np.diff(sigmas) > 0):
        raise ValueError(f"{name}: sigmas grow from {sigmas[0]:g} to {sigmas[-1]:g}: reverse them, the noisiest first")
    if not (np.isfinite(sigmas).all() and np.all(np.diff(sigmas) < 0) and sigmas[-1] >= 0):
        raise ValueError(f"{name}: sigmas must be finite and fall from each to the next, to 0 or more, not {sigmas}")
    return sigmas


def weights(nodes: Float64[np.ndarray, " K"], moments: Float64[np.ndarray, " K"]) -> Float64[np.ndarray, " K"]:
    """Returns w such that sum_j w_j p(nodes_j) is the integral of p, for all polynomials p of degree below K.

    `moments` are the integrals of s^0, s^1, ..., with any weight function. Multistep methods get their coefficients
    from here.
    """
    return np.linalg.solve(np.vander(nodes, increasing=True).T, moments)


def log_steps(sigmas: Levels) -> Float64[np.ndarray, " S"]:
    """Returns lambda' - lambda of each step, infinite where it ends at 0."""
    with np.errstate(divide="ignore"):
        return np.log(sigmas[:-1]) - np.log(sigmas[1:])


def places(sigmas: Levels, i: int, order: int) -> Float64[np.ndarray, " k"]:
    """Returns the places of the estimates that the i-th step uses, the newest first: 0, and up to `order` - 1 below 0.

    A place is s = (lambda - lambda_i) / h in lambda = -log(sigma), so that the step of length h ends at 1.
    """
    known = np.log(sigmas[i::-1][: order if sigmas[i + 1] > 0 else 1])
    return (known[0] - known) / np.log(sigmas[i] / sigmas[i + 1]) if len(known) > 1 else np.zeros(1)


def moments(h: float, count: int) -> Float64[np.ndarray, " k"]:
    """Returns the moments h int_0^1 e^{-(1-s) h} s^k ds, that is h k! phi_{k+1}(-h), for k from 0 to `count` - 1."""
    if np.isinf(h):
        return np.ones(count)
    points, share = (GAUSS[0] + 1) / 2, GAUSS[1] / 2
    return np.array([h * share @ (np.exp((points - 1) * h) * points**k) for k in range(count)])


def padded(rows: Sequence[Float64[np.ndarray, " k"]], width: int) -> Float64[np.ndarray, "S K"]:
    """Stacks rows of different lengths to one table, filled up with zeros."""
    return np.stack([np.pad(row, (0, width - len(row))) for row in rows])
