"""Draws by diffusers from pipelines that `imagegen export RUN --to diffusers` wrote, and compares with pipelines.npz.

    python3.11 -m venv .venv-torch
    .venv-torch/bin/pip install torch==2.13.0 diffusers==0.42.1 transformers==5.24.0
    python tests/interop/test_exported_pipelines.py exported
    .venv-torch/bin/python tests/reference/check_exported_pipelines.py exported

The runs were imported from what diffusers saved, so its images of the exports must be those of the originals.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import torch
from diffusers import DiffusionPipeline

FOLDER = pathlib.Path(__file__).parent


def main(place: pathlib.Path) -> None:
    """Prints the largest difference of any value in [0, 1]. Raises AssertionError above 1e-5."""
    with np.load(FOLDER / "pipelines.npz") as stored:
        for case in ("sd1", "sd2"):
            pipe = DiffusionPipeline.from_pretrained(place / case)
            pipe.set_progress_bar_config(disable=True)
            options = {"num_inference_steps": 10, "output_type": "np", "guidance_scale": 7.5}
            options |= {"latents": torch.from_numpy(stored[f"{case}/latents"])}
            images = pipe([str(prompt) for prompt in stored[f"{case}/prompts"]], **options).images
            difference = np.abs(images - stored[f"{case}/images"]).max()
            print(case, type(pipe).__name__, difference)
            assert difference < 1e-5


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
