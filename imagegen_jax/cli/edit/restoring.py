"""Edits that solve an inverse problem by a denoiser: inpaint, enlarge, colour, deblur."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np

from imagegen_jax.cli.common.options import integer, number
from imagegen_jax.cli.edit.common import edit
from imagegen_jax.cli.edit.denoising import (
    ImagesRequest,
    add_image_options,
    checked_factor,
    opened_for,
    read,
    write_beside,
)
from imagegen_jax.core.arrays.space import sample_shape
from imagegen_jax.core.capabilities import completes
from imagegen_jax.data.pictures.user_images import read_images
from imagegen_jax.editing import denoiser as editing
from imagegen_jax.editing import inverse_problems as inverse
from imagegen_jax.editing import restoration
from imagegen_jax.editing.restoration import NOISE


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
    model, itself = opened.model, completes(opened.model)
    images = read_images(request.images, sample_shape(model), request.fit) if itself else read(request, opened)
    noise = _noise(request)
    if request.repeats and request.method != "repaint":
        raise ValueError(f"--repeats {request.repeats}: read by --method repaint alone")
    known = read_images([request.mask], (*sample_shape(model)[:2], 1), request.fit)[0] < 128
    editing.check_mask(known)
    shown = np.where(known, images, 255).astype(np.uint8)
    write = functools.partial(write_beside, request, opened, place, images=images, shown=shown)
    if itself:
        _check_no_method(request, model)
        return write(restoration.completed, arrays={"known": known})
    if request.method in NOISE:
        return write(restoration.filled, arrays={"known": known, "noise": noise}, method=request.method)
    repaint = editing.RePaint(request.repeats or 10)
    solver = repaint if request.method == "repaint" else model.path.solver
    return write(restoration.inpainted, arrays={"known": known}, solver=solver)


def _check_no_method(request: InpaintRequest, model: Any) -> None:
    """Raises ValueError for what only edits by a denoiser read."""
    fields = {field.name: field.default for field in dataclasses.fields(request)}
    for name in ("method", "noise", "repeats"):
        if (value := getattr(request, name)) != fields[name]:
            raise ValueError(
                f"--{name} {value}: of edits by a denoiser, but a {type(model).__name__} draws what is missing by "
                "itself: leave it out"
            )


def enlarge(request: EnlargeRequest) -> pathlib.Path:
    """Enlarges small images to the model's size, writes both side by side, and returns the picture's place."""
    place, opened = opened_for(request, "enlarge")
    factor = checked_factor(request.factor, opened)
    h, w, c = sample_shape(opened.model)
    images = read(request, opened, (h // factor, w // factor, c))
    shown = images.repeat(factor, axis=1).repeat(factor, axis=2)
    settings = {"factor": factor, "method": request.method}
    return write_beside(
        request, opened, place, restoration.enlarged, images, shown, {"noise": _noise(request)}, **settings
    )


def colour(request: ColourRequest) -> pathlib.Path:
    """Colours grey images, writes both side by side, and returns the picture's place."""
    place, opened = opened_for(request, "colour")
    h, w, c = sample_shape(editing.denoising_model(opened.model))
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
