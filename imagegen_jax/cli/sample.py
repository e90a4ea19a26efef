"""`imagegen sample`: images of a run, as a picture, a folder or an array."""

from __future__ import annotations

import argparse
import functools
import math
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from imagegen_jax.cli.options import integer
from imagegen_jax.cli.runs import (
    SCALARS,
    add_guide,
    add_run_options,
    add_scalar,
    check_used,
    classes_of,
    open_run,
    scalars_of,
    with_progress,
)  # fmt: skip
from imagegen_jax.core import draw
from imagegen_jax.core.grid import beside, grid, magnified, repeated
from imagegen_jax.core.image import is_image
from imagegen_jax.core.model import Model, condition_rows
from imagegen_jax.core.shard import mesh_of
from imagegen_jax.core.space import picture_of, sample_shape, space_of
from imagegen_jax.data.output import ARRAYS, FOLDER, PICTURES, check_output, check_picture_size, kind_of, write_picture
from imagegen_jax.data.streaming import check_folder, write_chunks
from imagegen_jax.data.user_images import read_images
from imagegen_jax.data.writers import WRITERS
from imagegen_jax.metrics.extractor import hash_tree
from imagegen_jax.run import Run

IMAGES = 64  # drawn where nothing else is asked for
_LATENTS = "what this model draws are latents, float32 in no range"
COLUMNS = 64  # of a grid, at most
PIXELS = 2**27  # of a grid, at most: larger ones take gigabytes to write and to look at

EXAMPLES = """examples:
  imagegen sample runs/demo --n 100
  imagegen sample runs/demo --n 20 --labels 3,7 --out grid.png
  imagegen sample runs/demo --n 50000 --out samples.npz       arr_0 images uint8, arr_1 labels
  imagegen sample runs/dit --n 5000 --out latents.npz         arr_0 latents float32, of a model of latents
  imagegen sample runs/demo --model.levels.steps 32 --out folder/
  imagegen sample runs/stylegan2 --truncation 0.7
  imagegen sample runs/edm_digits --guidance 2 --labels 3,7
  imagegen sample runs/edm_digits --guidance 4 --model.guidance interval --model.guidance.high 2
  imagegen sample runs/edm_digits --guide runs/edm_digits_guide --guidance 2        away from a weaker model
  imagegen sample runs/edm_digits --guide runs/noisy_classifier_digits --guidance 1    towards the labels
  imagegen sample runs/pix2pix --source facade.png other.jpg  your own images, translated
  imagegen sample runs/upsampler --source small.png           enlarged, by a model that learned to
  imagegen sample runs/cyclegan --source zebras.zip --model.direction to_source

A folder and an .npz are written as the images are drawn; where that is interrupted, the same command goes on."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen sample`."""
    add_run_options(parser)
    for name in SCALARS:
        add_scalar(parser, name)
    add_guide(parser)
    parser.add_argument("--n", type=integer(), help=f"how many images (default: {IMAGES}, or one for each --source)")
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
        help="images to translate: files, folders or .zip files (default: those that the run was trained on)",
    )  # fmt: skip


def run_command(options: argparse.Namespace, overrides: Sequence[str], modules: Sequence[str]) -> None:
    """Draws what the command line asks for, and writes it."""
    place, kind = check_output(options.out, (*PICTURES, *ARRAYS, FOLDER)), kind_of(options.out)
    if kind == FOLDER:
        check_folder(place, options.overwrite)
    elif kind in PICTURES and options.overwrite:
        raise ValueError(f"--overwrite: a {kind} takes the place of an earlier one anyway: leave it out")
    run = open_run(options, modules, overrides)
    model, data = run.experiment.model, run.experiment.data
    if kind == FOLDER and not space_of(model).draws_images:
        raise ValueError(f"--out {options.out}: {_LATENTS}, and no PNG can hold them: write an .npz or .npy")
    sources = _sources(options, model)
    n = len(next(iter(sources.values()))) if sources else options.n or IMAGES
    if kind in PICTURES:
        _check_grid(place, n, len(wanted_classes(options, run, n)), model)
    labels = labels_of(options, run, n)
    given = scalars_of(options, model) | sources
    conditions = draw.completed(given, model, data.open, n, options.seed)
    asked = {**conditions, **draw.label_conditions(labels)}
    check_used(options, model, lambda model: draw.program_text(model, run.nets, n, asked, options.chunk))
    chunks = functools.partial(run.sample_chunks, n, labels, options.seed, options.chunk, **conditions)
    if kind in PICTURES:
        shown = conditions.get(translated(model))
        images = np.concatenate(list(with_progress(chunks(), n)))
        write_samples(place, picture_of(model, images), labels, shown)
    else:
        writer = WRITERS[kind](place, n, labels)
        call = _call(options, run, n, overrides, conditions)
        write_chunks(writer, call, lambda start: chunks(start=start), options.overwrite)
    print(f"{n} images in {options.out}")
    if kind in PICTURES and not space_of(model).draws_images:
        print(f"a picture for looking at only: {_LATENTS}, which --out latents.npz writes", file=sys.stderr)


def _call(
    options: argparse.Namespace, run: Run, n: int, overrides: Sequence[str], conditions: draw.Conditions
) -> dict[str, Any]:
    """All that the images follow from: an interrupted call with the same goes on."""
    return {
        "run": str(run.workdir.resolve()),
        "step": run.step,
        "weights": hash_tree(run.nets)[:16],
        "options": " ".join(overrides),
        "guide": str(options.guide or ""),
        "n": n,
        "labels": options.labels or "",
        "seed": options.seed,
        "chunk": draw.chunk_on(mesh_of(run.nets), n, options.chunk),
        **{name: getattr(options, name) for name in SCALARS},
        "conditions": hash_tree(dict(conditions))[:16],
        "platform": jax.default_backend(),
    }


def _sources(options: argparse.Namespace, model: Model) -> dict[str, np.ndarray]:
    """What --source names, by the name that the model has for it; {} without the option."""
    if not options.source:
        return {}
    name = translated(model)
    if not name:
        raise ValueError(f"--source: a {type(model).__name__} makes images from none: leave it out")
    images = read_images(options.source, condition_rows(model)[name].shape)
    if options.n is not None and options.n > len(images):
        raise ValueError(f"--n {options.n}: there are {len(images)} images in --source")
    return {name: images[: options.n]}


def wanted_classes(options: argparse.Namespace, run: Run, n: int) -> list[int]:
    """Returns the classes of `n` images, those asked for or all; [] without classes."""
    return classes_of(options.labels, run, n) or list(range(run.experiment.num_classes))


def labels_of(options: argparse.Namespace, run: Run, n: int) -> np.ndarray | None:
    """Returns the class of each of `n` images, those of `wanted_classes` each as often and in order, or None."""
    wanted = wanted_classes(options, run, n)
    return np.sort(np.resize(np.asarray(wanted, np.int32), n), kind="stable") if wanted else None


def translated(model: Model) -> str:
    """Returns the name of the images that `model` makes its own from; "" where it makes them from none."""
    return next((name for name, row in condition_rows(model).items() if is_image(row.shape, row.dtype)), "")


def write_samples(
    path: pathlib.Path, images: np.ndarray, labels: np.ndarray | None, sources: np.ndarray | None = None
) -> None:
    """Writes uint8 images [n h w c] as a grid, each beside its source where these reach its height when magnified."""
    if sources is not None and images.shape[1] % sources.shape[1] == 0:
        images = beside(repeated(sources, images.shape[1]), images)
    columns = _columns(len(images), 0 if labels is None else len(np.unique(labels)))
    write_picture(path, magnified(grid(images, columns), images.shape[1]))


def _columns(n: int, classes: int) -> int:
    """A class a row where there are classes, else a square."""
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
