"""`imagegen sample`: images of a run, as a picture, a folder or an array."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.options import integer
from imagegen_jax.cli.common.prompts import (
    PromptRequest,
    add_prompts,
    conditions_of_prompts,
    drawn_texts,
    number_of_images,
    prompts_of,
)
from imagegen_jax.cli.common.rejecting import Judge, RejectionRequest, add_rejection, judge_of, rejection_of
from imagegen_jax.cli.common.runs import (
    SCALARS,
    Opened,
    RunRequest,
    add_guide,
    add_run_options,
    add_scalar,
    classes_of,
    open_run,
    scalars_of,
)
from imagegen_jax.core.arrays.image import is_image
from imagegen_jax.core.arrays.shard import mesh_of
from imagegen_jax.core.arrays.space import picture_of, sample_shape, space_of
from imagegen_jax.core.drawing import draw
from imagegen_jax.core.drawing.grid import beside, grid, magnified, repeated
from imagegen_jax.core.model import Model, condition_rows
from imagegen_jax.core.platform.target import platform_here
from imagegen_jax.core.run import Run
from imagegen_jax.data.pictures import captions
from imagegen_jax.data.pictures.output import (
    ARRAYS,
    FOLDER,
    PICTURES,
    check_output,
    check_picture_size,
    kind_of,
    write_picture,
)
from imagegen_jax.data.pictures.streaming import check_folder, with_progress, write_chunks
from imagegen_jax.data.pictures.user_images import read_images
from imagegen_jax.data.pictures.writers import WRITERS
from imagegen_jax.metrics.features.extractor import hash_tree

IMAGES = 64  # drawn where nothing else is asked for
_LATENTS = "what this model draws are latents, float32 in no range"
COLUMNS = 64  # of a grid, at most
PIXELS = 2**27  # of a grid, at most: larger ones take gigabytes to write and to look at

EXAMPLES = """examples:
  imagegen sample runs/demo --n 100
  imagegen sample runs/edm_digits --n 20 --labels 3,7 --out grid.png
  imagegen sample runs/edm_digits --n 50000 --out samples.npz  arr_0 images uint8, arr_1 labels
  imagegen sample runs/dit --n 5000 --out latents.npz         arr_0 latents float32, of a model of latents
  imagegen sample runs/demo --model.levels.steps 32 --out folder/
  imagegen sample runs/stylegan2 --truncation 0.7
  imagegen sample runs/edm_digits --guidance 2 --labels 3,7
  imagegen sample runs/shapes_text --prompt "a small red circle on the left" --prompt "a blue square" --guidance 3
  imagegen sample runs/shapes_text --prompts prompts.txt --negative-prompt "a red circle" --guidance 5
  imagegen sample runs/sd --prompt "a red fox" --guidance 7.5 --lora style.safetensors --lora-scale 0.8
  imagegen sample runs/gpt_digits --temperature 0.9 --top_k 40
  imagegen sample runs/gpt_digits --rejection 0.25            the best quarter of four times as many
  imagegen sample runs/vqgan_gpt --rejection 0.05 --classifier runs/resnet
  imagegen sample runs/edm_digits --guidance 4 --model.guidance GuidanceInterval --model.guidance.high 2
  imagegen sample runs/edm_digits --guide runs/edm_digits_guide --guidance 2        away from a weaker model
  imagegen sample runs/edm_digits --guide runs/noisy_classifier_digits --guidance 1    towards the labels
  imagegen sample runs/pix2pix --source facade.png other.jpg  your own images, translated
  imagegen sample runs/upsampler --source small.png           enlarged, by a model that learned to
  imagegen sample runs/cyclegan --source zebras.zip --model.direction to_source

A folder and an .npz are written as the images are drawn; where that is interrupted, the same command goes on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleRequest(PromptRequest, RejectionRequest, RunRequest):
    """Which images to draw from a run, and where to write them."""

    n: int | None = None  # None: 64, or one for each of `source`, or 8 of each prompt where these are few
    out: str | pathlib.Path = "grid.png"  # a picture, a folder/, an .npz or an .npy
    overwrite: bool = False  # begin anew where `out` holds an earlier call's images
    chunk: int = 256  # images drawn at a time
    source: tuple[str, ...] | None = (
        None  # places of images to make others from; None: those that the run was trained on
    )
    truncation: float | None = None
    guidance: float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    guide: str | pathlib.Path | None = None  # a second run, which guides this one


def run(request: SampleRequest) -> pathlib.Path:
    """Draws what a request asks for, writes it, says so and returns the place.

    Raises ValueError, before anything is drawn, for a place that cannot be written, for what the run's model cannot
    draw, and for what it would not read.
    """
    place, kind = check_output(request.out, (*PICTURES, *ARRAYS, FOLDER)), kind_of(request.out)
    if kind == FOLDER:
        check_folder(place, request.overwrite)
    elif kind in PICTURES and request.overwrite:
        raise ValueError(f"--overwrite: a {kind} takes the place of an earlier one anyway: leave it out")
    opened = open_run(request, "imagegen sample", request.guidance, request.guide)
    model = opened.model
    if kind == FOLDER and not space_of(model).draws_images:
        raise ValueError(f"--out {request.out}: {_LATENTS}, and no PNG can hold them: write an .npz or .npy")
    sources, prompts = _sources(request, model), prompts_of(request)
    n = len(next(iter(sources.values()))) if sources else number_of_images(prompts, request.n, IMAGES)
    texts = drawn_texts(prompts, opened.run, n, request.seed or 0)
    if kind in PICTURES:
        _check_grid(place, n, len(wanted_classes(request.labels, opened.run, n)), model)
    labels = labels_of(request.labels, opened.run, n)
    given = sources | conditions_of_prompts(texts, request.negative_prompt, opened.run)
    conditions = _conditions(request, opened, n, labels, given)
    judge = judge_of(request, opened.run, request.modules)
    kept = rejection_of(request, judge)
    chunks = functools.partial(
        opened.run.sample_chunks, n, labels, request.seed or 0, request.chunk, reject=kept, **conditions
    )
    if kind in PICTURES:
        images = np.concatenate(list(with_progress(chunks(), n)))
        write_samples(place, picture_of(model, images), labels, conditions.get(translated(model)), texts)
    else:
        writer = WRITERS[kind](place, n, labels, texts)
        call = _call(request, opened.run, n, conditions, judge)
        write_chunks(writer, call, lambda start: chunks(start=start), request.overwrite)
    among = "" if kept is None or labels is None else f", the likeliest of {kept.total(labels):,}"
    print(f"{n} images in {request.out}{among}")
    if kind in PICTURES and not space_of(model).draws_images:
        print(f"a picture for looking at only: {_LATENTS}, which --out latents.npz writes", file=sys.stderr)
    return place


def _conditions(
    request: SampleRequest, opened: Opened, n: int, labels: np.ndarray | None, rows: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Returns the conditions beside labels; `rows` are sources and texts.

    Raises ValueError for options of the model that change nothing.
    """
    model, run = opened.model, opened.run
    scalars = scalars_of(model, **{name: getattr(request, name) for name in SCALARS})
    given = dict(draw.filled_from_data(scalars | rows, model, run.experiment.data.open, n, request.seed or 0))
    asked = {**given, **draw.label_conditions(labels)}
    opened.check_used(lambda model: draw.program_text(model, run.nets, n, asked, request.chunk))
    return given


def _call(request: SampleRequest, run: Run, n: int, conditions: draw.Conditions, judge: Judge | None) -> dict[str, Any]:
    """Returns all that the images follow from: a call with the same goes on where an interrupted one stopped."""
    return {
        "run": str(run.workdir.resolve()),
        "step": run.step,
        "weights": hash_tree(run.nets)[:16],
        "options": " ".join(request.overrides),
        "guide": str(request.guide or ""),
        "n": n,
        "labels": request.labels or "",
        "seed": request.seed,
        "chunk": draw.chunk_on(mesh_of(run.nets), n, request.chunk),
        "truncation": request.truncation,
        "guidance": request.guidance,
        "rejection": request.rejection,
        "classifier": judge.fingerprint if judge else None,
        "conditions": hash_tree(dict(conditions))[:16],
        "platform": platform_here(),
    }


def _sources(request: SampleRequest, model: Model) -> dict[str, np.ndarray]:
    """Reads the images of --source, by the name that the model has for them; {} without the option."""
    if not request.source:
        return {}
    name = translated(model)
    if not name:
        raise ValueError(f"--source: a {type(model).__name__} makes images from none: leave it out")
    images = read_images(request.source, condition_rows(model)[name].shape)
    if request.n is not None and request.n > len(images):
        raise ValueError(f"--n {request.n}: there are {len(images)} images in --source")
    return {name: images[: request.n]}


def wanted_classes(labels: str | None, run: Run, n: int) -> list[int]:
    """Returns the classes that `n` images are to show: those that `labels` names, or all; [] without classes."""
    return classes_of(labels, run, n) or list(range(run.experiment.num_classes))


def labels_of(labels: str | None, run: Run, n: int) -> np.ndarray | None:
    """Returns the class of each of `n` images: those of `wanted_classes` in order, equally often; None without."""
    wanted = wanted_classes(labels, run, n)
    return np.sort(np.resize(np.asarray(wanted, np.int32), n), kind="stable") if wanted else None


def translated(model: Model) -> str:
    """Returns the name of the images that `model` makes its own from; "" where it makes them from none."""
    return next((name for name, row in condition_rows(model).items() if is_image(row.shape, row.dtype)), "")


def write_samples(
    path: pathlib.Path,
    images: np.ndarray,
    labels: np.ndarray | None,
    sources: np.ndarray | None = None,
    prompts: Sequence[str] = (),
) -> None:
    """Writes uint8 images [n h w c] as a grid, each beside its source where that can be magnified to its height.

    Those of one of few prompts are under its words; the metadata of a PNG name all prompts.
    """
    if sources is not None and images.shape[1] % sources.shape[1] == 0:
        images = beside(repeated(sources, images.shape[1]), images)
    different = len(set(prompts))
    columns = _columns(len(images), different if labels is None else len(np.unique(labels)))
    if 0 < different <= captions.MOST:
        picture = captions.by_prompt(images, prompts, columns)
    else:
        picture = magnified(grid(images, columns), images.shape[1])
    write_picture(path, picture, prompts)


def _columns(n: int, classes: int) -> int:
    """Returns the columns of a grid: a class a row where there are classes, else a square."""
    rows = min(classes, n)
    return min(COLUMNS, max(1, round(n / rows if rows else n**0.5)))


def _check_grid(place: pathlib.Path, n: int, classes: int, model: Model) -> None:
    """Raises ValueError where a grid of so many images would be larger than a picture can be, before they are drawn."""
    height, width, _ = sample_shape(model)
    row = condition_rows(model).get(translated(model))
    if row is not None and height % row.shape[0] == 0:
        width += row.shape[1] * (height // row.shape[0])
    zoom, columns = magnified(np.zeros((1, 1, 1), np.uint8), height).shape[0], _columns(n, classes)
    height, width = (2 + count * (side + 2) for count, side in ((math.ceil(n / columns), height), (columns, width)))
    if height * width * zoom**2 > PIXELS:
        raise ValueError(
            f"--n {n}: a picture of so many images would have {height * zoom}x{width * zoom} pixels: write them to a "
            "folder/ or an .npz (--out), or ask for fewer"
        )
    check_picture_size(place, height * zoom, width * zoom)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen sample`."""
    add_run_options(parser)
    for name in SCALARS:
        add_scalar(parser, name)
    add_guide(parser)
    add_rejection(parser)
    add_prompts(parser)
    parser.add_argument(
        "--n", type=integer(), help=f"how many images (default: {IMAGES}, one for each --source, 8 of each --prompt)"
    )
    parser.add_argument(
        "--out",
        default="grid.png",
        help="a grid .png, .jpg or .webp, a folder/ of PNGs, or the arrays as .npz or .npy (default: grid.png)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="begin anew where --out holds an earlier call's images"
    )
    parser.add_argument("--chunk", type=integer(), default=256, help="images drawn at a time (default: 256)")
    parser.add_argument(
        "--source", nargs="+", metavar="PLACE",
        help="images to translate or reconstruct: files, folders or .zip files (default: those of the training data)",
    )  # fmt: skip


COMMAND = Command("sample", "draw images from a run", add_options, SampleRequest, run, EXAMPLES, takes_more=True)
