"""Makes diffusers_schedulers.npz: where the schedulers of diffusers lead, for tests/interop/test_schedulers.py.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 diffusers==0.42.1
    .venv-torch/bin/python tests/reference/make_diffusers_schedulers.py

In place of a network stands a function of x and the time; of each scheduler there are its configuration, as it would be
saved or is published, the start, of deviation 1 as its pipelines draw it, and the end after 20 steps, or 50 of DDIM.
"""

import json
import pathlib
from importlib.metadata import version

import numpy as np
import torch
from diffusers.schedulers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

FILE = pathlib.Path(__file__).parent / "diffusers_schedulers.npz"
STEPS = 20
LATENT = {
    "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": False,
    "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
    "trained_betas": None,
}  # fmt: skip
PUBLISHED = {  # scheduler_config.json of Stable Diffusion 1.5, 2.1 and XL
    "stable_diffusion_1": {"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", **LATENT},
    "ddim_stable_diffusion_2": {
        "_class_name": "DDIMScheduler", "_diffusers_version": "0.8.0", **LATENT, "prediction_type": "v_prediction",
    },
    "stable_diffusion_xl": {
        "_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.19.0.dev0", **LATENT,
        "interpolation_type": "linear", "prediction_type": "epsilon", "sample_max_value": 1.0,
        "timestep_spacing": "leading", "use_karras_sigmas": False,
    },
}  # fmt: skip
CASES = {
    "dpm": DPMSolverMultistepScheduler(),
    "dpm_1_trailing": DPMSolverMultistepScheduler(solver_order=1, timestep_spacing="trailing"),
    "dpm_heun_leading": DPMSolverMultistepScheduler(solver_type="heun", timestep_spacing="leading", steps_offset=1),
    "dpm_v": DPMSolverMultistepScheduler(prediction_type="v_prediction", beta_schedule="scaled_linear"),
    "unipc": UniPCMultistepScheduler(),
    "unipc_sample": UniPCMultistepScheduler(prediction_type="sample", timestep_spacing="trailing"),
    "euler": EulerDiscreteScheduler(timestep_spacing="trailing"),
    "euler_offset": EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1),
    "pndm": PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=True),
    "pndm_trailing": PNDMScheduler(skip_prk_steps=True, timestep_spacing="trailing", steps_offset=1),
    "ddim_offset": DDIMScheduler(steps_offset=1, clip_sample=False),
    "ddim_clipped": DDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing"),
    "flow": FlowMatchEulerDiscreteScheduler(),
    "flow_shifted": FlowMatchEulerDiscreteScheduler(shift=3.0),
    "stable_diffusion_1": PNDMScheduler.from_config(PUBLISHED["stable_diffusion_1"]),
    "ddim_stable_diffusion_2": DDIMScheduler.from_config(PUBLISHED["ddim_stable_diffusion_2"]),
    "stable_diffusion_xl": EulerDiscreteScheduler.from_config(PUBLISHED["stable_diffusion_xl"]),
}


def predicted(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Stands for a network."""
    return 0.9 * x + 0.1 * torch.sin(3 * x) * torch.cos(t.double() / 300)


def main() -> None:
    """Writes the file."""
    start, found = np.random.RandomState(0).standard_normal((2, 1, 4, 4)), {}
    for name, scheduler in CASES.items():
        scheduler.set_timesteps(50 if name.startswith("ddim") else STEPS)
        x = torch.from_numpy(start) * getattr(scheduler, "init_noise_sigma", 1.0)
        for t in scheduler.timesteps:
            seen = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            x = scheduler.step(predicted(seen, t), t, x).prev_sample.double()
        config = {key: value for key, value in scheduler.config.items() if key != "_use_default_values"}
        found[f"{name}/config"] = json.dumps(PUBLISHED.get(name) or {"_class_name": type(scheduler).__name__, **config})
        found[f"{name}/end"] = x.numpy()
        found[f"{name}/deviation"] = float(getattr(scheduler, "init_noise_sigma", 1.0))
    np.savez_compressed(FILE, start=start, diffusers=version("diffusers"), **found)


if __name__ == "__main__":
    main()
