"""What edits of given images by a denoiser share: reading such images, and writing what is made of them."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from imagegen_jax.cli.common.prompts import PromptRequest, add_prompts, conditions_of_prompts, texts_in_turn
from imagegen_jax.cli.common.runs import Opened, add_guide, add_scalar, classes_of, open_run, scalars_of
from imagegen_jax.cli.edit.common import GivenImagesRequest, add_images, checked_place, write_grid
from imagegen_jax.core.arrays.space import sample_shape, space_of
from imagegen_jax.core.drawing import draw
from imagegen_jax.core.drawing.grid import beside
from imagegen_jax.data.pictures.user_images import read_images
from imagegen_jax.editing import denoiser as editing
from imagegen_jax.editing.restoration import Edit, Given
from imagegen_jax.editing.rows import as_bytes, floats, made


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagesRequest(PromptRequest, GivenImagesRequest):
    """The fields that every edit of given images by a denoiser has."""

    guidance: float | None = None
    guide: str | pathlib.Path | None = None  # a second run, which guides this one


def opened_for(request: ImagesRequest, name: str) -> tuple[pathlib.Path, Opened]:
    """Checks the place of the picture, opens the run, and returns both. Raises what `open_run` raises."""
    place = checked_place(request)
    return place, open_run(request, f"imagegen edit {name}", request.guidance, request.guide)


def read(request: ImagesRequest, opened: Opened, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Reads the images of a request, which have to be of a `shape`; None: that of the model's images.

    Raises ValueError for images of other shapes, and for a model of latents.
    """
    model = editing.denoising_model(opened.model)
    if not space_of(model).draws_images:
        raise ValueError(
            f"{opened.run.workdir} is of a model of latents, which no image file holds: edit latents in Python, with "
            "the functions of imagegen_jax.editing.restoration"
        )
    return read_images(request.images, shape or sample_shape(model), request.fit)


def checked_factor(factor: int, opened: Opened) -> int:
    """Returns a factor. Raises ValueError where it does not divide the height and width of the model's images."""
    h, w, _ = sample_shape(editing.denoising_model(opened.model))
    if h % factor or w % factor:
        raise ValueError(f"--factor {factor}: must divide this model's images of {h}x{w}")
    return factor


def conditions_of(
    request: ImagesRequest, opened: Opened, n: int, labels: Sequence[int] | np.ndarray | None = None
) -> dict[str, Any]:
    """Returns the conditions of `n` images: `labels`, or else the request's in turn, likewise prompts, and guidance.

    Raises ValueError where a model of classes or of texts is given none, and for conditions that it does not read.
    """
    labels = (classes_of(request.labels, opened.run, n) or None) if labels is None else labels
    classes = opened.run.experiment.num_classes
    if classes and labels is None:
        raise ValueError(f"this model has {classes} classes: say of which one the images are, such as --labels 0")
    rows = None if labels is None else np.resize(labels, n)
    conditions = {**draw.label_conditions(rows), **scalars_of(opened.model, guidance=request.guidance)}
    conditions |= conditions_of_prompts(texts_in_turn(request, opened.model, n), request.negative_prompt, opened.run)
    draw.check_conditions(opened.model, n, conditions)
    return conditions


def made_of(
    request: ImagesRequest, opened: Opened, edit: Edit, rows: Given, arrays: Given | None = None, **settings: Any
) -> np.ndarray:
    """Edits `rows` as `editing.rows.made` does, with the request's seed and chunk."""
    seed, chunk, check = request.seed or 0, request.chunk, opened.check_used
    return made(opened.run, edit, rows, arrays, chunk=chunk, seed=seed, check=check, **settings)


def write_beside(
    request: ImagesRequest, opened: Opened, place: pathlib.Path, edit: Edit, images: np.ndarray, shown: np.ndarray,
    arrays: Given, **settings: Any,
) -> pathlib.Path:  # fmt: skip
    """Writes what `edit` makes of uint8 `images`, each beside what is `shown` of it."""
    rows = {"image": floats(images), "conditions": conditions_of(request, opened, len(images))}
    found = as_bytes(made_of(request, opened, edit, rows, arrays, **settings))
    return write_grid(place, beside(shown, found), max(1, round(len(found) ** 0.5)), opened)


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that all edits of given images by a denoiser have."""
    add_images(parser)
    add_prompts(parser, "none")
    add_scalar(parser, "guidance")
    add_guide(parser)
