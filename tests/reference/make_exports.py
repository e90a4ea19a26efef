"""Makes exports.npz: what diffusers draws from a folder that `imagegen export RUN --to diffusers` wrote.

    python3.11 -m venv .venv-torch && .venv-torch/bin/pip install torch==2.13.0 diffusers==0.42.1
    python tests/interop/test_exported_images.py exported
    .venv-torch/bin/python tests/reference/make_exports.py exported

The first call writes the folder, of a run whose weights are drawn. Kept are the folder's text files, the SHA-256 of its
weights, and the images of 5 steps of its own pipeline, computed in float32 and in float64, from given noise.
"""

from __future__ import annotations

import hashlib
import pathlib
import sys

import diffusers
import numpy as np
import torch
from diffusers import DDIMPipeline, DiffusionPipeline

FOLDER = pathlib.Path(__file__).parent
WEIGHTS, STEPS = "unet/diffusion_pytorch_model.safetensors", 5


def images(pipe: DDIMPipeline, x: torch.Tensor) -> np.ndarray:
    """Images [B C H W] in [0, 1]."""
    pipe.scheduler.set_timesteps(STEPS)
    with torch.no_grad():
        for t in pipe.scheduler.timesteps:
            x = pipe.scheduler.step(pipe.unet(x, t).sample, t, x).prev_sample
    return (x / 2 + 0.5).clamp(0, 1).numpy()


def main(folder: pathlib.Path) -> None:
    """Writes the file."""
    pipe = DiffusionPipeline.from_pretrained(folder)
    x = torch.randn((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    found = {str(path.relative_to(folder)): np.array(path.read_text()) for path in folder.rglob("*.json")}
    found["sha256"] = np.array(hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest())
    found |= {"x": x.numpy(), "images": images(pipe, x)}
    found["images_double"] = images(pipe.to(torch.float64), x.double())
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__}
    np.savez_compressed(FOLDER / "exports.npz", versions=str(versions), **found)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
