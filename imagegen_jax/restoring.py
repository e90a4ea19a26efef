"""`imagegen edit` with a denoiser: the rest of an image of which something is given, as pictures."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagegen_jax import sampling
from imagegen_jax.core import program
from imagegen_jax.core.model import Image, PRNGKey
from imagegen_jax.data.grid import beside
from imagegen_jax.data.image import to_float, to_uint8
from imagegen_jax.diffusion import editing, inverse
from imagegen_jax.diffusion.denoiser import Denoise
from imagegen_jax.diffusion.multistep import Euler
from imagegen_jax.diffusion.solver import Path, Solver
from imagegen_jax.run import Run

Restore = Callable[[Path, Denoise, Image, PRNGKey], Image]  # how it is drawn, by what, what is given


def _add_inpaint(edits: Any) -> argparse.ArgumentParser:
    parser = _add(edits, "inpaint", "images with a part of them drawn anew", _inpaint)
    parser.add_argument(
        "--mask", required=True, help="an image: what is white in it is drawn anew, what is black stays"
    )
    parser.add_argument(
        "--repeats", type=int, default=10,
        help="how often each step is taken, so that both parts agree: RePaint (default: 10; 0: the run's own solver)",
    )  # fmt: skip
    return parser


def _add_redraw(edits: Any) -> argparse.ArgumentParser:
    parser = _add(edits, "redraw", "images with noise, and without again: SDEdit", _redraw)
    parser.add_argument("--strength", type=float, default=0.5, help="0 (nothing changes) to 1 (all) (default: 0.5)")
    return parser


def _add_enlarge(edits: Any) -> argparse.ArgumentParser:
    parser = _add(edits, "enlarge", "small images at the size of the model: super-resolution", _enlarge)
    parser.add_argument("--factor", type=int, default=4, help="how many times smaller they are (default: 4)")
    return parser


def _add_colour(edits: Any) -> argparse.ArgumentParser:
    return _add(edits, "colour", "grey images in colour", _colour)


def _add_morph(edits: Any) -> argparse.ArgumentParser:
    parser = _add(edits, "morph", "from each image to the next, by way of their noise: DDIM's inversion", _morph)
    parser.add_argument("--columns", type=int, default=7, help="images in a row, with both ends (default: 7)")
    return parser


def _add_reclass(edits: Any) -> argparse.ArgumentParser:
    parser = _add(edits, "reclass", "images as they would be in other classes, by way of their noise: DDIB", _reclass)
    parser.add_argument(
        "--from", type=sampling.classes, required=True, dest="source", metavar="CLASSES",
        help="the class of the images, or that of each in turn, e.g. 3,3,5",
    )  # fmt: skip
    parser.add_argument(
        "--to", type=sampling.classes, required=True, metavar="CLASSES",
        help="classes to show each image in, side by side, e.g. 5,8",
    )  # fmt: skip
    parser.add_argument(
        "--strength", type=float, default=1.0, help="0 (nothing changes) to 1, by way of noise alone (default: 1)"
    )
    return parser


EDITS = (_add_inpaint, _add_redraw, _add_enlarge, _add_colour, _add_morph, _add_reclass)


def _add(edits: Any, name: str, what: str, command: sampling.Command) -> argparse.ArgumentParser:
    parser = sampling.add_edit(edits, name, what, command)
    parser.add_argument("images", nargs="+", metavar="PLACE", help="files, folders or .zip files")
    sampling.add_scalar(parser, "guidance")
    sampling.add_guide(parser)
    return parser


def _inpaint(options: argparse.Namespace, run: Run) -> str:
    shape = editing.denoising_model(run.experiment.model).image_shape
    if options.repeats < 0:
        raise ValueError(f"--repeats {options.repeats}: must be at least 0")
    images = sampling.read_images(options.images, shape)
    known = sampling.read_images([options.mask], (*shape[:2], 1))[0] < 128
    editing.check_mask(known)

    def restore(path: Path, denoise: Denoise, given: Image, key: PRNGKey) -> Image:
        solver: Solver = editing.RePaint(options.repeats) if options.repeats else path.solver
        return editing.inpaint(solver, denoise, path.sigmas, given, known, key)

    return _restored(options, run, images, np.where(known, images, 255).astype(np.uint8), restore)


def _redraw(options: argparse.Namespace, run: Run) -> str:
    images = sampling.read_images(options.images, editing.denoising_model(run.experiment.model).image_shape)

    def restore(path: Path, denoise: Denoise, given: Image, key: PRNGKey) -> Image:
        return editing.sdedit(path.solver, denoise, path.sigmas, given, options.strength, key)

    return _restored(options, run, images, images, restore)


def _enlarge(options: argparse.Namespace, run: Run) -> str:
    h, w, c = editing.denoising_model(run.experiment.model).image_shape
    factor = options.factor
    if factor < 2 or h % factor or w % factor:
        raise ValueError(f"--factor {factor}: must be at least 2 and divide this model's images of {h}x{w}")
    images = sampling.read_images(options.images, (h // factor, w // factor, c))
    shown = images.repeat(factor, axis=1).repeat(factor, axis=2)
    return _restored(options, run, images, shown, _by_pseudoinverse(inverse.pooled(factor), (h, w, c)))


def _colour(options: argparse.Namespace, run: Run) -> str:
    h, w, c = editing.denoising_model(run.experiment.model).image_shape
    if c == 1:
        raise ValueError("this model's images are grey themselves: use a run of a model of colours")
    images = sampling.read_images(options.images, (h, w, 1))
    return _restored(options, run, images, images.repeat(c, axis=3), _by_pseudoinverse(inverse.grey(c), (h, w, c)))


def _morph(options: argparse.Namespace, run: Run) -> str:
    model = editing.denoising_model(run.experiment.model)
    images = sampling.read_images(options.images, model.image_shape)
    if len(images) < 2 or options.columns < 2:
        raise ValueError(f"{len(images)} images, --columns {options.columns}: at least 2 of each are needed to morph")
    ways, steps = len(images) - 1, options.columns
    shares = jnp.tile(jnp.linspace(0, 1, steps), ways)

    @jax.jit
    def rows(nets: Any, images: Image) -> Image:
        sigmas = model.path.sigmas
        noise = editing.invert(model.denoiser(nets, _conditions(options, run, len(images))), sigmas, images)
        first, second = (jnp.repeat(part, steps, axis=0) for part in (noise[:-1], noise[1:]))
        between = editing.interpolate(first, second, shares)
        denoise = model.denoiser(nets, _conditions(options, run, len(between)))
        return Euler()(denoise, sigmas, between, jax.random.key(options.seed))

    found = rows(run.nets, to_float(jnp.asarray(images)))
    return sampling.write_grid(options, np.asarray(to_uint8(jnp.clip(found, -1, 1))), steps)


def _reclass(options: argparse.Namespace, run: Run) -> str:
    model = editing.denoising_model(run.experiment.model)
    if not run.experiment.num_classes:
        raise ValueError("this model knows no classes to go between: use a run of one that does")
    if options.labels:
        raise ValueError(f"--labels {options.labels}: here classes have the names --from and --to")
    images = sampling.read_images(options.images, model.image_shape)
    n, ways = len(images), len(options.to)
    of_source = _conditions(options, run, n * ways, np.repeat(np.resize(options.source, n), ways))
    of_target = _conditions(options, run, n * ways, options.to)
    if "guidance" in of_source:
        of_source["guidance"] = 1.0  # exaggerated on the way up, the noise would be none of the model's

    @jax.jit
    def drawn(nets: Any, images: Image) -> Image:
        source, target = (model.denoiser(nets, conditions) for conditions in (of_source, of_target))
        return editing.bridge(source, target, model.path.sigmas, images, options.strength)

    found = drawn(run.nets, to_float(jnp.asarray(images.repeat(ways, axis=0))))
    rows = np.asarray(to_uint8(jnp.clip(found, -1, 1))).reshape(n, ways, *model.image_shape)
    pictures = np.concatenate([images[:, None], rows], axis=1).reshape(-1, *model.image_shape)
    return sampling.write_grid(options, pictures, ways + 1)


def _by_pseudoinverse(operator: inverse.Linear, shape: tuple[int, int, int]) -> Restore:
    def restore(path: Path, denoise: Denoise, given: Image, key: PRNGKey) -> Image:
        return path.draw(inverse.pigdm(denoise, given, operator), (len(given), *shape), key)

    return restore


def _restored(options: argparse.Namespace, run: Run, images: np.ndarray, shown: np.ndarray, restore: Restore) -> str:
    """Writes what `restore` makes of uint8 `images`, each beside what is `shown` of it."""
    model = editing.denoising_model(run.experiment.model)
    conditions = _conditions(options, run, len(images))

    @jax.jit
    def made(nets: Any, given: Image) -> Image:
        return restore(model.path, model.denoiser(nets, conditions), given, jax.random.key(options.seed))

    found = np.asarray(to_uint8(jnp.clip(made(run.nets, to_float(jnp.asarray(images))), -1, 1)))
    return sampling.write_grid(options, beside(shown, found), max(1, round(len(found) ** 0.5)))


def _conditions(
    options: argparse.Namespace, run: Run, n: int, labels: Sequence[int] | np.ndarray | None = None
) -> dict[str, Any]:
    """Labels of `n` images, those given or asked for in turn, and guidance."""
    model, labels = run.experiment.model, options.labels if labels is None else labels
    if run.experiment.num_classes and labels is None:
        raise ValueError(
            f"this model has {run.experiment.num_classes} classes: say of which one the images are, such as --labels 0"
        )
    rows = None if labels is None else np.resize(labels, n)
    conditions = {**program.label_conditions(rows), **sampling.scalars_of(options, model)}
    program.check_conditions(model, n, conditions)
    return conditions
