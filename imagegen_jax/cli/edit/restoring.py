"""`imagegen edit` with a denoiser: the rest of an image of which something is given, as pictures."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from imagegen_jax.cli.edit.common import Command, add_edit, write_grid
from imagegen_jax.cli.options import integer, number
from imagegen_jax.cli.runs import add_guide, add_scalar, classes_of
from imagegen_jax.core.grid import beside
from imagegen_jax.core.space import space_of
from imagegen_jax.data.user_images import add_images, read_images
from imagegen_jax.diffusion import editing, inverse, restoration
from imagegen_jax.diffusion.restoration import NOISE, Edit, Given
from imagegen_jax.editing.rows import as_bytes, conditions_of, floats, made
from imagegen_jax.run import Run


def _add_inpaint(edits: Any) -> argparse.ArgumentParser:
    parser = _add(edits, "inpaint", "images with a part of them drawn anew", _inpaint)
    parser.add_argument(
        "--mask",
        required=True,
        help="a grey image of the model's size: what is white is drawn anew, what is black stays",
    )
    parser.add_argument("--repeats", type=integer(), help="how often repaint takes each step (default: 10)")
    return _add_method(parser, "repaint", "replacement")


def _add_redraw(edits: Any) -> argparse.ArgumentParser:
    parser = _add(edits, "redraw", "images with noise, and without again: SDEdit", _redraw, "sdedit")
    parser.add_argument(
        "--strength", type=number(0, 1), default=0.5, help="0 (nothing changes) to 1 (all) (default: 0.5)"
    )
    return parser


def _add_resemble(edits: Any) -> argparse.ArgumentParser:
    parser = _add(edits, "resemble", "other images with the same means of squares of pixels: ILVR", _resemble, "ilvr")
    parser.add_argument("--factor", type=integer(2), default=4, help="height and width of a square (default: 4)")
    parser.add_argument("--low", type=number(0), default=0.0, help="noise level below which all is free (default: 0)")
    return parser


def _add_enlarge(edits: Any) -> argparse.ArgumentParser:
    what = "small images at the size of the model: super-resolution"
    parser = _add(edits, "enlarge", what, _enlarge, "superres")
    parser.add_argument("--factor", type=integer(2), default=4, help="how many times smaller they are (default: 4)")
    return _add_method(parser)


def _add_colour(edits: Any) -> argparse.ArgumentParser:
    return _add_method(_add(edits, "colour", "grey images in colour", _colour))


def _add_deblur(edits: Any) -> argparse.ArgumentParser:
    parser = _add(edits, "deblur", "blurred images made sharp", _deblur)
    parser.add_argument(
        "--sigma", type=number(0, above=True), required=True,
        help="deviation in pixels of the Gaussian that they were blurred with, as if opposite edges met",
    )  # fmt: skip
    return _add_method(parser)


def _add_morph(edits: Any) -> argparse.ArgumentParser:
    parser = _add(edits, "morph", "from each image to the next, by way of their noise: DDIM's inversion", _morph)
    parser.add_argument("--columns", type=integer(2), default=7, help="images in a row, with both ends (default: 7)")
    parser.set_defaults(seed=None)
    return parser


def _add_reclass(edits: Any) -> argparse.ArgumentParser:
    what = "images as they would be in other classes, by way of their noise: DDIB"
    parser = _add(edits, "reclass", what, _reclass, "ddib")
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
    return parser


EDITS = (
    _add_inpaint, _add_redraw, _add_resemble, _add_enlarge, _add_colour, _add_deblur, _add_morph, _add_reclass
)  # fmt: skip


def _add(edits: Any, name: str, what: str, command: Command, *aliases: str) -> argparse.ArgumentParser:
    parser = add_edit(edits, name, what, command, aliases=aliases)
    add_images(parser)
    add_scalar(parser, "guidance")
    add_guide(parser)
    return parser


def _add_method(parser: argparse.ArgumentParser, *first: str) -> argparse.ArgumentParser:
    """The options of edits to which `NOISE` has methods; `first` are their own."""
    methods = (*first, *NOISE)
    parser.add_argument("--method", choices=methods, default=methods[0], help=f"default: {methods[0]}")
    parser.add_argument(
        "--noise", type=number(0), metavar="DEVIATION",
        help="of the noise in what is given, where black is -1 and white 1 (default: "
        + ", ".join(f"{noise:.2g} with {method}" for method, noise in NOISE.items()) + ")",
    )  # fmt: skip
    return parser


# --- commands --------------------------------------------------------------------------------------------------------


def _inpaint(options: argparse.Namespace, run: Run) -> str:
    images, noise, model = _read(options, run), _noise(options), run.experiment.model
    repeats = 10 if options.repeats is None else options.repeats
    if options.repeats and options.method != "repaint":
        raise ValueError(f"--repeats {repeats}: read by --method repaint alone")
    known = read_images([options.mask], (*model.image_shape[:2], 1), options.fit)[0] < 128
    editing.check_mask(known)
    shown = np.where(known, images, 255).astype(np.uint8)
    if options.method in NOISE:
        arrays = {"known": known, "noise": noise}
        return _restored(options, run, restoration.filled, images, shown, arrays, method=options.method)
    solver = editing.RePaint(repeats) if options.method == "repaint" else model.path.solver
    return _restored(options, run, restoration.inpainted, images, shown, {"known": known}, solver=solver)


def _redraw(options: argparse.Namespace, run: Run) -> str:
    images = _read(options, run)
    return _restored(options, run, restoration.redrawn, images, images, {}, strength=options.strength)


def _resemble(options: argparse.Namespace, run: Run) -> str:
    images, factor = _read(options, run), _factor(options, run)
    arrays = {"low": np.float32(options.low)}
    return _restored(options, run, restoration.resembling, images, images, arrays, factor=factor)


def _enlarge(options: argparse.Namespace, run: Run) -> str:
    factor = _factor(options, run)
    h, w, c = run.experiment.model.image_shape
    images = _read(options, run, (h // factor, w // factor, c))
    shown = images.repeat(factor, axis=1).repeat(factor, axis=2)
    arrays = {"noise": _noise(options)}
    return _restored(options, run, restoration.enlarged, images, shown, arrays, factor=factor, method=options.method)


def _colour(options: argparse.Namespace, run: Run) -> str:
    h, w, c = editing.denoising_model(run.experiment.model).image_shape
    if c == 1:
        raise ValueError("this model's images are grey themselves: use a run of a model of colours")
    images = _read(options, run, (h, w, 1))
    arrays = {"noise": _noise(options)}
    return _restored(
        options, run, restoration.coloured, images, images.repeat(c, axis=3), arrays, method=options.method
    )


def _deblur(options: argparse.Namespace, run: Run) -> str:
    images = _read(options, run)
    odd = (min(images.shape[1:3]) - 1) // 2 * 2 + 1  # one size for every sigma
    arrays = {"noise": _noise(options), "kernel": inverse.gaussian(options.sigma, odd).astype(np.float32)}
    return _restored(options, run, restoration.deblurred, images, images, arrays, method=options.method)


def _morph(options: argparse.Namespace, run: Run) -> str:
    images = _read(options, run)
    _no_seed(options)
    if len(images) < 2:
        raise ValueError(f"{len(images)} images: at least 2 are needed to morph from one to the next")
    ways, steps = len(images) - 1, options.columns
    rows = {"image": floats(images), "conditions": conditions_of(options, run, ways + 1)}
    noise = made(options, run, restoration.inverted, rows)
    rows = {
        "image": noise[:-1].repeat(steps, axis=0),
        "other": noise[1:].repeat(steps, axis=0),
        "share": np.tile(np.linspace(0, 1, steps, dtype=np.float32), ways),
        "conditions": conditions_of(options, run, ways * steps),
    }
    return write_grid(options, as_bytes(made(options, run, restoration.morphed, rows)), steps)


def _reclass(options: argparse.Namespace, run: Run) -> str:
    images, model = _read(options, run), run.experiment.model
    _no_seed(options)
    if not run.experiment.num_classes:
        raise ValueError("this model knows no classes to go between: use a run of one that does")
    if options.labels:
        raise ValueError(f"--labels {options.labels}: here classes have the names --from and --to")
    of_images, to = classes_of(options.source, run, len(images), "--from"), classes_of(options.to, run, option="--to")
    n, ways = len(images), len(to)
    source = conditions_of(options, run, n * ways, np.repeat(np.resize(of_images, n), ways))
    target = conditions_of(options, run, n * ways, to)
    if "guidance" in source:
        source["guidance"] = 1.0  # exaggerated on the way up, the noise would be none of the model's
    rows = {"image": floats(images.repeat(ways, axis=0)), "source": source, "conditions": target}
    found = as_bytes(made(options, run, restoration.bridged, rows, strength=options.strength))
    found = found.reshape(n, ways, *model.image_shape)
    pictures = np.concatenate([images[:, None], found], axis=1).reshape(-1, *model.image_shape)
    return write_grid(options, pictures, ways + 1)


def _read(options: argparse.Namespace, run: Run, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The images given, which have the shape of the model's, or another. Raises ValueError for a model of latents."""
    model = editing.denoising_model(run.experiment.model)
    if not space_of(model).draws_images:
        raise ValueError(
            f"{run.workdir} is of a model of latents, which no image file holds: edit latents in Python, with the "
            "functions of diffusion.restoration"
        )
    return read_images(options.images, shape or model.image_shape, options.fit)


def _no_seed(options: argparse.Namespace) -> None:
    """For edits that go by way of an image's own noise."""
    if options.seed is not None:
        raise ValueError(f"--seed {options.seed}: nothing is drawn at random here: leave it out")
    options.seed = 0


def _factor(options: argparse.Namespace, run: Run) -> int:
    h, w, _ = editing.denoising_model(run.experiment.model).image_shape
    if h % options.factor or w % options.factor:
        raise ValueError(f"--factor {options.factor}: must divide this model's images of {h}x{w}")
    return options.factor


def _noise(options: argparse.Namespace) -> np.float32:
    """The deviation of the noise in what is given, as --method has it."""
    if options.noise is None:
        return np.float32(NOISE.get(options.method, 0.0))
    if options.method not in NOISE:
        raise ValueError(f"--noise {options.noise}: read by --method {' or '.join(NOISE)} alone, not {options.method}")
    if options.method == "dps" and options.noise == 0:
        raise ValueError(f"--noise {options.noise}: must be above 0 for dps")
    return np.float32(options.noise)


def _restored(
    options: argparse.Namespace, run: Run, edit: Edit, images: np.ndarray, shown: np.ndarray, arrays: Given,
    **settings: Any,
) -> str:  # fmt: skip
    """Writes what `edit` makes of uint8 `images`, each beside what is `shown` of it."""
    rows = {"image": floats(images), "conditions": conditions_of(options, run, len(images))}
    found = as_bytes(made(options, run, edit, rows, arrays, **settings))
    return write_grid(options, beside(shown, found), max(1, round(len(found) ** 0.5)))
