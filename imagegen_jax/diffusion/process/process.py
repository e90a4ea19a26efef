"""Processes: how an image becomes noise, x_t = alpha(t) x_0 + sigma(t) epsilon, and the times at which it does.

Whatever the process, x_t / alpha(t) = x_0 + s epsilon, with the noise level s = sigma / alpha. Solvers know images by
that level alone; `time` and `scale` (alpha as a function of s) lead back to the process that a network was trained in.

Those that preserve variance are in `variance_preserving`, the schedules of discrete ones in `discrete`.

Everything is a function of NumPy arrays and plain floats, then computed in float64, or of JAX arrays. Rates are
derivatives in t. sigma starts like sqrt(t) where a process preserves variance, so there its rate at t = 0 is infinite.
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
        """What is left of the image."""
        ...

    def sigma(self, t: Value) -> Any:
        """The standard deviation of the noise."""
        ...

    def alpha_rate(self, t: Value) -> Any:
        """The derivative of alpha."""
        ...

    def sigma_rate(self, t: Value) -> Any:
        """The derivative of sigma."""
        ...

    def time(self, level: Value) -> Any:
        """The t at which sigma / alpha is `level`."""
        ...

    def scale(self, level: Value) -> Any:
        """alpha at that t, without the rounding of a way through t."""
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
    """A process whose networks know whole times alone, or training times that are whole."""

    @property
    def whole_times(self) -> int:
        """How many there are: 0, 1, ..."""
        ...


@runtime_checkable
class Ranged(Protocol):
    """A process whose t goes further than 1, where others end, or training times that may."""

    @property
    def last(self) -> float:
        """The greatest t; infinite where there is none."""
        ...


class Point(NamedTuple):
    """A process at one time or at many."""

    alpha: Any
    sigma: Any
    alpha_rate: Any
    sigma_rate: Any


def at(process: Process, t: Value) -> Point:
    """All that conversions need to know of `process` at t."""
    return Point(process.alpha(t), process.sigma(t), process.alpha_rate(t), process.sigma_rate(t))


def numpy_of(value: Any) -> ModuleType:
    """The library that a value is computed with: `jax.numpy` for JAX's arrays, NumPy for all else."""
    return jnp if isinstance(value, jax.Array) else np


@dataclasses.dataclass(frozen=True)
class EDM:
    """alpha = 1, sigma = t (Karras et al. 2022, arXiv 2206.00364, Table 1): the coordinates of the solvers."""

    last: ClassVar[float] = math.inf

    def alpha(self, t: Value) -> Any:
        """1 for every t."""
        return numpy_of(t).ones_like(t)

    def sigma(self, t: Value) -> Any:
        """t itself."""
        return t

    def alpha_rate(self, t: Value) -> Any:
        """0 for every t."""
        return numpy_of(t).zeros_like(t)

    def sigma_rate(self, t: Value) -> Any:
        """1 for every t."""
        return numpy_of(t).ones_like(t)

    def time(self, level: Value) -> Any:
        """The level itself."""
        return level

    def scale(self, level: Value) -> Any:
        """1 for every level."""
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
        """1 for every t."""
        return numpy_of(t).ones_like(t)

    def sigma(self, t: Value) -> Any:
        """Geometric from sigma_min to sigma_max."""
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def alpha_rate(self, t: Value) -> Any:
        """0 for every t."""
        return numpy_of(t).zeros_like(t)

    def sigma_rate(self, t: Value) -> Any:
        """sigma times the logarithm of its range."""
        return self.sigma(t) * math.log(self.sigma_max / self.sigma_min)

    def time(self, level: Value) -> Any:
        """The share of the logarithm's range; the nearer end for levels outside of it."""
        share = numpy_of(level).log(level / self.sigma_min) / math.log(self.sigma_max / self.sigma_min)
        return numpy_of(level).clip(share, 0.0, 1.0)

    def scale(self, level: Value) -> Any:
        """1 for every level."""
        return numpy_of(level).ones_like(level)


@dataclasses.dataclass(frozen=True)
class RectifiedFlow:
    """alpha = 1 - t, sigma = t for t in [0, 1]: straight lines (Liu et al. 2023, arXiv 2209.03003, Eq. 1).

    Also the optimal-transport path of flow matching (Lipman et al. 2023, arXiv 2210.02747, Eq. 20 with sigma_min = 0),
    whose times run the other way. Its velocity is epsilon - x_0.
    """

    def alpha(self, t: Value) -> Any:
        """1 - t."""
        return 1 - t

    def sigma(self, t: Value) -> Any:
        """t itself."""
        return t

    def alpha_rate(self, t: Value) -> Any:
        """-1 for every t."""
        return -numpy_of(t).ones_like(t)

    def sigma_rate(self, t: Value) -> Any:
        """1 for every t."""
        return numpy_of(t).ones_like(t)

    def time(self, level: Value) -> Any:
        """s / (1 + s)."""
        return level / (1 + level)

    def scale(self, level: Value) -> Any:
        """1 / (1 + s)."""
        return 1 / (1 + level)
