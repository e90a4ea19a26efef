"""Dormand & Prince's method of fifth order, which chooses its own steps, and a solver of the flow by it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from imagegen_jax.core.config.bounds import Count, NonNegative
from imagegen_jax.core.model import PRNGKey
from imagegen_jax.diffusion.process.denoiser import Denoise
from imagegen_jax.diffusion.process.prediction import broadcast_rows
from imagegen_jax.diffusion.process.process import EDM, AnyProcess, Process
from imagegen_jax.diffusion.sampling.solver import Levels, Samples, check_levels, velocity

State = tuple[Float[Array, "b ..."], ...]  # arrays whose first axis is the same rows
# Table 5.2 of Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I: places, stages, error of the result.
PLACES = (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1)
STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


class Tolerance(NamedTuple):
    """The allowed error of a step: 1 as root mean square over a row, in units of absolute + relative * |state|."""

    relative: float = 1e-5
    absolute: float = 1e-5
    most_steps: int = 1000  # of one call, refused ones included

    def check(self) -> None:
        """Raises ValueError where a tolerance or the number of steps is not positive."""
        if not (self.relative > 0 and self.absolute > 0 and self.most_steps >= 1):
            raise ValueError(f"{self}: relative and absolute must be above 0, and most_steps at least 1")


class _Carry(NamedTuple):
    t: Float[Array, " b"]
    step: Float[Array, " b"]
    state: State
    slope: State  # at t
    tried: Int[Array, ""]


def integrate(
    field: Callable[[Float[Array, " b"], State], State], t0: float, t1: float, state: State, tolerance: Tolerance
) -> tuple[State, Int[Array, ""]]:
    """Integrates dstate/dt = field(t, state) from t0 to t1, up or down; returns the state and the evaluations made.

    Each row has its own steps, and does not depend on the others. Rows that do not arrive within the tolerance's
    `most_steps` are NaN. Raises ValueError for tolerances that are not positive.
    """
    tolerance.check()
    dtype, rows = state[0].dtype, state[0].shape[:1]
    end = jnp.full(rows, t1, dtype)

    def attempt(carry: _Carry) -> _Carry:
        left = end - carry.t
        last = jnp.abs(carry.step) >= jnp.abs(left)
        h = jnp.where(last, left, carry.step)
        new, slope, error = _try(field, carry, h, tolerance)
        taken = (error <= 1) & (left != 0)
        factor = jnp.clip(0.9 * jnp.maximum(error, 1e-10) ** -0.2, 0.2, 10.0)
        return _Carry(
            t=jnp.where(taken, jnp.where(last, end, carry.t + h), carry.t),
            step=jnp.where(left != 0, h * factor, carry.step),
            state=_where(taken, new, carry.state),
            slope=_where(taken, slope, carry.slope),
            tried=carry.tried + 1,
        )

    def going(carry: _Carry) -> Bool[Array, ""]:
        return jnp.any(carry.t != end) & (carry.tried < tolerance.most_steps)

    t = jnp.full(rows, t0, dtype)
    first = _Carry(t, (end - t) / 100, state, field(t, state), jnp.array(0))
    done = jax.lax.while_loop(going, attempt, first)
    lost = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), done.state)
    return _where(done.t == end, done.state, lost), 1 + 6 * done.tried


def _try(
    field: Callable[..., State], carry: _Carry, h: Float[Array, " b"], tolerance: Tolerance
) -> tuple[State, State, Float[Array, " b"]]:
    """Tries a step of `h`: returns the state after it, the slope there, and the error in units of the tolerance."""
    slopes = [carry.slope]
    for place, stage in zip(PLACES[1:], STAGES[1:], strict=True):
        new = _moved(carry.state, h, stage, slopes)
        slopes.append(field(carry.t + place * h, new))  # the last of the stages is the result itself
    errors = _moved(jax.tree.map(jnp.zeros_like, carry.state), h, ERROR, slopes)
    squares, count = jnp.zeros_like(h), 0
    for error, old, now in zip(errors, carry.state, new, strict=True):
        scale = tolerance.absolute + tolerance.relative * jnp.maximum(jnp.abs(old), jnp.abs(now))
        squares += jnp.sum(jnp.square(error / scale).reshape(len(h), -1), axis=1)
        count += error[0].size
    error = jnp.sqrt(squares / count)
    return new, slopes[-1], jnp.where(jnp.isfinite(error), error, jnp.inf)


def _moved(state: State, h: Float[Array, " b"], shares: tuple[float, ...], slopes: list[State]) -> State:
    used = [(share, slope) for share, slope in zip(shares, slopes, strict=True) if share]
    return tuple(
        y + broadcast_rows(h, y) * sum(share * slope[leaf] for share, slope in used) for leaf, y in enumerate(state)
    )


def _where(rows: Bool[Array, " b"], yes: State, no: State) -> State:
    return tuple(jnp.where(broadcast_rows(rows, a), a, b) for a, b in zip(yes, no, strict=True))


@dataclasses.dataclass(frozen=True)
class RK45:
    """The flow by Dormand & Prince's method, which chooses its own steps (Song et al. 2021, 2011.13456, section D.4).

    Of the levels, only the first and the last above 0 matter; from there, a step to 0 returns the estimate. `path` is
    the process whose t it goes along: any that reaches both levels. Raises ValueError for tolerances that are not
    positive.
    """

    relative: NonNegative = 1e-5
    absolute: NonNegative = 1e-5
    most_steps: Count = 1000
    path: AnyProcess = EDM()

    def __post_init__(self) -> None:
        self._tolerance.check()

    @property
    def _tolerance(self) -> Tolerance:
        return Tolerance(self.relative, self.absolute, self.most_steps)

    def __call__(self, denoise: Denoise, sigmas: Levels, x: Samples, key: PRNGKey) -> Samples:
        """Solves along the levels; see `solver`. The key is not used. Rows that need more than `most_steps` are NaN."""
        return self.solve(denoise, sigmas, x)[0]

    def solve(self, denoise: Denoise, sigmas: Levels, x: Samples) -> tuple[Samples, Int[Array, ""]]:
        """Solves as a call does, and returns the number of the denoiser's evaluations as well."""
        sigmas = check_levels(self, sigmas)
        ends, last = sigmas[-1] == 0, sigmas[sigmas > 0][-1]
        evaluations = jnp.array(0)
        if last < sigmas[0]:
            t0, t1 = (float(self.path.time(np.asarray(level))) for level in (sigmas[0], last))
            start = (x * float(self.path.scale(sigmas[0])),)
            scaled, evaluations = integrate(flow(denoise, self.path), t0, t1, start, self._tolerance)
            x = scaled[0] / float(self.path.scale(last))
        return (denoise(x, jnp.full(x.shape[:1], last, x.dtype)) if ends else x), evaluations + int(ends)


def flow(denoise: Denoise, path: Process) -> Callable[[Float[Array, " b"], State], State]:
    """Returns the velocity of `path` by the denoiser: (t, (x_t,)) -> (alpha' x_0 + sigma' epsilon,)."""

    def field(t: Float[Array, " b"], state: State) -> State:
        (x_t,) = state
        alpha = path.alpha(t)
        x = x_t / broadcast_rows(alpha, x_t)
        return (velocity(denoise, x, path.sigma(t) / alpha, path.alpha_rate(t), path.sigma_rate(t)),)

    return field
