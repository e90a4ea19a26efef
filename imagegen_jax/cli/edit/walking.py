"""Videos and pictures that go from each latent, or each prompt, to the next."""

from __future__ import annotations

import argparse
import dataclasses
import math
import pathlib
from collections.abc import Iterable
from typing import Literal

import numpy as np

from imagegen_jax.cli.common.options import integer
from imagegen_jax.cli.common.prompts import PromptRequest, add_prompts, prompts_of
from imagegen_jax.cli.common.runs import Opened, add_scalar, classes_of, open_run, scalars_of
from imagegen_jax.cli.edit.common import EditRequest, checked_place, edit
from imagegen_jax.cli.edit.styles import draw_latents
from imagegen_jax.core.capabilities import reads_text
from imagegen_jax.core.drawing import draw
from imagegen_jax.core.drawing.grid import coloured, grid, magnified
from imagegen_jax.core.provenance.origin import Origin
from imagegen_jax.core.reporting.progress import counted
from imagegen_jax.data.pictures.captions import row_under
from imagegen_jax.data.pictures.output import PICTURES, VIDEOS, kind_of, write_picture
from imagegen_jax.data.pictures.video import check_video, write_video
from imagegen_jax.editing import latents
from imagegen_jax.editing.interpolation import interpolate as frames_of
from imagegen_jax.editing.prompts import interpolated
from imagegen_jax.editing.worded import worded_model

FRAMES, COLUMNS = 30, 6  # from each latent or prompt to the next, in a video and in a picture
FPS = 25
LATENTS = 6  # to go through, where nothing else is asked for


@dataclasses.dataclass(frozen=True, kw_only=True)
class InterpolateRequest(PromptRequest, EditRequest):
    """A video that goes through some latents, or prompts, and back; or a picture from the first prompt to the last."""

    out: str | pathlib.Path = "walk.gif"
    latents: int | None = None  # how many to go through; None: 6, of a model that has them
    frames: int | None = None  # from each to the next; None: 30, and 6 in a picture
    fps: int | None = None  # None: 25, in a video
    space: Literal["z", "w"] | None = None  # arcs in z, or lines in w; None: z, of a model that has latents
    arc: bool = False  # whether vectors of texts go along arcs, and not along lines
    n: int | None = None  # loops side by side; None: one, or one a class
    truncation: float | None = None
    guidance: float | None = None


def interpolate(request: InterpolateRequest) -> pathlib.Path:
    """Writes the video or the picture that a request asks for, and returns its place.

    Raises ValueError for options of latents where there are prompts, and the other way round.
    """
    place = checked_place(request, (*VIDEOS, *PICTURES))
    if kind_of(place) in VIDEOS:
        check_video(place, request.fps or FPS)
    else:
        _refuse(request, ("fps",), f"of a video, and --out {place} is a picture")
    opened = open_run(request, "imagegen edit interpolate", request.guidance)
    if reads_text(opened.model) is not None:
        return _between_prompts(request, opened, place)
    _refuse(request, ("prompt", "prompts", "negative_prompt", "arc"), "of texts, which this model does not read")
    if kind_of(place) not in VIDEOS:
        raise ValueError(f"--out {place}: a way through latents is a video: name a {' or '.join(VIDEOS)}")
    run, model = opened.run, latents.latent_model(opened.model)
    scalars_of(opened.model, guidance=request.guidance)
    loops = request.n or len(classes_of(request.labels, run)) or run.experiment.num_classes or 1
    classes_of(request.labels, run, loops)
    points, frames = request.latents or LATENTS, request.frames or FRAMES
    z, conditions = draw_latents(request, opened, points * loops, request.truncation)
    if "label" in conditions:
        conditions["label"] = conditions["label"][:loops]
    z = z.reshape(points, loops, -1)
    made = frames_of(model, run.nets, z, frames, request.space or "z", conditions, request.chunk)
    return _write_video(counted(made, "frames", points * frames, "frames"), request, opened.origin, place)


def _between_prompts(request: InterpolateRequest, opened: Opened, place: pathlib.Path) -> pathlib.Path:
    _refuse(request, ("latents", "space", "truncation"), "of a model of latents, and this one draws by prompts")
    worded_model(opened.model)
    prompts, run, video = prompts_of(request), opened.run, kind_of(place) in VIDEOS
    if len(prompts) < 2:
        raise ValueError(f"{len(prompts)} prompt: name at least two to go between, each after --prompt")
    n = request.n or len(classes_of(request.labels, run)) or 1
    classes = classes_of(request.labels, run, n)
    conditions = {
        **draw.label_conditions(np.resize(classes, n) if classes else None),
        **scalars_of(opened.model, guidance=request.guidance),
    }
    found = interpolated(
        run, prompts, request.frames or (FRAMES if video else COLUMNS), n=n, closed=video, arc=request.arc,
        negative=request.negative_prompt, seed=request.seed or 0, chunk=request.chunk,
        check=opened.check_used, **conditions,
    )  # fmt: skip
    if video:
        return _write_video(found, request, opened.said(prompts), place)
    each = (len(found) - 1) // (len(prompts) - 1)
    columns = [magnified(grid(coloured(column), 1), found.shape[2]) for column in found]
    heads = [prompts[i // each] if i % each == 0 else "" for i in range(len(columns))]
    write_picture(place, row_under(heads, columns), opened.said(prompts))
    print(f"{len(found)} images from the first prompt to the last{f', {n} times,' if n > 1 else ''} in {place}")
    return place


def _write_video(
    frames: Iterable[np.ndarray], request: InterpolateRequest, origin: Origin | None, place: pathlib.Path
) -> pathlib.Path:
    """Writes frames [n h w c] as a video with the n side by side."""
    count = 0

    def tiled() -> Iterable[np.ndarray]:
        nonlocal count
        for tiles in frames:
            count += 1
            columns, pad = math.ceil(len(tiles) ** 0.5), 2 * (len(tiles) > 1)
            yield magnified(grid(tiles, columns, pad), tiles.shape[1])

    write_video(place, tiled(), request.fps or FPS, origin)
    print(f"{count} frames in {place}")
    return place


def _refuse(request: InterpolateRequest, names: tuple[str, ...], why: str) -> None:
    """Raises ValueError for options that were given and would not be read."""
    fields = {field.name: field.default for field in dataclasses.fields(request)}
    for name in names:
        if (value := getattr(request, name)) != fields[name]:
            raise ValueError(f"--{name.replace('_', '-')} {value}: {why}: leave it out")


def _options(parser: argparse.ArgumentParser) -> None:
    add_prompts(parser, "none: a way through latents")
    parser.add_argument("--latents", type=integer(2), help=f"how many to go through (default: {LATENTS})")
    parser.add_argument(
        "--frames", type=integer(), help=f"from each to the next (default: {FRAMES}, and {COLUMNS} in a picture)"
    )
    parser.add_argument("--fps", type=integer(), help=f"frames a second of a video (default: {FPS})")
    parser.add_argument("--space", choices=("z", "w"), help="of latents: arcs in z (default), or lines in w")
    parser.add_argument("--arc", action="store_true", help="of prompts: arcs between vectors of texts, and not lines")
    parser.add_argument("--n", type=integer(), help="loops side by side (default: one, or one a class)")
    add_scalar(parser, "truncation")
    add_scalar(parser, "guidance")


_WALK = "a video that goes through some latents or prompts and back, or a picture from prompt to prompt"

EDITS = (
    edit("interpolate", _WALK, InterpolateRequest, interpolate, _options, (*VIDEOS, *PICTURES)),
)  # fmt: skip
