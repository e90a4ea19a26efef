"""Noise levels that a solver goes along: decreasing sigma / alpha, float64 in NumPy, 0 at the end.

A class is called without arguments, `Karras(18)()`, and gives steps + 1 levels: one for each evaluation of a solver
that has one a step, and 0 for the image. All are made before anything is compiled.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Annotated, Literal, Protocol, get_args

import numpy as np
from jaxtyping import Float64, Int

from imagegen_jax.core.config.bounds import Count, Natural, NonNegative, Positive, Share
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.files.regular import read_file
from imagegen_jax.core.model import check_choice
from imagegen_jax.diffusion.process.variance_preserving import VariancePreserving
from imagegen_jax.nn.distributions.noise_steps import AnySchedule, LinearSchedule, Schedule

Levels = Float64[np.ndarray, " S+1"]
Spacing = Literal["linear", "leading", "trailing", "quadratic"]


class NoiseLevels(Protocol):
    """What a model asks of its levels."""

    def __call__(self) -> Levels:
        """Returns levels that fall to 0."""
        ...


AnyLevels = Annotated[
    NoiseLevels,
    Choices(
        "imagegen_jax.diffusion.sampling.levels:Karras, PolyExponential, EqualTimes, Spaced",
        "imagegen_jax.diffusion.sampling.levels:ShiftedFlow, FromFile, Listed",
    ),
]


@dataclasses.dataclass(frozen=True)
class Karras:
    """Equal steps of sigma^(1 / rho) (Karras et al. 2022, arXiv 2206.00364, Eq. 5).

    Raises ValueError, as all classes with such fields, unless `steps` >= 1, 0 < `sigma_min` < `sigma_max`, `rho` > 0.
    """

    steps: Count = 18
    sigma_min: NonNegative = 0.002
    sigma_max: NonNegative = 80.0
    rho: Positive = 7.0

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        _check_range(self.sigma_min, self.sigma_max)
        _check_positive("rho", self.rho)

    def __call__(self) -> Levels:
        """Returns the levels, [steps + 1]."""
        return np.append(karras(self.steps, self.sigma_min, self.sigma_max, self.rho), 0.0)


def karras(n: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Float64[np.ndarray, " n"]:
    """Returns `n` levels from `sigma_max` to `sigma_min`, without 0; a single one is `sigma_max`."""
    return np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), n) ** rho


@dataclasses.dataclass(frozen=True)
class PolyExponential:
    """Equal steps of a power of log(sigma), as in k-diffusion; `rho` 1 is geometric, k-diffusion's exponential."""

    steps: Count = 18
    sigma_min: NonNegative = 0.002
    sigma_max: NonNegative = 80.0
    rho: Positive = 1.0

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        _check_range(self.sigma_min, self.sigma_max)
        _check_positive("rho", self.rho)

    def __call__(self) -> Levels:
        """Returns the levels, [steps + 1]."""
        share = np.linspace(1, 0, self.steps) ** self.rho
        return np.append(self.sigma_min * (self.sigma_max / self.sigma_min) ** share, 0.0)


@dataclasses.dataclass(frozen=True)
class EqualTimes:
    """Equal times of `VariancePreserving` from 1 to `end` (Song et al. 2021, 2011.13456; Table 1 of EDM, "VP").

    Raises ValueError unless `steps` >= 1 and 0 < `end` < 1.
    """

    steps: Count = 50
    end: Share = 1e-3
    process: VariancePreserving = VariancePreserving()

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        if not 0 < self.end < 1:
            raise ValueError(
                f"levels.end={self.end}: the last time must lie between 0 and 1, as the default 0.001 does"
            )

    def __call__(self) -> Levels:
        """Returns the levels, [steps + 1]."""
        t = np.linspace(1, self.end, self.steps)
        return np.append(self.process.sigma(t) / self.process.alpha(t), 0.0)


@dataclasses.dataclass(frozen=True)
class Spaced:
    """`steps` of the times of a schedule (None: all), in one of the spacings that `timesteps` lists.

    Stable Diffusion's are "leading" with an `offset` of 1, and not `to_zero`. Raises ValueError where `steps` exceeds
    the schedule's, or the `offset` leads beyond its last time.
    """

    schedule: AnySchedule = LinearSchedule()
    steps: Count | None = 50
    spacing: Spacing = "trailing"
    offset: Natural = 0  # is added to each time
    to_zero: bool = True  # whether the last level is 0; else it is that of time 0, where a little noise is left

    def __post_init__(self) -> None:
        last = int(self._times()[-1])
        if last >= self.schedule.steps:
            raise ValueError(
                f"levels.offset={self.offset}: the last time would be {last}, but those of the schedule go to "
                f"{self.schedule.steps - 1}: lower the offset or the steps"
            )

    def __call__(self) -> Levels:
        """Returns the levels, [steps + 1], or fewer where times would coincide."""
        times = self._times()
        if self.to_zero:
            return of_schedule(self.schedule, times)
        return of_schedule(self.schedule, np.union1d(times, [0]))[:-1]

    def _times(self) -> Int[np.ndarray, " S"]:
        return timesteps(self.schedule.steps, self.steps, self.spacing) + self.offset


def of_schedule(schedule: Schedule, times: Int[np.ndarray, " S"]) -> Levels:
    """Returns sqrt((1 - alpha_bar) / alpha_bar) at increasing `times`, the noisiest first, and 0 at the end."""
    alpha_bar = schedule.alpha_bar[times[::-1]]
    return np.append(np.sqrt((1 - alpha_bar) / alpha_bar), 0.0)


def timesteps(total: int, steps: int | None, spacing: Spacing) -> Int[np.ndarray, " S"]:
    """Chooses `steps` (None: all) of the times 0 to `total` - 1, and returns them increasing.

    "leading" takes every (total // steps)-th from 0 on, DDIM's "linear" (Song et al. 2020, arXiv 2010.02502).
    "quadratic" takes squares of equal distances up to 0.8 total, DDIM's choice for CIFAR-10, dense where little noise
    is left; times that coincide are taken once. "linear" is even, with both ends 0 and total - 1. "trailing" goes from
    total - 1 down; it is best for few steps, since it starts where x is noise alone (Lin et al. 2023, arXiv 2305.08891,
    Table 2). Raises ValueError unless 1 <= `steps` <= `total`, and for a single step of a spacing whose first time is
    0.
    """
    check_choice("spacing", spacing, get_args(Spacing))
    steps = total if steps is None else steps
    if not 1 <= steps <= total:
        raise ValueError(f"steps={steps} is not between 1 and the {total} steps of the schedule")
    if steps == 1 < total and spacing in ("leading", "quadratic"):
        raise ValueError(f"steps=1, spacing={spacing!r}: that is time 0 alone, almost without noise; use 'trailing'")
    if spacing == "linear":
        times = np.asarray(np.linspace(total - 1, 0, steps))
    elif spacing == "leading":
        times = np.arange(0.0, steps) * (total // steps)
    elif spacing == "trailing":
        times = np.round(total - np.arange(steps) * total / steps) - 1
    else:
        times = np.floor(np.linspace(0, np.sqrt(0.8 * total), steps) ** 2)
    return np.unique(np.round(times).astype(np.int32))


@dataclasses.dataclass(frozen=True)
class ShiftedFlow:
    """Equal times of a rectified flow, moved towards noise: t' = shift t / (1 + (shift - 1) t), sigma = t' / (1 - t').

    Esser et al. (2024, arXiv 2403.03206, Eq. 23): `shift` is sqrt(m / n) for images of m values and a schedule made for
    n; 1 leaves equal steps. The first time is 1 - `margin`, since sigma is infinite at 1. Raises ValueError unless
    `steps` >= 1, `shift` > 0 and 0 < `margin` < 1 / `steps`.
    """

    steps: Count = 50
    shift: Positive = 1.0
    margin: Share = 1e-5

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        _check_positive("shift", self.shift)
        if not 0 < self.margin < 1 / self.steps:
            raise ValueError(f"levels.margin={self.margin}: must lie between 0 and one step, 1 / {self.steps}")

    def __call__(self) -> Levels:
        """Returns the levels, [steps + 1]."""
        t = np.linspace(1, 0, self.steps + 1)
        t[0] -= self.margin
        return self.shift * t / (1 - t)  # t' / (1 - t')


@dataclasses.dataclass(frozen=True)
class FromFile:
    """Levels listed in a JSON file, such as those of align-your-steps (Sabour et al. 2024, arXiv 2404.14507).

    The file holds one list of decreasing numbers, all above 0 except perhaps the last. Another number of `steps` is
    reached as in that paper (section 3), by interpolating log(sigma) at equal distances along the list; None: as
    listed. A call raises ValueError for a file that holds no such list, and FileNotFoundError without the file.
    """

    path: str
    steps: Count | None = None

    def __post_init__(self) -> None:
        _check_steps(1 if self.steps is None else self.steps)

    def __call__(self) -> Levels:
        """Reads the levels: [steps + 1], or those listed and 0."""
        try:
            listed = json.loads(read_file(self.path))
        except ValueError as error:
            raise ValueError(f"levels.path={self.path}: no JSON ({error}): give a list such as [14.6, 6.3]") from error
        if not (isinstance(listed, list) and all(type(level) in (int, float) for level in listed)):
            raise ValueError(f"{self.path}: must hold a list of numbers, such as [14.6, 6.3, 0.03]")
        levels = np.array(listed, np.float64)
        levels = levels[:-1] if len(levels) and levels[-1] == 0 else levels
        if not (len(levels) and np.isfinite(levels).all() and np.all(np.diff(levels) < 0) and levels[-1] > 0):
            raise ValueError(f"{self.path}: noise levels must decrease and be above 0 but for the last, not {listed}")
        if self.steps is not None:
            places = np.linspace(0, 1, self.steps)
            levels = np.exp(np.interp(places, np.linspace(0, 1, len(levels)), np.log(levels)))
        return np.append(levels, 0.0)


@dataclasses.dataclass(frozen=True)
class Listed:
    """Levels given one by one, all above 0 and decreasing. Raises ValueError where they are not."""

    sigmas: tuple[Positive, ...]

    def __post_init__(self) -> None:
        falls = all(a > b for a, b in zip(self.sigmas, self.sigmas[1:], strict=False))
        if not (self.sigmas and falls and 0 < self.sigmas[-1] and self.sigmas[0] < math.inf):
            raise ValueError(f"levels.sigmas={self.sigmas}: must be finite, decrease and be above 0, as (80.0, 0.821)")

    def __call__(self) -> Levels:
        """Returns the levels as listed, and 0."""
        return np.append(np.array(self.sigmas, np.float64), 0.0)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"levels.steps={steps}: must be at least 1")


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"levels.{name}={value}: must be above 0")


def _check_range(sigma_min: float, sigma_max: float) -> None:
    if not 0 < sigma_min < sigma_max < math.inf:
        reverse = " (are they reversed?)" if sigma_min > sigma_max > 0 else ""
        raise ValueError(
            f"levels.sigma_min={sigma_min}, levels.sigma_max={sigma_max}: must obey 0 < sigma_min < sigma_max{reverse}"
        )
