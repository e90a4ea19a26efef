"""Makes solver_trajectories.npz: the ways of k-diffusion and `diffusers`, for tests/diffusion/sampling/test_solvers.py.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 diffusers==0.42.1 scipy==1.17.1
    .venv-torch/bin/pip install --no-deps k-diffusion==0.1.1.post1 torchdiffeq==0.2.5 torchsde==0.2.6 trampoline==0.1.2
    .venv-torch/bin/python tests/reference/make_solver_trajectories.py

All go from one start along the same levels, in float64, with the exact denoiser of the mixture in tests/mixture.py.
What is saved of each is every x that it asked the denoiser about, and the last; noise is drawn here and replayed there.
"""

import functools
import importlib
import importlib.util
import pathlib
import sys
import types
from importlib.metadata import version

import diffusers
import numpy as np
import torch
from diffusers.schedulers import scheduling_consistency_models, scheduling_ddpm

FOLDER = pathlib.Path(__file__).parent
RNG = np.random.RandomState(0)
SIGMAS = np.append(np.linspace(10 ** (1 / 7), 0.02 ** (1 / 7), 8) ** 7, 0.0)
FLOW_SIGMAS = (flow_times := np.linspace(0.96, 0, 9)) / (1 - flow_times)
START, NOISE = 10 * RNG.standard_normal((3, 2)), RNG.standard_normal((8, 3, 2))
MEANS = torch.tensor([[-0.5, -0.3], [0.5, -0.3], [0.0, 0.5]], dtype=torch.float64)
WEIGHTS, STD = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), 0.1


class Recorded:
    """The denoiser, as k-diffusion calls it: (x, sigma) -> E[x_0 | x]."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.double().numpy().copy())
        variance = STD**2 + (torch.as_tensor(sigma).double() * torch.ones(len(x)).double())[:, None] ** 2
        square = ((x.double()[:, None] - MEANS) ** 2).sum(-1)
        mean = torch.softmax(WEIGHTS.log() - square / (2 * variance), -1) @ MEANS
        return mean + STD**2 / variance * (x.double() - mean)

    def way(self, last: torch.Tensor) -> np.ndarray:
        return np.stack([*self.seen, last.double().numpy()])


class Replayed:
    """The i-th noise at the i-th call, whatever the arguments."""

    def __init__(self) -> None:
        self.i = -1

    def __call__(self, *_: object, **__: object) -> torch.Tensor:
        self.i += 1
        return torch.from_numpy(NOISE[self.i])


@functools.cache
def k_diffusion() -> types.ModuleType:
    """Its file of solvers alone: the package's other files import much that no solver needs."""
    folder = pathlib.Path(importlib.util.find_spec("k_diffusion").submodule_search_locations[0])
    package, utils = types.ModuleType("k_diffusion"), types.ModuleType("k_diffusion.utils")
    utils.append_dims = lambda x, ndim: x[(...,) + (None,) * (ndim - x.ndim)]
    package.__path__, package.utils = [str(folder)], utils
    sys.modules |= {"k_diffusion": package, "k_diffusion.utils": utils}
    return importlib.import_module("k_diffusion.sampling")


def of_k_diffusion(name: str, sigmas: np.ndarray = SIGMAS, **options: object) -> np.ndarray:
    sampling, model = k_diffusion(), Recorded()
    if "ancestral" in name or "sde" in name:
        options["noise_sampler"] = Replayed()
    original, torch.randn_like = torch.randn_like, Replayed()  # churn's noise, drawn at every step
    try:
        sample = getattr(sampling, f"sample_{name}")
        return model.way(sample(model, torch.from_numpy(START), torch.from_numpy(sigmas), disable=True, **options))
    finally:
        torch.randn_like = original


def preserved(sigma: torch.Tensor) -> torch.Tensor:
    """alpha of a process that preserves variance; their samples are ours times it."""
    return 1 / (1 + sigma**2) ** 0.5


def of_levels(kind: type, sigmas: np.ndarray, **options: object) -> np.ndarray:
    """A scheduler of `diffusers` whose levels may be set: it keeps them in float32, until they are replaced."""
    scheduler, model, noise = kind(**options), Recorded(), Replayed()
    scheduler.set_timesteps(len(sigmas) - 1)
    scheduler.sigmas = torch.from_numpy(sigmas)
    x = torch.from_numpy(START) * preserved(scheduler.sigmas[0])
    stochastic = {"variance_noise"} if "sde" in options.get("algorithm_type", "") else set()
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
        whole = x / preserved(sigma)
        epsilon = (whole - model(whole, sigma)) / sigma
        x = scheduler.step(epsilon, t, x, **{name: noise() for name in stochastic}).prev_sample
    return model.way(x / preserved(scheduler.sigmas[-1]))


def of_schedule(kind: type, **options: object) -> np.ndarray:
    """A scheduler of `diffusers` in discrete time, with a schedule of as many times as there are levels."""
    eta = {"eta": options.pop("eta")} if "eta" in options else {}
    sigmas = torch.from_numpy(SIGMAS)
    scheduler, model, noise = kind(num_train_timesteps=len(NOISE), **options), Recorded(), Replayed()
    scheduler.set_timesteps(len(NOISE))
    scheduler.alphas_cumprod = (preserved(sigmas[:-1]) ** 2).flip(0)
    scheduler.final_alpha_cumprod = torch.tensor(1.0).double()
    scheduling_ddpm.randn_tensor = noise
    x = torch.from_numpy(START) * preserved(sigmas[0])
    for t in scheduler.timesteps:
        sigma = sigmas[len(NOISE) - 1 - t]
        whole = x / preserved(sigma)
        drawn = {**eta, "variance_noise": noise()} if eta.get("eta") else eta
        x = scheduler.step((whole - model(whole, sigma)) / sigma, t, x, **drawn).prev_sample
    return model.way(x)


def of_flow(kind: type) -> np.ndarray:
    """A scheduler of flow matching at given times, which computes in float32 whatever it is given."""
    scheduler, times = kind(), torch.from_numpy(flow_times)
    scheduler.set_timesteps(len(times) - 1)
    if len(scheduler.timesteps) > len(times) - 1:  # Heun's, which meets each level but the ends twice
        times = torch.cat([times[:1], times[1:-1].repeat_interleave(2), times[-1:]])
    scheduler.sigmas = times
    return along_flow(scheduler)


def shifted_flow() -> object:
    """One that shifts equal times itself, but for the first, which would be 1 and have an infinite level."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=[0.96, *np.linspace(0.875, 0.125, 7)])
    return scheduler


def along_flow(scheduler: object) -> np.ndarray:
    model, times = Recorded(), scheduler.sigmas.double()
    x = torch.from_numpy(START) * (1 - times[0])
    for t, at in zip(scheduler.timesteps, times[:-1], strict=True):
        whole = x / (1 - at)
        x = scheduler.step((x - model(whole, at / (1 - at))) / at, t, x).prev_sample
    return model.way(x)


def of_consistency() -> np.ndarray:
    """Multistep sampling of consistency models; their network is inside of the skip connection that makes it one."""
    scheduler, model, noise = diffusers.CMStochasticIterativeScheduler(clip_denoised=False), Recorded(), Replayed()
    scheduler.set_timesteps(len(NOISE))
    scheduler.sigmas = torch.from_numpy(SIGMAS)
    scheduling_consistency_models.randn_tensor = noise
    scheduler.is_scale_input_called = True
    x = torch.from_numpy(START)
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
        c_skip, c_out = scheduler.get_scalings_for_boundary_condition(sigma)
        x = scheduler.step((model(x, sigma) - c_skip * x) / c_out, t, x).prev_sample
    return model.way(x)


def ways() -> dict[str, np.ndarray]:
    dpm, deis, unipc = (getattr(diffusers, f"{kind}MultistepScheduler") for kind in ("DPMSolver", "DEIS", "UniPC"))
    full = {"lower_order_final": False}
    found = {
        "k/euler": of_k_diffusion("euler"),
        "k/euler_ancestral": of_k_diffusion("euler_ancestral"),
        "k/euler_ancestral_half": of_k_diffusion("euler_ancestral", eta=0.5, s_noise=1.1),
        "k/heun": of_k_diffusion("heun"),
        "k/heun_churn": of_k_diffusion("heun", s_churn=3.0, s_tmin=0.05, s_tmax=5.0, s_noise=1.01),
        "k/lms": of_k_diffusion("lms"),
        "k/dpmpp_2m": of_k_diffusion("dpmpp_2m"),
        "k/dpmpp_2m_sde": of_k_diffusion("dpmpp_2m_sde"),
        "k/dpmpp_2m_sde_heun": of_k_diffusion("dpmpp_2m_sde", eta=0.5, solver_type="heun"),
        "k/dpmpp_3m_sde": of_k_diffusion("dpmpp_3m_sde", s_noise=1.1),
        "k/dpmpp_3m": of_k_diffusion("dpmpp_3m_sde", eta=0.0),
        "d/dpm_2": of_levels(dpm, SIGMAS, solver_order=2, **full),
        "d/dpm_2_heun": of_levels(dpm, SIGMAS, solver_order=2, solver_type="heun", **full),
        "d/dpm_3": of_levels(dpm, SIGMAS, solver_order=3, **full),
        "d/dpm_2_sde": of_levels(dpm, SIGMAS, solver_order=2, algorithm_type="sde-dpmsolver++", **full),
        "d/deis_2": of_levels(deis, SIGMAS[:-1], solver_order=2, **full),
        "d/deis_3": of_levels(deis, SIGMAS[:-1], solver_order=3, **full),
        "d/pndm": of_schedule(diffusers.PNDMScheduler, skip_prk_steps=True),
        "d/ddim": of_schedule(diffusers.DDIMScheduler, clip_sample=False, eta=0.0),
        "d/ddim_eta": of_schedule(diffusers.DDIMScheduler, clip_sample=False, eta=0.7),
        "d/ddpm_small": of_schedule(diffusers.DDPMScheduler, clip_sample=False, variance_type="fixed_small"),
        "d/ddpm_large": of_schedule(diffusers.DDPMScheduler, clip_sample=False, variance_type="fixed_large"),
        "d/consistency": of_consistency(),
        "f/euler": of_flow(diffusers.FlowMatchEulerDiscreteScheduler),
        "f/euler_shifted": along_flow(shifted_flow()),
        "f/heun": of_flow(diffusers.FlowMatchHeunDiscreteScheduler),
        "d/unipc_1_to_0": of_levels(unipc, SIGMAS, solver_order=1),
        "d/unipc_2_to_0": of_levels(unipc, SIGMAS, solver_order=2),
    }
    for order in (1, 2, 3):
        for variant in ("bh1", "bh2"):
            options = {"solver_order": order, "solver_type": variant, **full}
            found[f"d/unipc_{order}_{variant}"] = of_levels(unipc, SIGMAS[:-1], **options)
    return found


def levels() -> dict[str, np.ndarray]:
    """k-diffusion's noise levels, and those of `diffusers` for a shifted flow."""
    sampling = k_diffusion()
    torch.set_default_dtype(torch.float64)
    found = {
        "karras": sampling.get_sigmas_karras(10, 0.02, 50.0),
        "exponential": sampling.get_sigmas_exponential(10, 0.02, 50.0),
        "polyexponential": sampling.get_sigmas_polyexponential(10, 0.02, 50.0, rho=1.5),
        "vp": sampling.get_sigmas_vp(10),
        "shifted_flow": shifted_flow().sigmas,
    }
    return {f"levels/{name}": value.numpy() for name, value in found.items()}


if __name__ == "__main__":
    names = ("torch", "diffusers", "k-diffusion")
    np.savez_compressed(
        FOLDER / "solver_trajectories.npz",
        sigmas=SIGMAS, flow_sigmas=FLOW_SIGMAS, start=START, noise=NOISE,
        **ways(), **levels(), **{name.replace("-", "_"): np.array(version(name)) for name in names},
    )  # fmt: skip
