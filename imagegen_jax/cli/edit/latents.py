"""`imagegen edit`: what a trained generator does with its latents and styles; `restoring` has what denoisers do."""

from __future__ import annotations

import argparse
import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from imagegen_jax.cli.edit import restoring
from imagegen_jax.cli.edit.common import add_edit, write_grid
from imagegen_jax.cli.options import integer, number
from imagegen_jax.cli.runs import add_scalar, check_used, classes_of, open_run, scalars_of, with_progress
from imagegen_jax.core import draw
from imagegen_jax.core.files import whole
from imagegen_jax.core.finite import check_finite_images
from imagegen_jax.core.grid import beside, grid, magnified
from imagegen_jax.core.image import to_float, to_uint8
from imagegen_jax.core.model import StyleBased
from imagegen_jax.data.output import check_output
from imagegen_jax.data.user_images import add_images, read_images
from imagegen_jax.data.video import check_video, write_video
from imagegen_jax.gan import latents
from imagegen_jax.gan.directions import directions, latent_weights, moved, style_weights
from imagegen_jax.gan.interpolation import interpolate
from imagegen_jax.gan.projection import project
from imagegen_jax.metrics.distances import DISTANCES, distance_of
from imagegen_jax.run import Run

EXAMPLES = """examples:
  imagegen edit mix runs/stylegan2 --layers coarse
  imagegen edit truncate runs/stylegan2 --range -1 1
  imagegen edit interpolate runs/dcgan --latents 6 --out walk.gif
  imagegen edit directions runs/stylegan2 --layers 0-3
  imagegen edit project runs/stylegan2 photo.png --steps 500
  imagegen edit inpaint runs/ddpm photo.png --mask mask.png    what is white in the mask is drawn anew
  imagegen edit redraw runs/ddpm sketch.png --strength 0.6
  imagegen edit resemble runs/ddpm photo.png --factor 8
  imagegen edit enlarge runs/ddpm small.png --factor 4
  imagegen edit colour runs/ddpm grey.png --method dps
  imagegen edit deblur runs/ddpm blurred.png --sigma 1.5
  imagegen edit morph runs/ddpm one.png other.png
  imagegen edit reclass runs/ddpm_digits three.png --from 3 --to 5,8

imagegen edit EDIT --help shows an edit's options."""

LAYERS = {"all": (0, None), "coarse": (0, 4), "middle": (4, 8), "fine": (8, None)}  # arXiv 1812.04948, Figure 3


def add_edits(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Adds the edits as commands below `parser`, and returns their parsers."""
    edits = parser.add_subparsers(required=True, metavar="EDIT")
    own = (_add_mix, _add_truncate, _add_interpolate, _add_directions, _add_project)
    return [add(edits) for add in (*own, *restoring.EDITS)]


def run_command(options: argparse.Namespace, overrides: Sequence[str], modules: Sequence[str]) -> None:
    """Does the edit that the command line asks for."""
    options.out = check_output(options.out, options.kinds)
    if getattr(options, "styles", None):
        options.styles = check_output(options.styles, (".npz",), "--styles")
    print(options.edit(options, open_run(options, modules, overrides)))


# --- options ---------------------------------------------------------------------------------------------------------


def _add_mix(edits: Any) -> argparse.ArgumentParser:
    parser = add_edit(
        edits, "mix", "a grid of images with the styles of their row, in some layers of their column", _mix
    )
    parser.add_argument("--rows", type=integer(), default=5, help="default: 5")
    parser.add_argument("--columns", type=integer(), default=5, help="default: 5")
    parser.add_argument("--layers", type=_layers, default="coarse", help=f"from the column: {_LAYERS_HELP} (coarse)")
    add_scalar(parser, "truncation")
    return parser


def _add_truncate(edits: Any) -> argparse.ArgumentParser:
    parser = add_edit(
        edits, "truncate", "a grid of images, a row each, drawn towards the mean and beyond it", _truncate
    )
    parser.add_argument("--n", type=integer(), default=5, help="how many images (default: 5)")
    parser.add_argument("--columns", type=integer(), default=9, help="strengths of truncation (default: 9)")
    parser.add_argument(
        "--range", type=number(), nargs=2, default=(-1.0, 1.0), metavar=("FIRST", "LAST"),
        help="psi of the first and the last column: 1 is the image, 0 the mean, -1 the opposite (default: -1 1)",
    )  # fmt: skip
    return parser


def _add_interpolate(edits: Any) -> argparse.ArgumentParser:
    parser = add_edit(edits, "interpolate", "a video that goes through some latents and back", _interpolate, "walk.gif")
    parser.add_argument("--latents", type=integer(2), default=6, help="how many to go through (default: 6)")
    parser.add_argument("--frames", type=integer(), default=30, help="from each to the next (default: 30)")
    parser.add_argument("--fps", type=integer(), default=25, help="frames a second (default: 25)")
    parser.add_argument("--space", choices=("z", "w"), default="z", help="arcs in z (default), or lines in w")
    parser.add_argument("--n", type=integer(), help="loops side by side (default: one, or one a class)")
    add_scalar(parser, "truncation")
    return parser


def _add_directions(edits: Any) -> argparse.ArgumentParser:
    parser = add_edit(edits, "directions", "a grid of one image moved along SeFa's directions, a row each", _directions)
    parser.add_argument("--count", type=integer(), default=6, help="how many directions (default: 6)")
    parser.add_argument("--columns", type=integer(), default=7, help="how many positions (default: 7)")
    parser.add_argument(
        "--strength", type=number(), default=3.0, help="of the last column; the first's is its negative"
    )
    parser.add_argument("--layers", type=_layers, help=f"whose styles move: {_LAYERS_HELP} (all)")
    add_scalar(parser, "truncation")
    return parser


def _add_project(edits: Any) -> argparse.ArgumentParser:
    parser = add_edit(edits, "project", "the images of the model that are nearest to yours", _project)
    add_images(parser)
    parser.add_argument("--steps", type=integer(), default=1000, help="default: 1000")
    parser.add_argument("--rate", type=number(0, above=True), default=0.1, help="largest learning rate (default: 0.1)")
    parser.add_argument("--distance", default="pixels", help=f"{DISTANCES} (default: pixels)")
    parser.add_argument("--styles", type=pathlib.Path, help="write the styles found to this .npz, as w [n l d]")
    return parser


_LAYERS_HELP = f"{', '.join(LAYERS)}, or numbers such as 2-5"


def _layers(text: str) -> tuple[int, int | None]:
    """First and last + 1; None for up to the end."""
    first, _, last = text.partition("-")
    if text not in LAYERS and not (first.isdecimal() and (last or first).isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {_LAYERS_HELP}")
    return LAYERS[text] if text in LAYERS else (int(first), int(last or first) + 1)


# --- edits -----------------------------------------------------------------------------------------------------------


class Drawn(NamedTuple):
    """Latents, and what goes with them."""

    z: jax.Array  # [n z]
    conditions: dict[str, Any]  # "label" [n], and "truncation"


def _draw(options: argparse.Namespace, run: Run, n: int) -> Drawn:
    """Latents for a model that has them, of the classes asked for in turn."""
    model = latents.latent_model(run.experiment.model)
    classes = classes_of(options.labels, run, n) or list(range(run.experiment.num_classes))
    conditions: dict[str, Any] = {"label": np.resize(classes, n).astype(np.int32)} if classes else {}
    conditions |= scalars_of(options, run.experiment.model)
    _check_used(options, run, n, conditions)
    return Drawn(latents.draw(model, jax.random.key(options.seed), n, conditions), conditions)


def _check_used(options: argparse.Namespace, run: Run, n: int, conditions: dict[str, Any]) -> None:
    """Refuses options that nothing reads here, by what `sample` does with them."""
    draw.check_conditions(run.experiment.model, n, conditions)
    check_used(
        options, run.experiment.model,
        lambda model: draw.program_text(model, run.nets, n, conditions, options.chunk),
    )  # fmt: skip


def _styles(run: Run, drawn: Drawn, truncation: float = 1.0) -> jax.Array:
    model = latents.style_model(run.experiment.model)
    return model.styles(run.nets, drawn.z, drawn.conditions.get("label"), truncation)


def _range(layers: tuple[int, int | None], model: StyleBased) -> tuple[int, int]:
    start, end = layers[0], model.layers if layers[1] is None else layers[1]
    latents.check_layers(start, end, model.layers)
    return start, end


def _mix(options: argparse.Namespace, run: Run) -> str:
    model = latents.style_model(run.experiment.model)
    drawn = _draw(options, run, options.rows + options.columns)
    w = _styles(run, drawn, drawn.conditions.get("truncation", 1.0))
    of_rows, of_columns = w[: options.rows], w[options.rows :]
    mixed = latents.mixed(of_rows, of_columns, *_range(options.layers, model))
    beside_rows = jnp.concatenate([of_rows[:, None], mixed], axis=1).reshape(-1, *w.shape[1:])
    images = _rendered(options, run, {"w": jnp.concatenate([of_columns, beside_rows])})
    return write_grid(options, np.concatenate([np.full_like(images[:1], 255), images]), options.columns + 1)


def _truncate(options: argparse.Namespace, run: Run) -> str:
    drawn = _draw(options, run, options.n)
    first, last = options.range
    psis = jnp.linspace(first, last, options.columns)
    w = latents.truncated(_styles(run, drawn), _styles(run, drawn, 0.0), psis)
    return write_grid(options, _rendered(options, run, {"w": w.reshape(-1, *w.shape[2:])}), options.columns)


def _interpolate(options: argparse.Namespace, run: Run) -> str:
    check_video(options.out, options.fps)
    model = latents.latent_model(run.experiment.model)
    loops = options.n or len(classes_of(options.labels, run)) or run.experiment.num_classes or 1
    classes_of(options.labels, run, loops)
    z, conditions = _draw(options, run, options.latents * loops)
    if "label" in conditions:
        conditions["label"] = conditions["label"][:loops]
    z = z.reshape(options.latents, loops, -1)
    frames = interpolate(model, run.nets, z, options.frames, options.space, conditions, options.chunk)
    columns, pad, height = math.ceil(loops**0.5), 2 * (loops > 1), run.experiment.model.image_shape[0]
    frames = tqdm(frames, "frames", options.latents * options.frames, unit=" frames", disable=None)
    write_video(options.out, (magnified(grid(tiles, columns, pad), height) for tiles in frames), options.fps)
    return f"{options.latents * options.frames} frames in {options.out}"


def _directions(options: argparse.Namespace, run: Run) -> str:
    model, strengths = run.experiment.model, jnp.linspace(-options.strength, options.strength, options.columns)
    drawn, rows = _draw(options, run, 1), dict[str, Any]()
    if isinstance(model, StyleBased):
        start = _styles(run, drawn, drawn.conditions.get("truncation", 1.0))[0]
        layers = range(*_range(options.layers or LAYERS["all"], model))
        n, values = directions(style_weights(model, run.nets, start.shape[-1], layers), options.count)
        rows = {"w": moved(start, n, strengths, layers).reshape(-1, *start.shape)}
    else:
        if options.layers:
            raise ValueError(f"--layers: a {type(model).__name__} has no styles to choose among")
        a = latent_weights(latents.latent_model(model), run.nets, drawn.conditions)
        n, values = directions(a, options.count)
        z = moved(drawn.z[0], n, strengths).reshape(-1, len(drawn.z[0]))
        rows = {"z": z, **{name: np.resize(x, len(z)) for name, x in drawn.conditions.items()}}
    said = write_grid(options, _rendered(options, run, rows), options.columns)
    return f"{said}; eigenvalues {', '.join(f'{value:.3g}' for value in values)}"


def _project(options: argparse.Namespace, run: Run) -> str:
    model = latents.style_model(run.experiment.model)
    label = _one_label(options, run)
    target = read_images(options.images, model.image_shape, options.fit)
    distance = distance_of(options.distance, model.image_shape, run.experiment.data)
    key = jax.random.key(options.seed)
    found = project(model, run.nets, to_float(jnp.asarray(target)), distance, key, label, options.steps, options.rate)
    check_finite_images(found.image, run.nets)
    if options.styles:
        with whole(options.styles) as partial:
            np.savez(partial, w=np.asarray(found.w))
    pictures = beside(target, np.asarray(to_uint8(found.image)))
    said = write_grid(options, pictures, math.ceil(len(target) ** 0.5))
    before, after = (float(jnp.mean(x)) for x in (found.start, found.distance))
    return f"{said}; distance ({options.distance}) {before:.4g} at the mean style, {after:.4g} at the one found"


def _one_label(options: argparse.Namespace, run: Run) -> int | None:
    """The class to search in; None for a model without classes."""
    labels, classes = classes_of(options.labels, run), run.experiment.num_classes
    if classes and len(labels) != 1:
        raise ValueError(f"this model has {classes} classes: say in which one to search, such as --labels 0")
    _check_used(options, run, 1, draw.label_conditions(labels or None))
    return labels[0] if labels else None


def _rendered(options: argparse.Namespace, run: Run, rows: dict[str, Any]) -> np.ndarray:
    model, n = latents.latent_model(run.experiment.model), len(next(iter(rows.values())))
    return np.concatenate(list(with_progress(latents.render(model, run.nets, rows, options.chunk), n)))
