"""Draws by diffusers from what `imagegen export RUN --to diffusers` and `--to lora` wrote, and compares the images.

    python3.11 -m venv .venv-torch
    .venv-torch/bin/pip install torch==2.13.0 diffusers==0.42.1 transformers==5.24.0 peft==0.21.2
    python tests/interop/test_exported_pipelines.py exported
    .venv-torch/bin/python tests/reference/check_exported_pipelines.py exported

The runs were imported from what diffusers saved, so its images of the exports must be those of the originals in
pipelines.npz. With the pairs of both networks, by `load_lora_weights`, they must be those that were drawn here.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import torch
from diffusers import DiffusionPipeline

FOLDER = pathlib.Path(__file__).parent


def drawn(pipe: DiffusionPipeline, prompts: list[str], latents: np.ndarray) -> np.ndarray:
    """Guided images in [0, 1] of 10 steps."""
    options = {"num_inference_steps": 10, "output_type": "np", "guidance_scale": 7.5}
    return pipe(prompts, latents=torch.from_numpy(latents), **options).images


def main(place: pathlib.Path) -> None:
    """Prints the largest difference of any value in [0, 1]. Raises AssertionError above 1e-5."""
    with np.load(FOLDER / "pipelines.npz") as stored:
        for case in ("sd1", "sd2"):
            pipe = DiffusionPipeline.from_pretrained(place / case)
            pipe.set_progress_bar_config(disable=True)
            prompts, latents = stored[f"{case}/prompts"].tolist(), stored[f"{case}/latents"]
            images, wanted = drawn(pipe, prompts, latents), stored[f"{case}/images"]
            pipe.load_lora_weights(place / f"{case}_lora")
            taught, by_pairs = drawn(pipe, prompts, latents), np.load(place / f"{case}_lora" / "images.npy")
            gaps = [np.abs(found - there).max() for found, there in ((images, wanted), (taught, by_pairs))]
            moved = np.abs(taught - images).max()
            print(f"{case} {type(pipe).__name__}: {gaps[0]:.2g}, with pairs {gaps[1]:.2g} (which changed {moved:.2g})")
            assert max(gaps) < 1e-5 < moved


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
