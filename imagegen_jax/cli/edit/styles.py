"""Edits of what a trained generator makes, by its latents and styles."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from imagegen_jax.cli.common.options import integer, number
from imagegen_jax.cli.common.runs import Opened, add_scalar, classes_of, open_run, scalars_of
from imagegen_jax.cli.edit.common import EditRequest, checked_place, edit, write_grid
from imagegen_jax.core.capabilities import StyleBased
from imagegen_jax.core.drawing import draw
from imagegen_jax.data.pictures.streaming import with_progress
from imagegen_jax.editing import latents
from imagegen_jax.editing.directions import directions as directions_of
from imagegen_jax.editing.directions import latent_weights, moved, style_weights

Layers = tuple[int, int | None]  # first and last + 1; None for up to the end

LAYERS: dict[str, Layers] = {  # arXiv 1812.04948, Figure 3
    "all": (0, None), "coarse": (0, 4), "middle": (4, 8), "fine": (8, None),
}  # fmt: skip


# --- requests --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixRequest(EditRequest):
    """A grid of images with the styles of their row, in some layers of their column."""

    out: str | pathlib.Path = "mix.png"
    rows: int = 5
    columns: int = 5
    layers: Layers = LAYERS["coarse"]  # from the column
    truncation: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TruncateRequest(EditRequest):
    """A grid of images, a row each, drawn towards the mean and beyond it."""

    out: str | pathlib.Path = "truncate.png"
    n: int = 5  # images
    columns: int = 9  # strengths of truncation
    range: tuple[float, float] = (-1.0, 1.0)  # psi of the first and the last column


@dataclasses.dataclass(frozen=True, kw_only=True)
class DirectionsRequest(EditRequest):
    """A grid of one image moved along SeFa's directions, a row each."""

    out: str | pathlib.Path = "directions.png"
    count: int = 6  # directions
    columns: int = 7  # positions
    strength: float = 3.0  # of the last column; the first's is its negative
    layers: Layers | None = None  # whose styles move; None: all
    truncation: float | None = None


# --- edits -----------------------------------------------------------------------------------------------------------


class Drawn(NamedTuple):
    """Latents, and what goes with them."""

    z: jax.Array  # [n z]
    conditions: dict[str, Any]  # "label" [n], and "truncation"


def mix(request: MixRequest) -> pathlib.Path:
    """Writes the grid that a request asks for, and returns its place."""
    place, opened = checked_place(request), open_run(request, "imagegen edit mix")
    model = latents.style_model(opened.model)
    drawn = draw_latents(request, opened, request.rows + request.columns, request.truncation)
    w = _styles(opened, drawn, drawn.conditions.get("truncation", 1.0))
    of_rows, of_columns = w[: request.rows], w[request.rows :]
    mixed = latents.mixed(of_rows, of_columns, *_range(request.layers, model))
    beside_rows = jnp.concatenate([of_rows[:, None], mixed], axis=1).reshape(-1, *w.shape[1:])
    images = _rendered(request, opened, {"w": jnp.concatenate([of_columns, beside_rows])})
    return write_grid(place, np.concatenate([np.full_like(images[:1], 255), images]), request.columns + 1, opened)


def truncate(request: TruncateRequest) -> pathlib.Path:
    """Writes the grid that a request asks for, and returns its place."""
    place, opened = checked_place(request), open_run(request, "imagegen edit truncate")
    drawn = draw_latents(request, opened, request.n)
    psis = jnp.linspace(*request.range, request.columns)
    w = latents.truncated(_styles(opened, drawn), _styles(opened, drawn, 0.0), psis)
    images = _rendered(request, opened, {"w": w.reshape(-1, *w.shape[2:])})
    return write_grid(place, images, request.columns, opened)


def directions(request: DirectionsRequest) -> pathlib.Path:
    """Writes the grid that a request asks for, says the directions' eigenvalues, and returns its place."""
    place, opened = checked_place(request), open_run(request, "imagegen edit directions")
    model, run = opened.model, opened.run
    strengths = jnp.linspace(-request.strength, request.strength, request.columns)
    drawn = draw_latents(request, opened, 1, request.truncation)
    if isinstance(model, StyleBased):
        start = _styles(opened, drawn, drawn.conditions.get("truncation", 1.0))[0]
        layers = range(*_range(request.layers or LAYERS["all"], model))
        n, values = directions_of(style_weights(model, run.nets, start.shape[-1], layers), request.count)
        rows: dict[str, Any] = {"w": moved(start, n, strengths, layers).reshape(-1, *start.shape)}
    else:
        if request.layers:
            raise ValueError(f"--layers: a {type(model).__name__} has no styles to choose among")
        weights = latent_weights(latents.latent_model(model), run.nets, drawn.conditions)
        n, values = directions_of(weights, request.count)
        z = moved(drawn.z[0], n, strengths).reshape(-1, len(drawn.z[0]))
        rows = {"z": z, **{name: np.resize(x, len(z)) for name, x in drawn.conditions.items()}}
    eigenvalues = ", ".join(f"{value:.3g}" for value in values)
    return write_grid(place, _rendered(request, opened, rows), request.columns, opened, f"; eigenvalues {eigenvalues}")


# --- what they share -------------------------------------------------------------------------------------------------


def draw_latents(request: EditRequest, opened: Opened, n: int, truncation: float | None = None) -> Drawn:
    """Draws latents for a model that has them, with the classes asked for in turn."""
    model, run = latents.latent_model(opened.model), opened.run
    classes = classes_of(request.labels, run, n) or list(range(run.experiment.num_classes))
    conditions: dict[str, Any] = {"label": np.resize(classes, n).astype(np.int32)} if classes else {}
    conditions |= scalars_of(opened.model, truncation=truncation)
    check_latents_used(request, opened, n, conditions)
    return Drawn(latents.draw(model, jax.random.key(request.seed or 0), n, conditions), conditions)


def check_latents_used(request: EditRequest, opened: Opened, n: int, conditions: dict[str, Any]) -> None:
    """Raises ValueError for options that nothing reads here, judged by what `sample` does with them."""
    draw.check_conditions(opened.model, n, conditions)
    opened.check_used(lambda model: draw.program_text(model, opened.run.nets, n, conditions, request.chunk))


def _styles(opened: Opened, drawn: Drawn, truncation: float = 1.0) -> jax.Array:
    model = latents.style_model(opened.model)
    return model.styles(opened.run.nets, drawn.z, drawn.conditions.get("label"), truncation)


def _range(layers: Layers, model: StyleBased) -> tuple[int, int]:
    start, end = layers[0], model.layers if layers[1] is None else layers[1]
    latents.check_layers(start, end, model.layers)
    return start, end


def _rendered(request: EditRequest, opened: Opened, rows: dict[str, Any]) -> np.ndarray:
    model, n = latents.latent_model(opened.model), len(next(iter(rows.values())))
    return np.concatenate(list(with_progress(latents.render(model, opened.run.nets, rows, request.chunk), n)))


# --- options ---------------------------------------------------------------------------------------------------------

_LAYERS_HELP = f"{', '.join(LAYERS)}, or numbers such as 2-5"


def _layers(text: str) -> Layers:
    first, _, last = text.partition("-")
    if text not in LAYERS and not (first.isdecimal() and (last or first).isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {_LAYERS_HELP}")
    return LAYERS[text] if text in LAYERS else (int(first), int(last or first) + 1)


def _mix_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=integer(), default=5, help="default: 5")
    parser.add_argument("--columns", type=integer(), default=5, help="default: 5")
    parser.add_argument("--layers", type=_layers, default="coarse", help=f"from the column: {_LAYERS_HELP} (coarse)")
    add_scalar(parser, "truncation")


def _truncate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n", type=integer(), default=5, help="how many images (default: 5)")
    parser.add_argument("--columns", type=integer(), default=9, help="strengths of truncation (default: 9)")
    parser.add_argument(
        "--range", type=number(), nargs=2, default=(-1.0, 1.0), metavar=("FIRST", "LAST"),
        help="psi of the first and the last column: 1 is the image, 0 the mean, -1 the opposite (default: -1 1)",
    )  # fmt: skip


def _directions_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=integer(), default=6, help="how many directions (default: 6)")
    parser.add_argument("--columns", type=integer(), default=7, help="how many positions (default: 7)")
    parser.add_argument(
        "--strength", type=number(), default=3.0, help="of the last column; the first's is its negative"
    )
    parser.add_argument("--layers", type=_layers, help=f"whose styles move: {_LAYERS_HELP} (all)")
    add_scalar(parser, "truncation")


_MIX = "a grid of images with the styles of their row, in some layers of their column"
_TRUNCATE = "a grid of images, a row each, drawn towards the mean and beyond it"
_DIRECTIONS = "a grid of one image moved along SeFa's directions, a row each"

EDITS = (
    edit("mix", _MIX, MixRequest, mix, _mix_options),
    edit("truncate", _TRUNCATE, TruncateRequest, truncate, _truncate_options),
    edit("directions", _DIRECTIONS, DirectionsRequest, directions, _directions_options),
)
