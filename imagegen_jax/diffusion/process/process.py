"""Processes: how an image becomes noise over time, x_t = alpha(t) x_0 + sigma(t) epsilon.

In every process x_t / alpha(t) = x_0 + s epsilon, with the noise level s = sigma / alpha. Solvers know images by that
level alone; `time` and `scale` (alpha as a function of s) lead back to the process that a network was trained in.

Processes that preserve variance, discrete schedules among them, are in `variance_preserving`.

Every function takes NumPy arrays and plain floats, and then computes in float64, or JAX arrays. Rates are derivatives
in t. Where a process preserves variance, sigma starts like sqrt(t), so its rate at t = 0 is infinite.
"""

from __future__ import annotations

import dataclasses
import math
from types import ModuleType
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import NonNegative
from imagegen_jax.core.config.choices import Choices

Value = Float[Array, "*s"] | Float[np.ndarray, "*s"] | float


class Process(Protocol):
    """What samplers, losses and conversions ask of a process."""

    def alpha(self, t: Value) -> Any:
        """Returns the factor of the image at t."""
        ...

    def sigma(self, t: Value) -> Any:
        """Returns the standard deviation of the noise at t."""
        ...

    def alpha_rate(self, t: Value) -> Any:
        """Returns the derivative of alpha at t."""
        ...

    def sigma_rate(self, t: Value) -> Any:
        """Returns the derivative of sigma at t."""
        ...

    def time(self, level: Value) -> Any:
        """Returns the t where sigma / alpha is `level`."""
        ...

    def scale(self, level: Value) -> Any:
        """Returns alpha where sigma / alpha is `level`, without the rounding of a detour through t."""
        ...


AnyProcess = Annotated[
    Process,
    Choices(
        "imagegen_jax.diffusion.process.process:EDM, VarianceExploding, RectifiedFlow",
        "imagegen_jax.diffusion.process.variance_preserving:VariancePreserving, SubVP, Cosine, Gamma, Discrete",
    ),
]


@runtime_checkable
class WholeTimed(Protocol):
    """A process whose networks know only whole times, or training times that are whole."""

    @property
    def whole_times(self) -> int:
        """The number of times 0, 1, ..."""
        ...


@runtime_checkable
class Ranged(Protocol):
    """A process whose t may exceed 1, where others end, or training times that may."""

    @property
    def last(self) -> float:
        """The greatest t; infinite where there is none."""
        ...


class Point(NamedTuple):
    """The values of a process at one time or at many."""

    alpha: Any
    sigma: Any
    alpha_rate: Any
    sigma_rate: Any


def at(process: Process, t: Value) -> Point:
    """Evaluates a process at t, for conversions."""
    return Point(process.alpha(t), process.sigma(t), process.alpha_rate(t), process.sigma_rate(t))


def numpy_of(value: Any) -> ModuleType:
    """Returns the library that computes with a value: `jax.numpy` for JAX's arrays, NumPy for all else."""
    return jnp if isinstance(value, jax.Array) else np


@dataclasses.dataclass(frozen=True)
class EDM:
    """alpha = 1, sigma = t (Karras et al. 2022, arXiv 2206.00364, Table 1): the coordinates of the solvers."""

    last: ClassVar[float] = math.inf

    def alpha(self, t: Value) -> Any:
        """Returns 1 for every t."""
        return numpy_of(t).ones_like(t)

    def sigma(self, t: Value) -> Any:
        """Returns t itself."""
        return t

    def alpha_rate(self, t: Value) -> Any:
        """Returns 0 for every t."""
        return numpy_of(t).zeros_like(t)

    def sigma_rate(self, t: Value) -> Any:
        """Returns 1 for every t."""
        return numpy_of(t).ones_like(t)

    def time(self, level: Value) -> Any:
        """Returns the level itself."""
        return level

    def scale(self, level: Value) -> Any:
        """Returns 1 for every level."""
        return numpy_of(level).ones_like(level)


@dataclasses.dataclass(frozen=True)
class VarianceExploding:
    """alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^t for t in [0, 1] (Song et al. 2021, 2011.13456, Eq. 30).

    Raises ValueError unless 0 < `sigma_min` < `sigma_max`.
    """

    sigma_min: NonNegative = 0.01
    sigma_max: NonNegative = 50.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                f"process.sigma_min={self.sigma_min}, process.sigma_max={self.sigma_max}: the noise must grow, "
                "0 < sigma_min < sigma_max"
            )

    def alpha(self, t: Value) -> Any:
        """Returns 1 for every t."""
        return numpy_of(t).ones_like(t)

    def sigma(self, t: Value) -> Any:
        """Returns sigma_min (sigma_max / sigma_min)^t."""
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def alpha_rate(self, t: Value) -> Any:
        """Returns 0 for every t."""
        return numpy_of(t).zeros_like(t)

    def sigma_rate(self, t: Value) -> Any:
        """Returns sigma log(sigma_max / sigma_min)."""
        return self.sigma(t) * math.log(self.sigma_max / self.sigma_min)

    def time(self, level: Value) -> Any:
        """Returns log(s / sigma_min) / log(sigma_max / sigma_min), the nearer of 0 and 1 for levels outside."""
        share = numpy_of(level).log(level / self.sigma_min) / math.log(self.sigma_max / self.sigma_min)
        return numpy_of(level).clip(share, 0.0, 1.0)

    def scale(self, level: Value) -> Any:
        """Returns 1 for every level."""
        return numpy_of(level).ones_like(level)


@dataclasses.dataclass(frozen=True)
class RectifiedFlow:
    """alpha = 1 - t, sigma = t for t in [0, 1]: straight lines (Liu et al. 2023, arXiv 2209.03003, Eq. 1).

    Also the optimal-transport path of flow matching (Lipman et al. 2023, arXiv 2210.02747, Eq. 20 with sigma_min = 0),
    whose times run the other way. Its velocity is epsilon - x_0.
    """

    def alpha(self, t: Value) -> Any:
        """Returns 1 - t."""
        return 1 - t

    def sigma(self, t: Value) -> Any:
        """Returns t itself."""
        return t

    def alpha_rate(self, t: Value) -> Any:
        """Returns -1 for every t."""
        return -numpy_of(t).ones_like(t)

    def sigma_rate(self, t: Value) -> Any:
        """Returns 1 for every t."""
        return numpy_of(t).ones_like(t)

    def time(self, level: Value) -> Any:
        """Returns s / (1 + s)."""
        return level / (1 + level)

    def scale(self, level: Value) -> Any:
        """Returns 1 / (1 + s)."""
        return 1 / (1 + level)
