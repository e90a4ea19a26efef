"""`imagegen export`: a run as files that others read."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from typing import Literal, get_args

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.options import integer, step
from imagegen_jax.core.reporting.progress import activity
from imagegen_jax.core.run import load
from imagegen_jax.data.pictures.output import FOLDER, check_output
from imagegen_jax.interop.exports.card import check_licence
from imagegen_jax.interop.exports.export import Form, export_run

EXAMPLES = """examples:
  imagegen export runs/demo --to safetensors --out demo --licence cc-by-4.0
  imagegen export runs/ddpm_cifar10 --to diffusers --out ddpm_cifar10
  imagegen export runs/demo --to stablehlo --n 16 --out sampler
  imagegen export runs/sd_my_style --to lora --out my_style

Weights are those that sampling reads: averaged where the run keeps an average. `imagegen import safetensors` makes a
run of the first again, to the last bit. A sampler is one file with its weights that JAX runs without this package, on
CPU, GPU and TPU, for a number of images and any seed. As diffusers there are DDPM's U-Net and, with an AutoencoderKL,
these designs of texts: Stable Diffusion 1 and 2 (LatentUNet, CLIPText), XL (two CLIPText), 3 (MMDiT, two CLIPText and
T5 or none) and PixArt-alpha (PixArt, T5), each with the tokenizers of its encoders. Of a run with --lora.rank, lora is
its low-rank pairs alone, as pytorch_lora_weights.safetensors, which `load_lora_weights` of diffusers reads where the
network is one of Stable Diffusion's, and `--lora FILE` here; other forms have them in the weights. Each folder has a
model card, README.md."""


@dataclasses.dataclass(frozen=True)
class ExportRequest:
    """Which run to export, in which form, and where to."""

    run: str | pathlib.Path  # the run's folder
    to: Form
    out: str | pathlib.Path  # the folder to write
    n: int = 16  # images that a sampler draws
    average: str | None = None  # which moving average; None: the first
    step: int | Literal["best"] | None = None  # which checkpoint; None: the newest good one
    licence: str | None = None  # for the model card


def run(request: ExportRequest) -> pathlib.Path:
    """Writes the export, says what it is and returns its folder. Raises ValueError for what cannot be exported."""
    check_output(request.out, (FOLDER,))
    if request.licence is not None:
        check_licence(request.licence)
    found = load(request.run, step=request.step).with_average(request.average)
    with activity(f"writing {request.out}"):
        folder = export_run(found, request.to, request.out, request.n, request.licence)
    files = ", ".join(sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()))
    print(f"{folder}: {found.workdir} at step {found.step:,} as {request.to}: {files}")
    return folder


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen export`."""
    parser.add_argument("run", type=pathlib.Path, help="the run's folder")
    parser.add_argument("--to", choices=get_args(Form), required=True, help="the form")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FOLDER", help="the folder to write")
    parser.add_argument("--n", type=integer(1), default=16, help="how many images a sampler draws (default: 16)")
    parser.add_argument("--average", metavar="NAME", help="which moving average (none: the last step's weights)")
    parser.add_argument("--step", type=step, help="which checkpoint, or 'best' (default: the newest)")
    parser.add_argument(
        "--licence", "--license", metavar="NAME",
        help="the licence of the weights, for the model card (default: what `imagegen card` was told)",
    )  # fmt: skip


COMMAND = Command("export", "write a run as files that others read", add_options, ExportRequest, run, EXAMPLES)
