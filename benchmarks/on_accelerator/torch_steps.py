"""Training steps in PyTorch, by its `torch.compile`, of the networks that `networks.py` has; run by `torch_side.py`.

As here: noise, times and dropped labels, the loss, its gradient, clipping by norm, Adam and a moving average; for the
GAN the generator's and the discriminator's step without the lazy phases, whose second derivatives `torch.compile` does
not do. Other than here: DiT's learned variances are computed but not trained (their bound is left out); nothing is
augmented; EDM's network has no counterpart in these files.
"""

from __future__ import annotations

import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from diffusion import UNET, Setup  # noqa: E402
from gan import GAME  # noqa: E402
from sides import Step, tell  # noqa: E402

DIT_XL = {"depth": 28, "width": 1152, "heads": 16, "out_channels": 8}
BUDGET, BLOCKS = 6.0, 5  # as in `training_steps.py` and `speed.py`


def diffusion(part: str, network: Mapping[str, Any], batch: int, tiny: bool) -> Callable[[str], tuple[Step, Any]]:
    """A function of a device: its training step, and how many parameters the network has."""

    def made(device: str) -> tuple[Step, Any]:
        from diffusion_torch import Torch

        dtype = "float32" if device == "cpu" else "bfloat16"
        side = Torch(Setup(part, network, batch, 0, torch.get_num_threads(), device, dtype, options=True))
        if not tiny:
            side.network.compile()
        return side.ready("step"), {"network": sum(p.numel() for p in side.network.parameters())}

    return made


def stylegan2(side: int, channels: Mapping[str, int], batch: int, tiny: bool) -> Callable[[str], tuple[Step, Any]]:
    """Likewise for a GAN."""

    def made(device: str) -> tuple[Step, Any]:
        from gan_torch import Torch
        from gan_torch import stylegan2 as game_of

        taker = Torch(batch, torch.get_num_threads(), device, {"channel_base": 32, "channel_max": 8}, grouped=False)
        game = taker.games["stylegan2"] = game_of(**channels, grouped=False, side=side)
        if not tiny:
            for network in game.networks.values():
                network.compile()
        counts = {name: sum(p.numel() for p in network.parameters()) for name, network in game.networks.items()}
        return taker.step("stylegan2", side, GAME), counts

    return made


def cases(tiny: bool) -> dict[str, tuple[int, Callable[[str], tuple[Step, Any]]]]:
    """By network: images in a batch, and what makes its step."""
    if tiny:
        network = {"depth": 1, "width": 16, "heads": 2, "out_channels": 8}
        narrow = {"channel_base": 64, "channel_max": 8}
        return {
            "ddpm_cifar10": (2, diffusion("unet", {"width": 32, "multipliers": (1, 2), "blocks": 1}, 2, tiny)),
            "dit_xl2_imagenet256": (2, diffusion("dit", network, 2, tiny)),
            "stylegan2_256": (4, stylegan2(16, narrow, 4, tiny)),
        }
    wide = {"channel_base": 16_384, "channel_max": 512}
    return {
        "ddpm_cifar10": (128, diffusion("unet", UNET, 128, tiny)),
        "dit_xl2_imagenet256": (128, diffusion("dit", DIT_XL, 128, tiny)),
        "stylegan2_256": (32, stylegan2(256, wide, 32, tiny)),
    }


def measured(batch: int, step: Step, device: str, budget: float) -> dict[str, Any]:
    """Seconds of a step, as `speed.timed` takes them, images a second and the most memory in use."""
    begun = time.perf_counter()
    step()
    compiled = time.perf_counter() - begun
    begun = time.perf_counter()
    step()
    steps = max(1, int(budget / BLOCKS / (time.perf_counter() - begun)))
    seconds = []
    for _ in range(BLOCKS):
        begun = time.perf_counter()
        for _ in range(steps):
            step()
        seconds.append((time.perf_counter() - begun) / steps)
    median = statistics.median(seconds)
    return {
        "batch": batch,
        "first_seconds": compiled,
        "seconds": median,
        "images_per_second": batch / median,
        "peak_in_use": torch.cuda.max_memory_allocated() if device == "gpu" else None,
    }


def main(tiny: bool) -> None:
    """Says what it is, then of each network, or why not."""
    device = "gpu" if torch.cuda.is_available() and not tiny else "cpu"
    name = torch.cuda.get_device_name() if device == "gpu" else "cpu"
    tell({"torch": torch.__version__, "device": name, "compiled": not tiny})
    torch.backends.cudnn.benchmark = True  # tries cuDNN's algorithms, as XLA does
    if device == "cpu" and not tiny:
        raise SystemExit(f"torch {torch.__version__} sees no GPU")
    for case, (batch, make) in cases(tiny).items():
        try:
            step, parameters = make(device)
            tell({case: {**measured(batch, step, device, 0.1 if tiny else BUDGET), "parameters": parameters}})
        except Exception as error:  # one network must not hide the others
            tell({case: {"failed": f"{type(error).__name__}: {error}"[:2000]}})
        step = None
        if device == "gpu":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    main(sys.argv[1] == "tiny")
