"""Samplers of models in discrete time: a solver, and the times of a schedule that it goes along."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, Protocol

from imagegen_jax.core.config.bounds import Count, NonNegative
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.diffusion.sampling.ancestral import DDPMAncestral, EulerAncestral
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.levels import AnyLevels, Karras, Levels, Spacing, of_schedule, timesteps
from imagegen_jax.diffusion.sampling.solver import AnySolver, Path
from imagegen_jax.nn.distributions.noise_steps import Schedule


class Sampler(Protocol):
    """What a model in discrete time asks of a sampler."""

    def path(self, schedule: Schedule) -> Path:
        """Returns the solver and the levels that it goes along."""
        ...


AnySampler = Annotated[Sampler, Choices("imagegen_jax.diffusion.sampling.discrete_time:Ancestral, DDIM, Solve")]


@dataclasses.dataclass(frozen=True)
class Ancestral:
    """DDPM's sampler (Ho et al. 2020, Algorithm 2): draws x_{t-1} from the posterior as if the estimate were x_0.

    `steps` below the schedule's takes that many times, evenly spaced from end to end, with the variances that belong to
    them, as improved DDPM does (Nichol & Dhariwal 2021, section 4); None: all. `variance` is one of the two extremes of
    section 3.2: the step's beta ("large", DDPM's choice for CIFAR-10), or that of the posterior ("small").
    """

    steps: Count | None = None
    variance: Literal["large", "small"] = "large"

    def path(self, schedule: Schedule) -> Path:
        """Returns the solver and its levels. Raises ValueError where `steps` exceeds the schedule's."""
        return Path(DDPMAncestral(self.variance), _levels(schedule, self.steps, "linear"))


@dataclasses.dataclass(frozen=True)
class DDIM:
    """Denoising diffusion implicit models (Song et al. 2020, arXiv 2010.02502): deterministic for `eta` 0.

    `eta` 1 is `Ancestral` with the small variance. `spacing` says which of the schedule's times the `steps` are; see
    `levels.timesteps`. Estimates are clipped, and the noise that a step keeps follows from the clipped estimates, as in
    ADM's code; with `clipped_noise` off it follows from those before clipping, as in the authors' code and, by default,
    in diffusers: runs that are imported from there have it off. Raises ValueError unless 0 <= `eta` <= 1.
    """

    steps: Count = 50
    eta: NonNegative = 0.0
    spacing: Spacing = "leading"
    clipped_noise: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"sampler.eta={self.eta} is not between 0 (deterministic) and 1 (DDPM's noise)")

    def path(self, schedule: Schedule) -> Path:
        """Returns the solver and its levels. Raises ValueError where `steps` exceeds the schedule's."""
        solver = EulerAncestral(self.eta, clipped_noise=self.clipped_noise)
        return Path(solver, _levels(schedule, self.steps, self.spacing))


@dataclasses.dataclass(frozen=True)
class Solve:
    """Any solver, along any noise levels; the denoiser is called at the whole time nearest to each level."""

    solver: AnySolver = DPMSolver(2)
    levels: AnyLevels = Karras(20, sigma_min=0.03)

    def path(self, schedule: Schedule) -> Path:
        """Returns the solver and the levels that it goes along, whatever the schedule."""
        return Path(self.solver, self.levels())


def _levels(schedule: Schedule, steps: int | None, spacing: Spacing) -> Levels:
    return of_schedule(schedule, timesteps(schedule.steps, steps, spacing))
