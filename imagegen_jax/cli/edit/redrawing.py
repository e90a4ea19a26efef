"""Edits that take given images to noise and back by a denoiser: redraw, resemble, morph, reclass."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

import numpy as np

from imagegen_jax.cli.common.options import integer, number
from imagegen_jax.cli.common.prompts import with_prompts
from imagegen_jax.cli.common.runs import classes_of
from imagegen_jax.cli.edit.common import edit, write_grid
from imagegen_jax.cli.edit.denoising import (
    ImagesRequest,
    add_image_options,
    checked_factor,
    conditions_of,
    made_of,
    opened_for,
    read,
    write_beside,
)
from imagegen_jax.editing import restoration
from imagegen_jax.editing.rows import as_bytes, floats


@dataclasses.dataclass(frozen=True, kw_only=True)
class RedrawRequest(ImagesRequest):
    """Images with noise, and without again: SDEdit."""

    out: str | pathlib.Path = "redraw.png"
    strength: float = 0.5  # 0 (nothing changes) to 1 (all)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResembleRequest(ImagesRequest):
    """Other images with the same means of squares of pixels: ILVR."""

    out: str | pathlib.Path = "resemble.png"
    factor: int = 4  # height and width of a square
    low: float = 0.0  # noise level below which all is free


@dataclasses.dataclass(frozen=True, kw_only=True)
class MorphRequest(ImagesRequest):
    """From each image to the next, by way of their noise: DDIM's inversion."""

    out: str | pathlib.Path = "morph.png"
    seed: int | None = None  # nothing is drawn at random
    columns: int = 7  # images in a row, with both ends


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReclassRequest(ImagesRequest):
    """Images as they would be in other classes, by way of their noise: DDIB."""

    source: str  # the class of the images, or that of each in turn
    to: str  # classes to show each image in, side by side
    out: str | pathlib.Path = "reclass.png"
    seed: int | None = None  # nothing is drawn at random
    strength: float = 1.0  # 0 (nothing changes) to 1, by way of noise alone


def redraw(request: RedrawRequest) -> pathlib.Path:
    """Writes images beside what becomes of them by noise and back, and returns the picture's place."""
    place, opened = opened_for(request, "redraw")
    images = read(request, opened)
    return write_beside(request, opened, place, restoration.redrawn, images, images, {}, strength=request.strength)


def resemble(request: ResembleRequest) -> pathlib.Path:
    """Writes images beside others with the same means of squares, and returns the picture's place."""
    place, opened = opened_for(request, "resemble")
    images, factor = read(request, opened), checked_factor(request.factor, opened)
    arrays = {"low": np.float32(request.low)}
    return write_beside(request, opened, place, restoration.resembling, images, images, arrays, factor=factor)


def morph(request: MorphRequest) -> pathlib.Path:
    """Writes a row from each image to the next, and returns the picture's place."""
    place, opened = opened_for(request, "morph")
    images = read(request, opened)
    _check_no_seed(request)
    if len(images) < 2:
        raise ValueError(f"{len(images)} images: at least 2 are needed to morph from one to the next")
    request, ways, steps = with_prompts(request), len(images) - 1, request.columns
    rows = {"image": floats(images), "conditions": conditions_of(request, opened, ways + 1)}
    noise = made_of(request, opened, restoration.inverted, rows)
    rows = {
        "image": noise[:-1].repeat(steps, axis=0),
        "other": noise[1:].repeat(steps, axis=0),
        "share": np.tile(np.linspace(0, 1, steps, dtype=np.float32), ways),
        "conditions": conditions_of(request, opened, ways * steps),
    }
    return write_grid(place, as_bytes(made_of(request, opened, restoration.morphed, rows)), steps, opened)


def reclass(request: ReclassRequest) -> pathlib.Path:
    """Translates images to other classes, writes both side by side, and returns the picture's place."""
    place, opened = opened_for(request, "reclass")
    images, run = read(request, opened), opened.run
    _check_no_seed(request)
    if not run.experiment.num_classes:
        raise ValueError("this model knows no classes to go between: use a run of one that does")
    if request.labels:
        raise ValueError(f"--labels {request.labels}: here classes have the names --from and --to")
    of_images, to = classes_of(request.source, run, len(images), "--from"), classes_of(request.to, run, option="--to")
    request, n, ways = with_prompts(request), len(images), len(to)
    source = conditions_of(request, opened, n * ways, np.repeat(np.resize(of_images, n), ways))
    if "guidance" in source:
        source["guidance"] = 1.0  # exaggerated on the way up, the noise would be none of the model's
    target = conditions_of(request, opened, n * ways, to)
    rows = {"image": floats(images.repeat(ways, axis=0)), "source": source, "conditions": target}
    found = as_bytes(made_of(request, opened, restoration.bridged, rows, strength=request.strength))
    found = found.reshape(n, ways, *images.shape[1:])
    pictures = np.concatenate([images[:, None], found], axis=1).reshape(-1, *images.shape[1:])
    return write_grid(place, pictures, ways + 1, opened)


def _check_no_seed(request: ImagesRequest) -> None:
    """Raises ValueError for a seed, where an edit goes by way of an image's own noise."""
    if request.seed is not None:
        raise ValueError(f"--seed {request.seed}: nothing is drawn at random here: leave it out")


def _redraw_options(parser: argparse.ArgumentParser) -> None:
    add_image_options(parser)
    parser.add_argument(
        "--strength", type=number(0, 1), default=0.5, help="0 (nothing changes) to 1 (all) (default: 0.5)"
    )


def _resemble_options(parser: argparse.ArgumentParser) -> None:
    add_image_options(parser)
    parser.add_argument("--factor", type=integer(2), default=4, help="height and width of a square (default: 4)")
    parser.add_argument("--low", type=number(0), default=0.0, help="noise level below which all is free (default: 0)")


def _morph_options(parser: argparse.ArgumentParser) -> None:
    add_image_options(parser)
    parser.add_argument("--columns", type=integer(2), default=7, help="images in a row, with both ends (default: 7)")
    parser.set_defaults(seed=None)


def _reclass_options(parser: argparse.ArgumentParser) -> None:
    add_image_options(parser)
    parser.add_argument(
        "--from", required=True, dest="source", metavar="CLASSES",
        help="the class of the images, or that of each in turn, e.g. 3,3,5 or cat",
    )  # fmt: skip
    parser.add_argument(
        "--to", required=True, metavar="CLASSES",
        help="classes to show each image in, side by side, e.g. 5,8",
    )  # fmt: skip
    parser.add_argument(
        "--strength", type=number(0, 1), default=1.0,
        help="0 (nothing changes) to 1, by way of noise alone (default: 1)",
    )  # fmt: skip
    parser.set_defaults(seed=None)


EDITS = (
    edit(
        "redraw", "images with noise, and without again: SDEdit", RedrawRequest, redraw, _redraw_options,
        aliases=("sdedit",),
    ),
    edit(
        "resemble", "other images with the same means of squares of pixels: ILVR", ResembleRequest, resemble,
        _resemble_options, aliases=("ilvr",),
    ),
    edit("morph", "from each image to the next, by way of their noise: DDIM's inversion", MorphRequest, morph,
         _morph_options),
    edit(
        "reclass", "images as they would be in other classes, by way of their noise: DDIB", ReclassRequest, reclass,
        _reclass_options, aliases=("ddib",),
    ),
)  # fmt: skip
