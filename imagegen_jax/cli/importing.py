"""`imagegen import`: a run folder of a model that was trained elsewhere."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

from imagegen_jax.cli.common.command import Command
from imagegen_jax.core.arrays.space import sample_words
from imagegen_jax.core.reporting import summary
from imagegen_jax.core.reporting.progress import activity
from imagegen_jax.core.run import Run
from imagegen_jax.data.pictures.output import FOLDER, check_output
from imagegen_jax.interop.diffusers_folder import import_diffusers
from imagegen_jax.interop.exports.weights import import_weights
from imagegen_jax.interop.kinds import KINDS, import_checkpoint

FOLDERS = {"diffusers": import_diffusers, "safetensors": import_weights}  # the rest are files

EXAMPLES = """examples:
  imagegen import diffusers ddpm-cifar10-32 --out runs/ddpm_cifar10
  imagegen import diffusers ddpm-church-256 --out runs/church --data tfds:lsun/church_outdoor
  imagegen import stylegan2-ada ffhq.pkl --out runs/ffhq
  imagegen import edm2 edm2-img64-s-1073741-0.075.pkl --out runs/edm2_s
  imagegen import guided-diffusion 256x256_diffusion_uncond.pt --out runs/adm
  imagegen import guided-diffusion my_model.pt --out runs/mine --set size=128 heads=2 head_channels=0
  imagegen import guided-diffusion-classifier 256x256_classifier.pt --out runs/adm_classifier
  imagegen import latent-diffusion cin256-v2.ckpt --out runs/ldm
  imagegen import taming-transformer cin_transformer.ckpt --out runs/taming --set classes=1000
  imagegen import diffusers stable-diffusion-v1-5 --out runs/sd
  imagegen import diffusers stable-diffusion-xl-base-1.0 --out runs/sdxl
  imagegen sample runs/ddpm_cifar10 --model.sampler DDIM --model.sampler.steps 50
  imagegen sample runs/adm --guide runs/adm_classifier --guidance 1 --n 4
  imagegen sample runs/sd --prompt "a red fox in the snow" --guidance 7.5 --n 4

A folder of diffusers is one that its `save_pretrained` wrote, or a copy of a published one:
  DDPMPipeline, DDIMPipeline     such as google/ddpm-cifar10-32: model_index.json, unet/ and scheduler/, or what is in
                                 these side by side; a U-Net of DDPM's design, or of ADM's as in diffusers' tutorials
  StableDiffusionPipeline        Stable Diffusion 1 and 2, with vae/, text_encoder/ and tokenizer/; no inpainting
  StableDiffusionXLPipeline      with text_encoder_2/ and tokenizer_2/ too; the base, not the refiner
  StableDiffusion3Pipeline       with transformer/ and, unless they are left out, text_encoder_3/ and tokenizer_3/
  PixArtAlphaPipeline            by a text that T5 reads: pip install 'imagegen_jax[t5]'
  DiTPipeline                    by classes
  ConsistencyModelPipeline       in one step; in two: --model.levels.sigmas 80 1.38
  LDMPipeline                    latent diffusion without a text, with vqvae/
The scheduler is a DDPM-, DDIM-, DPMSolverMultistep-, EulerDiscrete-, PNDM-, UniPCMultistep- or
FlowMatchEulerDiscreteScheduler. Weights are .safetensors or .bin, whole or in parts. safety_checker/ and
feature_extractor/ are not read. Samples of a DDIMScheduler equal
those of diffusers' own pipeline, which keeps the noise of estimates before they are clipped;
--model.sampler.clipped_noise takes that of the clipped ones, as a DDIM of this package does where it is not told
otherwise.

A folder of safetensors is one that `imagegen export` wrote.

The other kinds are files of the authors' own code. Nothing in a pickle is executed. Where a file has averaged weights,
they are taken. What a bare state dict does not say is said by --set; the defaults are those of the published networks.
taesd takes the authors' taesd_encoder.pth with taesd_decoder.pth beside it, and tiny-autoencoder the one file that
diffusers' AutoencoderTiny saves, for --pretrained.autoencoder RUN.

The run has no optimizer. To train on from its weights, name it in an experiment with the same network:
  pretrained={"network": "runs/ddpm_cifar10"}"""


@dataclasses.dataclass(frozen=True)
class ImportRequest:
    """What to import, and the run folder to make of it."""

    library: str  # "diffusers", "safetensors" or a kind of checkpoint
    folder: str | pathlib.Path  # to which the model was saved; of a checkpoint, the file
    out: str | pathlib.Path  # the run folder to make
    data: str | None = None  # what it was trained on
    set: tuple[str, ...] = ()  # options of the kind, "size=64"


def run(request: ImportRequest) -> Run:
    """Makes the run folder, says what it holds and returns the run. Raises ValueError for what cannot be imported."""
    check_output(request.out, (FOLDER,))
    with activity(f"importing {request.folder}"):
        made = _imported(request)
    count, model = summary.count(made.state.params), made.experiment.model
    kind = f"a {type(model).__name__} of {sample_words(model)}"
    print(f"{made.workdir}: {kind}, {count:,} parameters, from {request.folder}")
    return made


def _imported(request: ImportRequest) -> Run:
    if request.library in FOLDERS:
        if request.set:
            raise ValueError(
                f"--set {request.set[0]}: a folder of {request.library} says all of its model: leave it out"
            )
        return FOLDERS[request.library](request.folder, request.out, request.data)
    if request.library in KINDS:
        return import_checkpoint(request.library, request.folder, request.out, request.data, request.set)
    raise ValueError(f"{request.library!r} is no kind of model: give {', '.join((*FOLDERS, *KINDS))}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen import`."""
    kinds = (*FOLDERS, *KINDS)
    parser.add_argument("library", choices=kinds, metavar="KIND", help=f"what saved the model: {', '.join(kinds)}")
    parser.add_argument(
        "folder", type=pathlib.Path, metavar="PATH", help="the folder, or the file, that it was saved to"
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="RUN", help="the run folder to make")
    parser.add_argument("--data", help="what it was trained on: a TFDS name, a folder, a .zip or an .npz")
    parser.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="NAME=VALUE",
        help="what a bare state dict does not say of its model",
    )  # fmt: skip


COMMAND = Command(
    "import", "make a run of a model that was trained elsewhere", add_options, ImportRequest, run, EXAMPLES
)
