"""Exports of runs, by the form that they take."""

from __future__ import annotations

import pathlib
import shutil
from typing import Literal, get_args

from imagegen_jax.core.capabilities import reads_text
from imagegen_jax.core.model import num_classes
from imagegen_jax.core.run import Path, Run
from imagegen_jax.interop.exports.card import write_card
from imagegen_jax.interop.exports.diffusers import export_diffusers
from imagegen_jax.interop.exports.pipelines import export_pipeline
from imagegen_jax.interop.exports.stablehlo import FILE, INPUTS, export_sampler
from imagegen_jax.interop.exports.weights import WEIGHTS, export_weights
from imagegen_jax.interop.importing import check_target
from imagegen_jax.interop.lora import export_lora, named_in_diffusers

Form = Literal["safetensors", "diffusers", "stablehlo", "lora"]
PAIRS = "pytorch_lora_weights.safetensors"  # the file that `load_lora_weights` of diffusers looks for in a folder

USE_OF_DIFFUSERS = """```python
from diffusers import DiffusionPipeline

images = DiffusionPipeline.from_pretrained("FOLDER")().images
```"""
USE_BY_TEXTS = USE_OF_DIFFUSERS.replace("()", '("what to draw", num_inference_steps=50, guidance_scale=7.5)')
USE_WITH_CLASSES = """No pipeline of diffusers gives this network its classes, so each step is taken here.

```python
import torch
from diffusers import DiffusionPipeline

pipeline, labels = DiffusionPipeline.from_pretrained("FOLDER"), torch.arange({classes})
unet, scheduler = pipeline.unet, pipeline.scheduler
scheduler.set_timesteps(scheduler.config.num_train_timesteps)
x = torch.randn(len(labels), {channels}, {height}, {width})
with torch.no_grad():
    for t in scheduler.timesteps:
        x = scheduler.step(unet(x, t, labels).sample, t, x).prev_sample
images = (x / 2 + 0.5).clamp(0, 1)
```"""
USE_OF_PAIRS = f"""{PAIRS} has the pairs alone: the weights beside which they were trained are those that `pretrained`
of the recipe below names. `imagegen sample RUN --lora FOLDER/{PAIRS}` draws with both."""
USE_OF_PAIRS_IN_DIFFUSERS = """

```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("those weights")
pipeline.load_lora_weights("FOLDER")
images = pipeline("what to draw", num_inference_steps=50, guidance_scale=7.5).images
```"""
USE_OF_SAMPLER = """JAX alone runs it, with a seed and what {inputs} says.

```python
import jax
import numpy as np
from jax import export

sampler = export.deserialize(bytearray(open("{file}", "rb").read()))
images = sampler.call(np.uint32(0), {conditions})
```"""


def export_run(run: Run, form: Form, out: Path, n: int = 16, licence: str | None = None) -> pathlib.Path:
    """Writes a run to the folder `out`, with a model card, and returns the folder; `n` images are a sampler's.

    Raises ValueError for another form, where the folder is not empty, and for a model that the form does not have;
    nothing is left of an export that fails.
    """
    if form not in get_args(Form):
        raise ValueError(f"--to {form}: give {', '.join(get_args(Form))}")
    folder = check_target(out)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_card(run, folder, form, licence, _written(run, form, folder, n))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _written(run: Run, form: Form, folder: pathlib.Path, n: int) -> str:
    """Writes a run in a form, and returns how it is used."""
    if form == "safetensors":
        export_weights(run, folder)
        return (
            f"`imagegen import safetensors FOLDER --out RUN` makes a run of this folder again. {WEIGHTS} has the "
            'parameters by name, "network/params/...", and `--pretrained.NETWORK FOLDER/' + WEIGHTS + ":NETWORK` takes "
            "those of one network."
        )
    if form == "lora":
        export_lora(run, folder / PAIRS)
        return USE_OF_PAIRS + USE_OF_PAIRS_IN_DIFFUSERS * named_in_diffusers(run.experiment.model)
    if form == "diffusers" and reads_text(run.experiment.model):
        missing = export_pipeline(run, folder)
        return USE_BY_TEXTS.replace('"FOLDER"', ", ".join(['"FOLDER"', *(f"{part}=None" for part in missing)]))
    if form == "diffusers":
        export_diffusers(run, folder)
        model = run.experiment.model
        height, width, channels = model.image_shape
        found = {"classes": num_classes(model), "channels": channels, "height": height, "width": width}
        return USE_WITH_CLASSES.format(**found) if num_classes(model) else USE_OF_DIFFUSERS
    inputs = export_sampler(run, folder, n)
    conditions = ", ".join(
        f'"{name}": np.{"zeros" if name == "label" else "ones"}({tuple(row["shape"])}, np.{row["dtype"]})'
        for name, row in inputs["conditions"].items()
    )
    return USE_OF_SAMPLER.format(file=FILE, inputs=INPUTS, conditions=f"{{{conditions}}}")
