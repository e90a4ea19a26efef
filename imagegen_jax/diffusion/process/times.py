"""Training times: the t of a process that a network is trained at, drawn for each image of a batch.

A class is called with one key a row, [B], and gives t [B] in float32. The density of t weighs the loss like any other
weight (`weighting`), but it costs no variance.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, ClassVar, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from imagegen_jax.core.arrays.random import integer_rows, normal_rows, uniform_rows
from imagegen_jax.core.config.bounds import Count, Positive
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import PRNGKeys
from imagegen_jax.diffusion.process.process import Process, Ranged, WholeTimed


class Times(Protocol):
    """What a loss asks of training times; `process.WholeTimed` and `process.Ranged` say more of some."""

    def __call__(self, keys: PRNGKeys) -> Num[Array, " b"]:
        """Draws a t for each key, [B]."""
        ...


AnyTimes = Annotated[Times, Choices("imagegen_jax.diffusion.process.times:Uniform, WholeTimes, LogNormal, LogitNormal")]


@dataclasses.dataclass(frozen=True)
class Uniform:
    """t uniform in [`low`, `high`). Raises ValueError unless 0 <= `low` < `high`."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high < math.inf:
            raise ValueError(f"times.low={self.low}, times.high={self.high}: must obey 0 <= low < high")

    @property
    def last(self) -> float:
        """The greatest t, `high`."""
        return self.high

    def __call__(self, keys: PRNGKeys) -> Float[Array, " b"]:
        """Draws a t for each key, [B]."""
        return uniform_rows(keys, self.low, self.high)


@dataclasses.dataclass(frozen=True)
class WholeTimes:
    """One of the `steps` times 0, 1, ... of a discrete schedule (Ho et al. 2020, 2006.11239, Algorithm 1), as int32."""

    steps: Count = 1000

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"times.steps={self.steps}: must be at least 1")

    @property
    def whole_times(self) -> int:
        """The number of times, `steps`."""
        return self.steps

    def __call__(self, keys: PRNGKeys) -> Num[Array, " b"]:
        """Draws a t for each key, [B], int32."""
        return integer_rows(keys, self.steps)


@dataclasses.dataclass(frozen=True)
class LogNormal:
    """log t ~ N(mean, std^2), where t is EDM's sigma (Karras et al. 2022, arXiv 2206.00364, Table 1)."""

    mean: float = -1.2  # P_mean
    std: Positive = 1.2  # P_std

    last: ClassVar[float] = math.inf

    def __post_init__(self) -> None:
        _check_std(self.std)

    def __call__(self, keys: PRNGKeys) -> Float[Array, " b"]:
        """Draws a t for each key, [B]."""
        return jnp.exp(self.mean + self.std * normal_rows(keys, ()))


@dataclasses.dataclass(frozen=True)
class LogitNormal:
    """log(t / (1 - t)) ~ N(mean, std^2), for t in (0, 1) (Esser et al. 2024, arXiv 2403.03206, section 3.1)."""

    mean: float = 0.0
    std: Positive = 1.0

    def __post_init__(self) -> None:
        _check_std(self.std)

    def __call__(self, keys: PRNGKeys) -> Float[Array, " b"]:
        """Draws a t for each key, [B]."""
        return jax.nn.sigmoid(self.mean + self.std * normal_rows(keys, ()))


def _check_std(std: float) -> None:
    if not 0 < std < math.inf:
        raise ValueError(f"times.std={std}: must be above 0")


def check_range(process: Process, times: Times) -> None:
    """Raises ValueError where `times` leave the [0, 1] of `process`. For `init`: either may be set before the other."""
    last = process.last if isinstance(process, Ranged) else 1.0
    if isinstance(times, Ranged) and times.last > last:
        raise ValueError(
            f"model.times={times}, but t of a {type(process).__name__} is in [0, {last:g}]: use Uniform() or "
            "LogitNormal()"
        )


def check_times(process: Process, times: Times) -> None:
    """Raises ValueError where `times` are not those of `process`."""
    if isinstance(process, WholeTimed) and isinstance(times, WholeTimed):
        if process.whole_times != times.whole_times:
            raise ValueError(
                f"model.times.steps={times.whole_times}, but model.process.schedule.steps={process.whole_times}: make "
                "them the same"
            )
    elif isinstance(process, WholeTimed) or isinstance(times, WholeTimed):
        raise ValueError(
            f"model.process is a {type(process).__name__}, but model.times a {type(times).__name__}: "
            "Discrete has WholeTimes, and every other process has times between them"
        )
