"""`imagegen import`: a run folder of a model that was trained with another library."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from typing import Literal

from imagegen_jax.cli.common.command import Command
from imagegen_jax.core.reporting import summary
from imagegen_jax.core.run import Run
from imagegen_jax.data.pictures.output import FOLDER, check_output
from imagegen_jax.interop.importing import import_diffusers

EXAMPLES = """examples:
  imagegen import diffusers ddpm-cifar10-32 --out runs/ddpm_cifar10
  imagegen import diffusers ddpm-church-256 --out runs/church --data tfds:lsun/church_outdoor
  imagegen sample runs/ddpm_cifar10 --model.sampler DDIM --model.sampler.steps 50

The folder is one that diffusers' `save_pretrained` wrote, or a copy of a published one such as google/ddpm-cifar10-32:
model_index.json, unet/ and scheduler/, or what is in these side by side; weights as .safetensors. Its network must be
the U-Net of DDPM, and its scheduler a DDPMScheduler or a DDIMScheduler. Samples of the latter equal those of diffusers'
own pipeline, which keeps the noise of estimates before they are clipped; --model.sampler.clipped_noise takes that
of the clipped ones, as a DDIM of this package does where it is not told otherwise.

The run has no optimizer. To train on from its weights, name it in an experiment with the same network:
  pretrained={"network": "runs/ddpm_cifar10"}"""


@dataclasses.dataclass(frozen=True)
class ImportRequest:
    """What to import, and the run folder to make of it."""

    library: Literal["diffusers"]
    folder: str | pathlib.Path  # to which the model was saved
    out: str | pathlib.Path  # the run folder to make
    data: str | None = None  # what it was trained on


def run(request: ImportRequest) -> Run:
    """Makes the run folder, says what it holds and returns the run. Raises what `import_diffusers` raises."""
    check_output(request.out, (FOLDER,))
    made = import_diffusers(request.folder, request.out, request.data)
    count, model = summary.count(made.state.params), made.experiment.model
    size = "x".join(map(str, model.image_shape))
    print(f"{made.workdir}: a {type(model).__name__} of {size} images, {count:,} parameters, from {request.folder}")
    return made


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen import`."""
    parser.add_argument("library", choices=("diffusers",), help="what the model was saved with")
    parser.add_argument("folder", type=pathlib.Path, help="the folder that it was saved to")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="RUN", help="the run folder to make")
    parser.add_argument("--data", help="what it was trained on: a TFDS name, a folder, a .zip or an .npz")


COMMAND = Command(
    "import", "make a run of a model trained with another library", add_options, ImportRequest, run, EXAMPLES
)
