"""Schedulers of diffusers that solve along levels: DPM-Solver++, UniPC, Euler, PNDM and flow matching, as paths here.

A scheduler's file does not say how many steps its pipeline takes: it is `STEPS` here. Levels are listed one by one,
since most schedulers of diffusers space their times in a way of their own.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import numpy as np

from imagegen_jax.core.config.bounds import Natural, Positive, Range, Share
from imagegen_jax.diffusion.process.process import RectifiedFlow
from imagegen_jax.diffusion.process.times import Uniform
from imagegen_jax.diffusion.sampling.exponential import DPMSolver, UniPC
from imagegen_jax.diffusion.sampling.levels import Listed, Spaced, of_schedule
from imagegen_jax.diffusion.sampling.multistep import PNDM, Euler
from imagegen_jax.diffusion.sampling.solver import AnySolver
from imagegen_jax.interop.settings import Config, Settings, complete
from imagegen_jax.nn.distributions.noise_steps import CosineSchedule, LinearSchedule

STEPS = 20
_Steps = Annotated[int, Range(1, 1 << 20)]
_OFF = (False, (False, None))
_BEFORE_1 = 1e-7  # how far before 1 a flow begins, where its level is infinite

# Settings of other schedulers alone, which diffusers leaves in the file of one that was made from another's, unread.
_OF_OTHERS: Settings = {
    "clip_sample": (False, bool), "clip_sample_range": (1.0, Positive), "interpolation_type": ("linear", str),
    "sample_max_value": (1.0, Positive), "set_alpha_to_one": (False, bool), "skip_prk_steps": (True, bool),
}  # fmt: skip
NOISE: Settings = _OF_OTHERS | {
    "beta_end": (0.02, Share), "beta_schedule": ("linear", ("linear", "scaled_linear", "squaredcos_cap_v2")),
    "beta_start": (1e-4, Share), "num_train_timesteps": (1000, _Steps),
    "prediction_type": ("epsilon", ("epsilon", "sample", "v_prediction")), "steps_offset": (0, Natural),
    "trained_betas": (None, (None,)),
}  # fmt: skip
LEVELS: Settings = NOISE | {
    "dynamic_thresholding_ratio": (0.995, Share), "final_sigmas_type": ("zero", ("zero",)),
    "flow_shift": (1.0, Positive), "rescale_betas_zero_snr": _OFF, "thresholding": _OFF,
    "time_shift_type": ("exponential", str),
    "timestep_spacing": ("linspace", ("linspace", "leading", "trailing")), "use_beta_sigmas": _OFF,
    "use_dynamic_shifting": _OFF, "use_exponential_sigmas": _OFF, "use_flow_sigmas": _OFF, "use_karras_sigmas": _OFF,
}  # fmt: skip
# UniPC's "bh1" is not finite there in the step to 0.
SOLVERS: dict[str, Settings] = {
    "DPMSolverMultistepScheduler": LEVELS | {
        "algorithm_type": ("dpmsolver++", ("dpmsolver++", "sde-dpmsolver++")), "euler_at_final": _OFF,
        "lambda_min_clipped": (-np.inf, (-np.inf, "-inf")), "lower_order_final": (True, (True, False)),
        "solver_order": (2, (1, 2)), "solver_type": ("midpoint", ("midpoint", "heun")), "use_lu_lambdas": _OFF,
        "variance_type": (None, (None,)),
    },
    "UniPCMultistepScheduler": LEVELS | {
        "disable_corrector": ([], ([],)), "lower_order_final": (True, (True, False)), "predict_x0": (True, (True,)),
        "shift_terminal": (None, (None,)), "sigma_max": (None, (None,)), "sigma_min": (None, (None,)),
        "solver_order": (2, (1, 2)), "solver_p": (None, (None,)), "solver_type": ("bh2", ("bh2",)),
    },
    "EulerDiscreteScheduler": LEVELS | {
        "interpolation_type": ("linear", ("linear",)), "sigma_max": (None, (None,)), "sigma_min": (None, (None,)),
        "timestep_spacing": ("linspace", ("leading", "trailing")), "timestep_type": ("discrete", ("discrete",)),
    },
    "PNDMScheduler": NOISE | {
        "set_alpha_to_one": (False, (True, False)), "skip_prk_steps": (False, (True,)),
        "timestep_spacing": ("leading", ("leading", "trailing")), "use_karras_sigmas": _OFF,
    },
    "FlowMatchEulerDiscreteScheduler": {
        "base_image_seq_len": (256, _Steps), "base_shift": (0.5, Positive), "invert_sigmas": _OFF,
        "max_image_seq_len": (4096, _Steps), "max_shift": (1.15, Positive), "num_train_timesteps": (1000, _Steps),
        "shift": (1.0, Positive), "shift_terminal": (None, (None,)), "stochastic_sampling": _OFF,
        "time_shift_type": ("exponential", str), "use_beta_sigmas": _OFF, "use_dynamic_shifting": _OFF,
        "use_exponential_sigmas": _OFF, "use_karras_sigmas": _OFF,
    },
}  # fmt: skip


class Solved(NamedTuple):
    """A scheduler's solver, and the levels that it goes along."""

    solver: AnySolver
    levels: Listed | Spaced


def solved(name: str, found: Config, schedule: LinearSchedule | CosineSchedule, place: str) -> Solved:
    """Returns the path of a scheduler `name` with complete settings, whose noise is that of the `schedule`.

    Raises ValueError for times that the schedule does not have.
    """
    if name == "PNDMScheduler":
        return Solved(PNDM(), spaced_as_said(found, schedule, STEPS, place))
    solver: AnySolver = Euler()
    if name == "DPMSolverMultistepScheduler":
        eta = 1.0 if found["algorithm_type"].startswith("sde") else 0.0
        solver = DPMSolver(found["solver_order"], eta, "midpoint" if found["solver_type"] == "midpoint" else "exact")
    elif name == "UniPCMultistepScheduler":
        solver = UniPC(found["solver_order"], found["solver_type"])
    more = name in ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler")  # these leave the last of a time more out
    times = spaced(schedule.steps, STEPS, found["timestep_spacing"], found["steps_offset"], more)
    return Solved(solver, listed(schedule, times, place))


def spaced_as_said(found: Config, schedule: LinearSchedule | CosineSchedule, steps: int, place: str) -> Spaced:
    """Returns so many levels as the schedulers space them whose last step may lead to time 0, not to the image.

    Raises ValueError for times that the schedule does not have.
    """
    spacing = found["timestep_spacing"]
    offset = found["steps_offset"] if spacing == "leading" else 0  # as diffusers has it
    try:
        return Spaced(schedule, min(steps, schedule.steps), spacing, offset, found["set_alpha_to_one"])
    except ValueError as error:
        raise ValueError(f"{place}: steps_offset={offset}: {error}") from error


def listed(schedule: LinearSchedule | CosineSchedule, times: np.ndarray, place: str) -> Listed:
    """Returns the levels of times, the noisiest first. Raises ValueError for times that the schedule does not have."""
    if times[0] >= schedule.steps:
        raise ValueError(
            f"{place}: steps_offset: the first time is {times[0]}, but the schedule has {schedule.steps}: lower it"
        )
    return Listed(tuple(of_schedule(schedule, times[::-1])[:-1].tolist()))


def spaced(total: int, steps: int, spacing: str, offset: int, more: bool = False) -> np.ndarray:
    """Returns the times of `steps` steps, the noisiest first; with `more` the last of one step more is left out."""
    if spacing == "trailing":
        return np.round(np.arange(total, 0, -total / steps)).astype(int) - 1
    if spacing == "linspace":
        return np.round(np.linspace(0, total - 1, steps + more)).astype(int)[::-1][:steps]
    return (np.arange(steps + more) * (total // (steps + more)))[::-1][:steps] + offset


def flow(found: Config, steps: int = STEPS) -> dict[str, Any]:
    """Returns the fields of a flow matching model that its scheduler says: shifted times and the way along."""
    shift, total = found["shift"], found["num_train_timesteps"]

    def shifted(t: Any) -> Any:
        return shift * t / (1 + (shift - 1) * t)

    t = shifted(np.linspace(shifted(1.0), shifted(1 / total), steps))
    t = np.minimum(t, 1 - _BEFORE_1)
    fields = {"prediction": "velocity", "process": RectifiedFlow(), "times": Uniform(), "time_scale": float(total)}
    return fields | {"levels": Listed(tuple((t / (1 - t)).tolist())), "solver": Euler()}


def settings_of(scheduler: Config, place: str) -> dict[str, Any]:
    """Returns all settings of one of these schedulers. Raises ValueError, naming it, for one that is not here."""
    return complete(scheduler, SOLVERS[scheduler["_class_name"]], place)
