"""Processes that preserve variance, alpha^2 + sigma^2 = 1, or stay below it; see `process`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import NonNegative
from imagegen_jax.diffusion.process.process import Value, numpy_of
from imagegen_jax.nn.distributions.noise_steps import AnySchedule, LinearSchedule

BISECTIONS = 60  # halvings of [0, 1]: beyond the last bit of a float64 that is not tiny


@dataclasses.dataclass(frozen=True)
class VariancePreserving:
    """alpha^2 + sigma^2 = 1 with beta growing linearly for t in [0, 1] (Song et al. 2021, 2011.13456, Eq. 32, 33).

    alpha = exp(-1/2 int_0^t beta), beta = beta_min + t (beta_max - beta_min). Raises ValueError unless
    0 < `beta_min` < `beta_max`.
    """

    beta_min: NonNegative = 0.1
    beta_max: NonNegative = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min < self.beta_max < math.inf:
            raise ValueError(
                f"process.beta_min={self.beta_min}, process.beta_max={self.beta_max}: must obey 0 < beta_min < beta_max"
            )

    def integral(self, t: Value) -> Any:
        """Integrates beta from 0 to t."""
        return self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / 2

    def beta(self, t: Value) -> Any:
        """Returns the rate at t of replacing the image's variance by noise."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def alpha(self, t: Value) -> Any:
        """Returns exp(-1/2 int beta)."""
        return numpy_of(t).exp(-self.integral(t) / 2)

    def sigma(self, t: Value) -> Any:
        """Returns sqrt(1 - alpha^2)."""
        xp = numpy_of(t)
        return xp.sqrt(-xp.expm1(-self.integral(t)))

    def alpha_rate(self, t: Value) -> Any:
        """Returns -beta alpha / 2."""
        return -self.beta(t) * self.alpha(t) / 2

    def sigma_rate(self, t: Value) -> Any:
        """Returns beta alpha^2 / (2 sigma)."""
        return _divide(self.beta(t) * self.alpha(t) ** 2, 2 * self.sigma(t))

    def time(self, level: Value) -> Any:
        """Returns the root of int_0^t beta = log(1 + s^2)."""
        return self.time_of_integral(numpy_of(level).log1p(level**2))

    def time_of_integral(self, integral: Value) -> Any:
        """Returns the t where int_0^t beta is `integral`: the root of a quadratic, without cancellation near 0."""
        root = numpy_of(integral).sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * integral)
        return 2 * integral / (self.beta_min + root)

    def scale(self, level: Value) -> Any:
        """Returns 1 / sqrt(1 + s^2)."""
        return preserving_scale(level)


@dataclasses.dataclass(frozen=True)
class SubVP:
    """alpha as in `VariancePreserving`, but a smaller sigma, 1 - alpha^2 (Song et al. 2021, 2011.13456, Eq. 29)."""

    preserving: VariancePreserving = VariancePreserving()

    def alpha(self, t: Value) -> Any:
        """Returns exp(-1/2 int beta)."""
        return self.preserving.alpha(t)

    def sigma(self, t: Value) -> Any:
        """Returns 1 - alpha^2."""
        return -numpy_of(t).expm1(-self.preserving.integral(t))

    def alpha_rate(self, t: Value) -> Any:
        """Returns -beta alpha / 2."""
        return self.preserving.alpha_rate(t)

    def sigma_rate(self, t: Value) -> Any:
        """Returns beta alpha^2."""
        return self.preserving.beta(t) * self.alpha(t) ** 2

    def time(self, level: Value) -> Any:
        """Returns the root of int_0^t beta = -2 log(alpha), with alpha = `scale(level)`."""
        # 1 - alpha = 2 s / (s + 2 + sqrt(s^2 + 4)) loses no digits near s = 0, where alpha itself is 1.
        lost = 2 * level / (level + 2 + numpy_of(level).sqrt(level**2 + 4))
        return self.preserving.time_of_integral(-2 * numpy_of(level).log1p(-lost))

    def scale(self, level: Value) -> Any:
        """Returns 2 / (s + sqrt(s^2 + 4)), the root of (1 - alpha^2) / alpha = s."""
        return 2 / (level + numpy_of(level).sqrt(level**2 + 4))


@dataclasses.dataclass(frozen=True)
class Cosine:
    """alpha = cos(phi) / cos(phi_0), phi = pi/2 (t + offset) / (1 + offset) (Nichol & Dhariwal 2021, Eq. 17).

    For t in [0, 1]; arXiv 2102.09672. With offset 0, alpha = cos(pi t / 2) and sigma = sin(pi t / 2), the process that
    v was introduced with (Salimans & Ho 2022, 2202.00512). Raises ValueError for an `offset` below 0.
    """

    offset: float = 0.008

    def __post_init__(self) -> None:
        if not 0 <= self.offset < math.inf:
            raise ValueError(f"process.offset={self.offset}: must be 0 or above, as the paper's 0.008")

    def _angle(self, t: Value) -> Any:
        return math.pi / 2 * (t + self.offset) / (1 + self.offset)

    def _left(self, t: Value) -> Any:
        """Returns pi/2 - phi, which is 0 at t = 1 without rounding."""
        return math.pi / 2 * (1 - t) / (1 + self.offset)

    @property
    def _rate(self) -> float:
        return math.pi / 2 / (1 + self.offset)

    def alpha(self, t: Value) -> Any:
        """Returns cos(phi) / cos(phi_0), computed as the sine of pi/2 - phi so that it is 0 at t = 1."""
        return numpy_of(t).sin(self._left(t)) / math.sin(self._left(0.0))

    def sigma(self, t: Value) -> Any:
        """Returns sqrt(1 - alpha^2) = sqrt(sin(phi - phi_0) sin(phi + phi_0)) / cos(phi_0)."""
        xp, start = numpy_of(t), float(self._angle(0.0))
        if not self.offset:
            return xp.sin(self._angle(t))
        return xp.sqrt(xp.sin(self._rate * t) * xp.sin(self._angle(t) + start)) / math.cos(start)

    def alpha_rate(self, t: Value) -> Any:
        """Returns -phi' sin(phi) / cos(phi_0)."""
        return -self._rate * numpy_of(t).sin(self._angle(t)) / math.sin(self._left(0.0))

    def sigma_rate(self, t: Value) -> Any:
        """Returns -alpha alpha' / sigma."""
        if not self.offset:
            return self._rate * numpy_of(t).sin(self._left(t))
        return _divide(-self.alpha(t) * self.alpha_rate(t), self.sigma(t))

    def time(self, level: Value) -> Any:
        """Returns the root of sin^2(phi) = 1 - cos^2(phi_0) / (1 + s^2) = (s^2 + sin^2(phi_0)) / (1 + s^2)."""
        xp, start = numpy_of(level), float(self._angle(0.0))
        angle = xp.arctan2(xp.sqrt(level**2 + math.sin(start) ** 2), math.cos(start) * xp.ones_like(level))
        return (angle - start) / self._rate

    def scale(self, level: Value) -> Any:
        """Returns 1 / sqrt(1 + s^2)."""
        return preserving_scale(level)


@dataclasses.dataclass(frozen=True)
class GammaLine:
    """gamma(t) = low + (high - low) t, with the ends that VDM starts from. Raises ValueError unless `low` < `high`."""

    low: float = -13.3
    high: float = 5.0

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"gamma.low={self.low}, gamma.high={self.high}: must obey low < high")

    def __call__(self, t: Any) -> Any:
        """Returns gamma(t): [...] -> [...]."""
        return self.low + (self.high - self.low) * t


@dataclasses.dataclass(frozen=True)
class Gamma:
    """alpha^2 = sigmoid(-gamma(t)), sigma^2 = sigmoid(gamma(t)) for t in [0, 1]: VDM (Kingma et al. 2021, 2107.00630).

    `gamma` is any increasing function of JAX arrays, for example a learned network: minus the logarithm of the
    signal-to-noise ratio (section 3.2). In an experiment, which is stored, it has to be a dataclass. Its slope comes
    from forward differentiation, its inverse from bisection.
    """

    gamma: Callable[[Any], Any] = GammaLine()

    def alpha(self, t: Value) -> Any:
        """Returns sqrt(sigmoid(-gamma))."""
        return jnp.exp(jax.nn.log_sigmoid(-self.gamma(t)) / 2)

    def sigma(self, t: Value) -> Any:
        """Returns sqrt(sigmoid(gamma))."""
        return jnp.exp(jax.nn.log_sigmoid(self.gamma(t)) / 2)

    def alpha_rate(self, t: Value) -> Any:
        """Returns -alpha sigma^2 gamma' / 2."""
        return -self.alpha(t) * self.sigma(t) ** 2 * self._slope(t) / 2

    def sigma_rate(self, t: Value) -> Any:
        """Returns sigma alpha^2 gamma' / 2."""
        return self.sigma(t) * self.alpha(t) ** 2 * self._slope(t) / 2

    def _slope(self, t: Value) -> Any:
        t = jnp.asarray(t, float)
        return jax.jvp(self.gamma, (t,), (jnp.ones_like(t),))[1]

    def time(self, level: Value) -> Any:
        """Returns the t where gamma = 2 log(s), or the nearer end where it never is."""
        wanted = 2 * jnp.log(jnp.asarray(level, float))

        def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = (low + high) / 2
            above = self.gamma(middle) > wanted
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        low, high = jax.lax.fori_loop(0, BISECTIONS, halve, (jnp.zeros_like(wanted), jnp.ones_like(wanted)))
        return (low + high) / 2

    def scale(self, level: Value) -> Any:
        """Returns 1 / sqrt(1 + s^2)."""
        return preserving_scale(level)


@dataclasses.dataclass(frozen=True)
class Discrete:
    """A schedule of T steps as a process for t in [0, T - 1]: between its times log(sigma / alpha) is linear.

    At whole times it is the schedule itself. Levels outside its range have the time of the nearer end.
    """

    schedule: AnySchedule = LinearSchedule()

    @property
    def whole_times(self) -> int:
        """The number of the schedule's times."""
        return self.schedule.steps

    @property
    def last(self) -> float:
        """The last of the schedule's times."""
        return self.schedule.steps - 1

    @property
    def log_levels(self) -> Float[np.ndarray, " T"]:
        """The logarithm of sigma / alpha at each time, increasing."""
        alpha_bar = self.schedule.alpha_bar
        return np.log((1 - alpha_bar) / alpha_bar) / 2

    def _level(self, t: Value) -> Any:
        table = self.log_levels
        return numpy_of(t).exp(numpy_of(t).interp(t, np.arange(len(table)), table))

    def _slope(self, t: Value) -> Any:
        """Returns d log(sigma / alpha) / dt of the interval that starts at or before t."""
        slopes = numpy_of(t).asarray(np.diff(self.log_levels))
        return slopes[numpy_of(t).clip(numpy_of(t).floor(t), 0, len(slopes) - 1).astype(int)]

    def alpha(self, t: Value) -> Any:
        """Returns sqrt(alpha_bar)."""
        return preserving_scale(self._level(t))

    def sigma(self, t: Value) -> Any:
        """Returns sqrt(1 - alpha_bar)."""
        level = self._level(t)
        return level * preserving_scale(level)

    def alpha_rate(self, t: Value) -> Any:
        """Returns -alpha sigma^2 times the slope of log(sigma / alpha)."""
        return -self.alpha(t) * self.sigma(t) ** 2 * self._slope(t)

    def sigma_rate(self, t: Value) -> Any:
        """Returns sigma alpha^2 times the slope of log(sigma / alpha)."""
        return self.sigma(t) * self.alpha(t) ** 2 * self._slope(t)

    def time(self, level: Value) -> Any:
        """Returns the t where sigma / alpha is `level`, also between whole times."""
        table = self.log_levels
        return numpy_of(level).interp(numpy_of(level).log(level), table, np.arange(len(table), dtype=float))

    def scale(self, level: Value) -> Any:
        """Returns 1 / sqrt(1 + s^2)."""
        return preserving_scale(level)


def preserving_scale(level: Value) -> Any:
    """Returns alpha at the noise level s in every process with alpha^2 + sigma^2 = 1: 1 / sqrt(1 + s^2)."""
    return 1 / numpy_of(level).sqrt(1 + level**2)


def _divide(a: Any, b: Any) -> Any:
    """Divides a by b: infinite, without a warning, where b is 0."""
    with np.errstate(divide="ignore"):
        return np.true_divide(a, b) if numpy_of(b) is np else a / b
