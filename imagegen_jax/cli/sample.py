"""`imagegen sample`: images of a run, as a picture, a folder or an array."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

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
from imagegen_jax.cli.common.sampled import check_grid, translated, write_row, write_samples
from imagegen_jax.core.arrays.shard import mesh_of
from imagegen_jax.core.arrays.space import picture_of, space_of
from imagegen_jax.core.drawing import draw
from imagegen_jax.core.drawing.rejection import Rejection
from imagegen_jax.core.model import Model, condition_rows
from imagegen_jax.core.platform.target import platform_here
from imagegen_jax.core.run import Run
from imagegen_jax.data.pictures.output import (
    ARRAYS,
    FOLDER,
    PICTURES,
    check_output,
    kind_of,
)
from imagegen_jax.data.pictures.streaming import check_folder, with_progress, write_chunks
from imagegen_jax.data.pictures.user_images import read_images
from imagegen_jax.data.pictures.writers import WRITERS
from imagegen_jax.metrics.features.extractor import hash_tree

IMAGES = 64  # drawn where nothing else is asked for
_LATENTS = "what this model draws are latents, float32 in no range"

EXAMPLES = """examples:
  imagegen sample runs/demo --n 100
  imagegen sample runs/edm_digits --n 20 --labels 3,7 --out grid.png
  imagegen sample runs/edm_digits --n 50000 --out samples.npz  arr_0 images uint8, arr_1 labels
  imagegen sample runs/dit --n 5000 --out latents.npz         arr_0 latents float32, of a model of latents
  imagegen sample runs/demo --model.levels.steps 32 --out folder/
  imagegen sample runs/demo --n 50000 --row 123 --out row.png          one of them, the same as among all
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
    row: int | None = None  # one of the n images, from 0, alone
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

    @property
    def begins_with_images(self) -> bool:
        """Tells whether images are given to make others from."""
        return bool(self.source)


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
    asked = _asked(request, opened, place, kind)
    labels, n, texts = asked.labels, asked.n, asked.texts
    if request.row is not None:
        write_row(place, _row_of(request, opened, asked), request.row, texts, opened.origin)
    elif kind in PICTURES:
        images = picture_of(model, np.concatenate(list(with_progress(asked.chunks(), n))))
        write_samples(place, images, labels, asked.conditions.get(translated(model)), texts, opened.origin)
    else:
        writer = WRITERS[kind](place, n, labels, texts, opened.origin)
        call = _call(request, opened.run, n, asked.conditions, asked.judge)
        write_chunks(writer, call, lambda start: asked.chunks(start=start), request.overwrite)
    among = "" if asked.kept is None or labels is None else f", the likeliest of {asked.kept.total(labels):,}"
    what = f"{n} images" if request.row is None else f"image {request.row} of {n}"
    print(f"{what} in {request.out}{among}")
    if kind in PICTURES and not space_of(model).draws_images:
        print(f"a picture for looking at only: {_LATENTS}, which --out latents.npz writes", file=sys.stderr)
    return place


class _Asked(NamedTuple):
    """The images that a request asks for: `chunks(start=row)` draws them."""

    n: int
    labels: np.ndarray | None
    texts: tuple[str, ...]
    conditions: dict[str, Any]
    judge: Judge | None
    kept: Rejection | None
    chunks: Callable[..., Iterator[np.ndarray]]


def _asked(request: SampleRequest, opened: Opened, place: pathlib.Path, kind: str) -> _Asked:
    """Finds what a request asks for. Raises ValueError for what cannot be drawn, or not written at `place`."""
    model, run = opened.model, opened.run
    sources, prompts = _sources(request, model), prompts_of(request)
    n = len(next(iter(sources.values()))) if sources else number_of_images(prompts, request.n, IMAGES)
    if request.row is not None and (kind not in PICTURES or request.row >= n):
        raise ValueError(f"--row {request.row}: one of {n:,} images, from 0, as a picture (--out row.png): give that")
    texts = drawn_texts(prompts, run, n, request.seed or 0)
    if kind in PICTURES and request.row is None:
        check_grid(place, n, len(wanted_classes(request.labels, run, n)), model)
    labels = labels_of(request.labels, run, n)
    given = sources | conditions_of_prompts(texts, request.negative_prompt, run)
    conditions = _conditions(request, opened, n, labels, given)
    judge = judge_of(request, run, request.modules)
    kept = rejection_of(request, judge)
    seed, chunk = request.seed or 0, request.chunk
    chunks = functools.partial(run.sample_chunks, n, labels, seed, chunk, reject=kept, **conditions)
    return _Asked(n, labels, tuple(texts), conditions, judge, kept, chunks)


def _row_of(request: SampleRequest, opened: Opened, asked: _Asked) -> np.ndarray:
    """Draws the one image [h w c] that a request asks for, with the others of its chunk, so that it is the same."""
    assert request.row is not None
    size = 1 if asked.kept else draw.chunk_on(mesh_of(opened.run.nets), asked.n, request.chunk)
    start = request.row // size * size
    drawn = next(iter(asked.chunks(start=start)))[request.row - start]
    return picture_of(opened.model, drawn[None])[0]


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
    parser.add_argument("--row", type=integer(0), help="draw this one of the images alone, from 0, and not a grid")
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
        "--source", action="extend", nargs="+", metavar="PLACE",
        help="images to translate or reconstruct: files, folders or .zip files (default: those of the training data)",
    )  # fmt: skip


COMMAND = Command("sample", "draw images from a run", add_options, SampleRequest, run, EXAMPLES, takes_more=True)
