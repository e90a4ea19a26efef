"""Processes and solvers of models of latents as the schedulers of diffusers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process.process import RectifiedFlow
from imagegen_jax.diffusion.sampling.exponential import DPMSolver, UniPC
from imagegen_jax.diffusion.sampling.levels import Listed, ShiftedFlow
from imagegen_jax.diffusion.sampling.multistep import PNDM, Euler
from imagegen_jax.interop.diffusers_config import sampling_of
from imagegen_jax.interop.exports.diffusers import VERSION, scheduler_of
from imagegen_jax.interop.settings import Config

SPACINGS = ("leading", "trailing", "linspace")
NOISE = ("beta_end", "beta_schedule", "beta_start", "num_train_timesteps", "prediction_type", "trained_betas")


def latent_scheduler_of(model: Diffusion) -> Config:
    """Returns the configuration of a model's schedule and of its way to sample, or of the nearest there is.

    A pipeline is told its number of steps when it is called, so levels count as far as a scheduler spaces them. Raises
    ValueError for a schedule that diffusers does not have.
    """
    if isinstance(model.process, RectifiedFlow):
        return _flow(model)
    stepped = scheduler_of(model)
    found = [config for config in _solving(model, stepped) if _read(config).get("solver") == model.solver]
    same = (config for config in found if _read(config)["levels"] == model.levels)
    return next(same, (found or [stepped])[0])


def _flow(model: Diffusion) -> Config:
    """Returns a FlowMatchEulerDiscreteScheduler, whose shift a list of levels tells by its last one.

    The scheduler shifts its last time, 1 / steps, twice.
    """
    shift, levels, steps = 1.0, model.levels, round(model.time_scale)
    if isinstance(levels, ShiftedFlow):
        shift = levels.shift
    elif isinstance(levels, Listed) and levels.sigmas:
        shift = round(math.sqrt(min(levels.sigmas) * max(steps - 1, 1)), 6) or 1.0
    return _scheduler("FlowMatchEulerDiscreteScheduler", {"num_train_timesteps": steps, "shift": shift})


def _solving(model: Diffusion, stepped: Config) -> Iterator[Config]:
    """Yields the configurations of the scheduler that solves as a model does, in every spacing it has."""
    solver: Any = model.solver
    name, said = "", dict[str, Any]()
    if isinstance(solver, Euler):
        name = "EulerDiscreteScheduler"
    elif isinstance(solver, PNDM):
        name, said = "PNDMScheduler", {"skip_prk_steps": True}
    elif isinstance(solver, UniPC):
        name, said = "UniPCMultistepScheduler", {"solver_order": solver.order, "solver_type": solver.variant}
    elif isinstance(solver, DPMSolver):
        name, kind = "DPMSolverMultistepScheduler", "midpoint" if solver.second == "midpoint" else "heun"
        said = {"solver_order": solver.order, "solver_type": kind}
        said["algorithm_type"] = "sde-dpmsolver++" if solver.eta else "dpmsolver++"
    if not name:
        return
    said |= {key: stepped[key] for key in NOISE if key in stepped}
    ends: tuple[dict[str, Any], ...] = ({},)
    if name == "PNDMScheduler":  # whose last step may lead to time 0, not to the image
        ends = ({"set_alpha_to_one": False}, {"set_alpha_to_one": True})
    for spacing, offset, end in itertools.product(SPACINGS, (0, 1), ends):
        yield _scheduler(name, said | {"timestep_spacing": spacing, "steps_offset": offset} | end)


def _scheduler(name: str, given: Config) -> Config:
    return {"_class_name": name, "_diffusers_version": VERSION, **given}


def _read(config: Config) -> dict[str, Any]:
    """Returns the fields of a model that a configuration says; none where it is not supported."""
    try:
        return sampling_of(config, "scheduler")
    except ValueError:
        return {}
