"""Draws by diffusers from what `imagegen export RUN --to diffusers` and `--to lora` wrote, and compares the images.

    python3.11 -m venv .venv-torch
    .venv-torch/bin/pip install torch==2.13.0 diffusers==0.42.1 transformers==5.24.0 peft==0.21.2 sentencepiece==0.2.3
    PYTHONPATH=.:tests python tests/interop/test_exported_pipelines.py exported
    .venv-torch/bin/python tests/reference/check_exported_pipelines.py exported

The runs were imported from what diffusers saved, so its images of the exports must be those of the originals in
pipelines.npz and more_pipelines.npz. With the pairs of networks and text encoders, by `load_lora_weights`, they must be
those that were drawn here.
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

FOLDER = pathlib.Path(__file__).parent
MISSING = {"sd3_without_t5": {"text_encoder_3": None, "tokenizer_3": None}}
OPTIONS = {"pixart": {"clean_caption": False, "use_resolution_binning": False}}


def drawn(pipe: DiffusionPipeline, prompts: list[str], latents: np.ndarray, **options: Any) -> np.ndarray:
    """Guided images in [0, 1]."""
    options |= {"output_type": "np", "guidance_scale": 7.5}
    return pipe(prompts, latents=torch.from_numpy(latents), **options).images


def main(place: pathlib.Path) -> None:
    """Prints the largest difference of any value in [0, 1]. Raises AssertionError above 1e-5."""
    gaps = []
    for file, steps in (("pipelines", 10), ("more_pipelines", 20)):
        with np.load(FOLDER / f"{file}.npz") as stored:
            cases = sorted({name.split("/")[0] for name in stored if name.endswith("/prompts")})
            for case in (case for case in cases if (place / case).is_dir()):
                gaps += check(place, case, steps, {name: stored[name] for name in stored if name.startswith(case)})
    assert gaps and max(gaps) < 1e-5


def check(place: pathlib.Path, case: str, steps: int, stored: dict[str, np.ndarray]) -> list[float]:
    """Returns the differences of an export, and of the pairs beside it where there are any."""
    pipe = DiffusionPipeline.from_pretrained(place / case, **MISSING.get(case, {}))
    pipe.set_progress_bar_config(disable=True)
    given = stored[f"{case}/prompts"].tolist(), stored[f"{case}/latents"]
    options = {"num_inference_steps": steps, **OPTIONS.get(case, {})}
    images = drawn(pipe, *given, **options)
    gaps = [float(np.abs(images - stored[f"{case}/images"]).max())]
    said = f"{case} {type(pipe).__name__}: {gaps[0]:.2g}"
    pairs = place / f"{case}_lora"
    if pairs.is_dir():
        pipe.load_lora_weights(pairs)
        taught = drawn(pipe, *given, **options)
        gaps.append(float(np.abs(taught - np.load(pairs / "images.npy")).max()))
        moved = np.abs(taught - images).max()
        said += f", with pairs {gaps[1]:.2g} (which changed {moved:.2g})"
        assert moved > 1e-4
    print(said, flush=True)
    return gaps


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
