"""Edits that solve an inverse problem by a denoiser: inpaint, enlarge, colour, deblur."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib

import numpy as np

from imagegen_jax.cli.common.options import integer, number
from imagegen_jax.cli.common.runs import Opened
from imagegen_jax.cli.edit.common import edit, write_grid
from imagegen_jax.cli.edit.denoising import (
    ImagesRequest,
    add_image_options,
    checked_factor,
    conditions_of,
    opened_for,
    read,
    write_beside,
)
from imagegen_jax.core.drawing.draw import sample
from imagegen_jax.core.drawing.grid import beside
from imagegen_jax.core.model import optional_conditions
from imagegen_jax.data.pictures.user_images import read_images
from imagegen_jax.editing import denoiser as editing
from imagegen_jax.editing import inverse_problems as inverse
from imagegen_jax.editing import restoration
from imagegen_jax.editing.restoration import NOISE

COMPLETED_BY = ("image", "known")  # conditions of models that draw what is missing of images by themselves


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodRequest(ImagesRequest):
    """The fields that edits have which solve an inverse problem; `noise` None is the default of the method."""

    method: str = next(iter(NOISE))
    noise: float | None = None  # deviation of the noise in what is given, where black is -1 and white 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class InpaintRequest(MethodRequest):
    """Images with a part of them drawn anew."""

    mask: str  # a grey image of the model's size: what is white is drawn anew
    out: str | pathlib.Path = "inpaint.png"
    method: str = "repaint"
    repeats: int | None = None  # how often repaint takes each step; None: 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnlargeRequest(MethodRequest):
    """Small images at the size of the model: super-resolution."""

    out: str | pathlib.Path = "enlarge.png"
    factor: int = 4  # how many times smaller they are


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColourRequest(MethodRequest):
    """Grey images in colour."""

    out: str | pathlib.Path = "colour.png"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeblurRequest(MethodRequest):
    """Blurred images made sharp."""

    sigma: float  # deviation in pixels of the Gaussian that they were blurred with, as if opposite edges met
    out: str | pathlib.Path = "deblur.png"


def inpaint(request: InpaintRequest) -> pathlib.Path:
    """Writes images beside what is drawn anew in their masked part, and returns the picture's place."""
    place, opened = opened_for(request, "inpaint")
    if set(COMPLETED_BY) <= set(optional_conditions(opened.model)):
        return _complete(request, place, opened)
    images, noise, model = read(request, opened), _noise(request), opened.model
    if request.repeats and request.method != "repaint":
        raise ValueError(f"--repeats {request.repeats}: read by --method repaint alone")
    known, shown = _known(request, opened, images)
    write = functools.partial(write_beside, request, opened, place, images=images, shown=shown)
    if request.method in NOISE:
        return write(restoration.filled, arrays={"known": known, "noise": noise}, method=request.method)
    repaint = editing.RePaint(request.repeats or 10)
    solver = repaint if request.method == "repaint" else model.path.solver
    return write(restoration.inpainted, arrays={"known": known}, solver=solver)


def _known(request: InpaintRequest, opened: Opened, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reads which pixels are known [H W 1], and returns them and the images with the others white.

    Raises ValueError where all are known, or none.
    """
    known = read_images([request.mask], (*opened.model.image_shape[:2], 1), request.fit)[0] < 128
    editing.check_mask(known)
    return known, np.where(known, images, 255).astype(np.uint8)


def _complete(request: InpaintRequest, place: pathlib.Path, opened: Opened) -> pathlib.Path:
    """Writes what a model that reads `COMPLETED_BY` draws in the masked part, as it samples: without a method."""
    default = next(field.default for field in dataclasses.fields(request) if field.name == "method")
    for name, value in (("method", request.method), ("noise", request.noise), ("repeats", request.repeats)):
        if value not in (None, default):
            raise ValueError(f"--{name} {value}: read by models that denoise, not by a {type(opened.model).__name__}")
    images = read_images(request.images, opened.model.image_shape, request.fit)
    known, shown = _known(request, opened, images)
    n = len(images)
    given = {"image": images, "known": np.broadcast_to(known, (n, *known.shape))}
    conditions = {**conditions_of(request, opened, n), **given}
    found = sample(opened.model, opened.run.nets, n, request.seed or 0, conditions, request.chunk)
    return write_grid(place, beside(shown, found), max(1, round(n**0.5)))


def enlarge(request: EnlargeRequest) -> pathlib.Path:
    """Enlarges small images to the model's size, writes both side by side, and returns the picture's place."""
    place, opened = opened_for(request, "enlarge")
    factor = checked_factor(request.factor, opened)
    h, w, c = opened.model.image_shape
    images = read(request, opened, (h // factor, w // factor, c))
    shown = images.repeat(factor, axis=1).repeat(factor, axis=2)
    settings = {"factor": factor, "method": request.method}
    return write_beside(
        request, opened, place, restoration.enlarged, images, shown, {"noise": _noise(request)}, **settings
    )


def colour(request: ColourRequest) -> pathlib.Path:
    """Colours grey images, writes both side by side, and returns the picture's place."""
    place, opened = opened_for(request, "colour")
    h, w, c = editing.denoising_model(opened.model).image_shape
    if c == 1:
        raise ValueError("this model's images are grey themselves: use a run of a model of colours")
    images = read(request, opened, (h, w, 1))
    shown, arrays = images.repeat(c, axis=3), {"noise": _noise(request)}
    return write_beside(request, opened, place, restoration.coloured, images, shown, arrays, method=request.method)


def deblur(request: DeblurRequest) -> pathlib.Path:
    """Sharpens blurred images, writes both side by side, and returns the picture's place."""
    place, opened = opened_for(request, "deblur")
    images = read(request, opened)
    odd = (min(images.shape[1:3]) - 1) // 2 * 2 + 1  # one size for every sigma
    arrays = {"noise": _noise(request), "kernel": inverse.gaussian(request.sigma, odd).astype(np.float32)}
    return write_beside(request, opened, place, restoration.deblurred, images, images, arrays, method=request.method)


def _noise(request: MethodRequest) -> np.float32:
    """Returns the deviation of the noise in what is given; the method's default where the request has none."""
    noise, method = request.noise, request.method
    if noise is None:
        return np.float32(NOISE.get(method, 0.0))
    if method not in NOISE:
        raise ValueError(f"--noise {noise}: read by --method {' or '.join(NOISE)} alone, not {method}")
    if method == "dps" and noise == 0:
        raise ValueError(f"--noise {noise}: must be above 0 for dps")
    return np.float32(noise)


def _method_options(parser: argparse.ArgumentParser, *first: str) -> None:
    """Adds the options of edits by the methods in `NOISE`; `first` are methods of their own."""
    methods = (*first, *NOISE)
    parser.add_argument("--method", choices=methods, default=methods[0], help=f"default: {methods[0]}")
    parser.add_argument(
        "--noise", type=number(0), metavar="DEVIATION",
        help="of the noise in what is given, where black is -1 and white 1 (default: "
        + ", ".join(f"{noise:.2g} with {method}" for method, noise in NOISE.items()) + ")",
    )  # fmt: skip


def _inpaint_options(parser: argparse.ArgumentParser) -> None:
    add_image_options(parser)
    parser.add_argument(
        "--mask",
        required=True,
        help="a grey image of the model's size: what is white is drawn anew, what is black stays",
    )
    parser.add_argument("--repeats", type=integer(), help="how often repaint takes each step (default: 10)")
    _method_options(parser, "repaint", "replacement")


def _enlarge_options(parser: argparse.ArgumentParser) -> None:
    add_image_options(parser)
    parser.add_argument("--factor", type=integer(2), default=4, help="how many times smaller they are (default: 4)")
    _method_options(parser)


def _colour_options(parser: argparse.ArgumentParser) -> None:
    add_image_options(parser)
    _method_options(parser)


def _deblur_options(parser: argparse.ArgumentParser) -> None:
    add_image_options(parser)
    parser.add_argument(
        "--sigma", type=number(0, above=True), required=True,
        help="deviation in pixels of the Gaussian that they were blurred with, as if opposite edges met",
    )  # fmt: skip
    _method_options(parser)


EDITS = (
    edit("inpaint", "images with a part of them drawn anew", InpaintRequest, inpaint, _inpaint_options),
    edit(
        "enlarge", "small images at the size of the model: super-resolution", EnlargeRequest, enlarge,
        _enlarge_options, aliases=("superres",),
    ),
    edit("colour", "grey images in colour", ColourRequest, colour, _colour_options),
    edit("deblur", "blurred images made sharp", DeblurRequest, deblur, _deblur_options),
)  # fmt: skip
