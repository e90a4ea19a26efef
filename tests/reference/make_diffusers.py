"""Makes diffusers_samplers.npz and diffusers_unet.npz: what `diffusers` computes, for tests/diffusion/.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 diffusers==0.42.1
    .venv-torch/bin/python tests/reference/make_diffusers.py

The samplers run on a toy network in closed form (`toy`), which the tests write down again for JAX; their noise is
saved, and replayed there. The U-Net has google/ddpm-cifar10-32's configuration with fewer levels and blocks, and random
weights that the tests draw again.
"""

import pathlib
import zlib

import diffusers
import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

FOLDER = pathlib.Path(__file__).parent
VERSIONS = {"torch": np.array(torch.__version__), "diffusers": np.array(diffusers.__version__)}
LINEAR = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


def toy(x: torch.Tensor, t: int) -> torch.Tensor:
    """A stand-in for a network that predicts the noise: a function of place and time that is not linear."""
    return x + 0.3 * torch.sin(3 * x + t / 100)


def ddpm(start: torch.Tensor, variance: str, timesteps: list[int] | None, clip: bool) -> dict[str, np.ndarray]:
    """A trajectory of the ancestral sampler, and its noise."""
    scheduler = DDPMScheduler(**LINEAR, variance_type=f"fixed_{variance}", clip_sample=clip)
    if timesteps:
        scheduler.set_timesteps(timesteps=timesteps)
    drawn, replayed = (torch.Generator().manual_seed(1) for _ in range(2))
    x, states, noises = start, [], []
    for t in scheduler.timesteps.tolist():
        x = scheduler.step(toy(x, t), t, x, generator=drawn).prev_sample
        noises.append(torch.randn(x.shape, generator=replayed) if t > 0 else torch.zeros_like(x))
        states.append(x)
    return {"t": scheduler.timesteps.numpy(), "noise": torch.stack(noises).numpy(), "x": torch.stack(states).numpy()}


def ddim(
    start: torch.Tensor, steps: int, spacing: str, eta: float, clip: bool, whole: bool = False
) -> dict[str, np.ndarray]:
    """A trajectory of DDIM and its noise. What stays is the noise of the clipped estimate, or of the `whole` one.

    The latter is what the pipelines take unless they are told otherwise.
    """
    scheduler = DDIMScheduler(**LINEAR, timestep_spacing=spacing, clip_sample=clip)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(2)
    x, states, noises = start, [], []
    for t in scheduler.timesteps.tolist():
        noises.append(torch.randn(x.shape, generator=generator))
        options = {"eta": eta, "variance_noise": noises[-1], "use_clipped_model_output": not whole}
        x = scheduler.step(toy(x, t), t, x, **options).prev_sample
        states.append(x)
    return {"t": scheduler.timesteps.numpy(), "noise": torch.stack(noises).numpy(), "x": torch.stack(states).numpy()}


def samplers() -> dict[str, np.ndarray]:
    """Trajectories, each from the same start of three rows of two numbers."""
    start = torch.randn((3, 2), generator=torch.Generator().manual_seed(0))
    respaced = np.round(np.linspace(999, 0, 25)).astype(int).tolist()
    runs = {
        "ddpm_large": ddpm(start, "large", None, clip=True),
        "ddpm_small": ddpm(start, "small", None, clip=True),
        "ddpm_large_25": ddpm(start, "large", respaced, clip=True),
        "ddpm_small_25": ddpm(start, "small", respaced, clip=False),
        "ddim_leading_50": ddim(start, 50, "leading", eta=0.0, clip=True),
        "ddim_trailing_20": ddim(start, 20, "trailing", eta=0.0, clip=False),
        "ddim_leading_50_eta1": ddim(start, 50, "leading", eta=1.0, clip=True),
        "ddim_leading_50_whole": ddim(start, 50, "leading", eta=0.0, clip=True, whole=True),
        "ddim_leading_50_eta1_whole": ddim(start, 50, "leading", eta=1.0, clip=True, whole=True),
        "ddim_trailing_20_eta05_whole": ddim(start, 20, "trailing", eta=0.5, clip=True, whole=True),
    }
    return {"start": start.numpy(), **{f"{run}/{k}": v for run, arrays in runs.items() for k, v in arrays.items()}}


def weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random weights that need not be saved: NumPy promises that `RandomState` draws the same forever."""
    fan_in = int(np.prod(shape[1:]))
    return (np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape) / np.sqrt(fan_in)).astype("float32")


def unet() -> dict[str, np.ndarray]:
    """Output and input gradient of a U-Net with random weights (the initial ones would put out zero)."""
    network = UNet2DModel(
        block_out_channels=(128, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_eps=1e-6,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        attention_head_dim=None,
    )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.from_numpy(weights(name, tuple(parameter.shape))))
    x = torch.randn((2, 3, 8, 8), generator=torch.Generator().manual_seed(0)).requires_grad_()
    t = torch.tensor([3, 700])
    y = network(x, t).sample
    (y**2).sum().backward()
    names = np.array([f"{name} {','.join(map(str, p.shape))}" for name, p in network.named_parameters()])
    return {
        "x": x.detach().numpy(),
        "t": t.numpy(),
        "y": y.detach().numpy(),
        "gradient": x.grad.numpy(),
        "names": names,
    }


if __name__ == "__main__":
    np.savez_compressed(FOLDER / "diffusers_samplers.npz", **samplers(), **VERSIONS)
    np.savez_compressed(FOLDER / "diffusers_unet.npz", **unet(), **VERSIONS)
