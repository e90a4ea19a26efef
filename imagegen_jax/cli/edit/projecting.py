"""`imagegen edit project`: the images of a generator that are nearest to those given."""

from __future__ import annotations

import argparse
import dataclasses
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from imagegen_jax.cli.common.options import integer, number
from imagegen_jax.cli.common.runs import Opened, classes_of, open_run
from imagegen_jax.cli.edit.common import GivenImagesRequest, add_images, checked_place, edit, write_grid
from imagegen_jax.cli.edit.styles import check_latents_used
from imagegen_jax.core.arrays.image import to_float, to_uint8
from imagegen_jax.core.drawing import draw
from imagegen_jax.core.drawing.finite import check_finite_images
from imagegen_jax.core.drawing.grid import beside
from imagegen_jax.core.files.regular import whole
from imagegen_jax.data.pictures.output import check_output
from imagegen_jax.data.pictures.user_images import read_images
from imagegen_jax.editing import latents
from imagegen_jax.editing.projection import project as projected
from imagegen_jax.metrics.features.distances import DISTANCES, distance_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProjectRequest(GivenImagesRequest):
    """The images of the model that are nearest to those given."""

    out: str | pathlib.Path = "project.png"
    steps: int = 1000
    rate: float = 0.1  # largest learning rate
    distance: str = "pixels"
    styles: str | pathlib.Path | None = None  # an .npz for the styles found, as w [n l d]


def project(request: ProjectRequest) -> pathlib.Path:
    """Writes each image beside the nearest of the model, says how far they are, and returns the picture's place."""
    place = checked_place(request)
    styles = None if request.styles is None else check_output(request.styles, (".npz",), "--styles")
    opened = open_run(request, "imagegen edit project")
    run, model = opened.run, latents.style_model(opened.model)
    label = _one_label(request, opened)
    target = read_images(request.images, model.image_shape, request.fit)
    distance = distance_of(request.distance, model.image_shape, run.experiment.data)
    key, images = jax.random.key(request.seed or 0), to_float(jnp.asarray(target))
    found = projected(model, run.nets, images, distance, key, label, request.steps, request.rate)
    check_finite_images(found.image, run.nets)
    if styles:
        with whole(styles) as partial:
            np.savez(partial, w=np.asarray(found.w))
    before, after = (float(jnp.mean(x)) for x in (found.start, found.distance))
    said = f"; distance ({request.distance}) {before:.4g} at the mean style, {after:.4g} at the one found"
    both = beside(target, np.asarray(to_uint8(found.image)))
    return write_grid(place, both, math.ceil(len(target) ** 0.5), opened, said)


def _one_label(request: ProjectRequest, opened: Opened) -> int | None:
    """Returns the class to search in; None for a model without classes."""
    labels, classes = classes_of(request.labels, opened.run), opened.run.experiment.num_classes
    if classes and len(labels) != 1:
        raise ValueError(f"this model has {classes} classes: say in which one to search, such as --labels 0")
    check_latents_used(request, opened, 1, draw.label_conditions(labels or None))
    return labels[0] if labels else None


def _project_options(parser: argparse.ArgumentParser) -> None:
    add_images(parser)
    parser.add_argument("--steps", type=integer(), default=1000, help="default: 1000")
    parser.add_argument("--rate", type=number(0, above=True), default=0.1, help="largest learning rate (default: 0.1)")
    parser.add_argument("--distance", default="pixels", help=f"{DISTANCES} (default: pixels)")
    parser.add_argument("--styles", type=pathlib.Path, help="write the styles found to this .npz, as w [n l d]")


EDITS = (
    edit("project", "the images of the model that are nearest to yours", ProjectRequest, project, _project_options),
)
