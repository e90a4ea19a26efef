"""Draws what a visitor asks for: step by step where the solver is a table, else whole."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.space import picture_of
from imagegen_jax.core.capabilities import FromLatents
from imagegen_jax.core.drawing import draw
from imagegen_jax.core.drawing.finite import check_finite_images, to_bytes
from imagegen_jax.core.model import Batch, Nets
from imagegen_jax.core.platform.target import cached_by_platform
from imagegen_jax.editing import latents
from imagegen_jax.pages.play import stepping
from imagegen_jax.pages.play.places import Opened
from imagegen_jax.pages.play.settings import MOST, DrawSettings

Images = np.ndarray  # uint8 [n h w c]


class Progress(NamedTuple):
    """How far a drawing is, and what can be seen of it."""

    step: int
    of: int
    look: Callable[[], Images] | None = None  # makes the images of now: costly, so not for every step


Stepwise = Generator[Progress, None, Images]


def rows_for(n: int) -> int:
    """Returns how many images are drawn together for `n`: few numbers, since each is a program of its own."""
    return next(size for size in (1, 4, 8, MOST) if size >= n)


def drawn(opened: Opened, settings: DrawSettings, noises: stepping.Noises | None = None) -> Stepwise:
    """Draws the images of settings; `noises` [n h w c] take the place of those of the seeds, where a model denoises.

    Raises NonFiniteError where an image is not finite.
    """
    if settings.steps is not None:
        return _by_steps(opened, settings, noises)
    if isinstance(opened.model, FromLatents):
        return _whole(_of_latents(opened, settings))
    return _whole(_of_model(opened, settings))


def _by_steps(opened: Opened, settings: DrawSettings, noises: stepping.Noises | None) -> Stepwise:
    n, rows = settings.n, rows_for(settings.n)
    model = stepping.with_steps(opened.model, settings.steps)
    conditions = settings.conditions(opened, rows)
    draw.check_conditions(model, rows, conditions)
    x: Any = None

    def resized(draw: int) -> np.ndarray:
        noise = noises(draw) if noises else stepping.start_noise(settings.seeds, model.image_shape, draw)
        return np.resize(noise, (rows, *noise.shape[1:]))

    def look() -> Images:
        return picture_of(model, stepping.decoded(model, opened.nets, x)[0][:n])

    for seen in stepping.walked(model, opened.nets, conditions, np.resize(settings.seeds, rows), resized):
        x = jax.block_until_ready(seen.estimate)
        yield Progress(seen.step, seen.of, look)
    images, finite = stepping.decoded(model, opened.nets, x)
    check_finite_images(finite[:n], opened.nets)
    return picture_of(model, images[:n])


def _whole(images: Iterator[Images]) -> Stepwise:
    yield Progress(0, 1)
    return np.concatenate(list(images))


def _of_model(opened: Opened, settings: DrawSettings) -> Iterator[Images]:
    """Draws each image by itself with its own seed, by the model's own `sample`."""
    for seed in settings.seeds:
        conditions = settings.conditions(opened, 1)
        images = draw.sample(opened.model, opened.nets, 1, int(seed), conditions, 1)
        yield picture_of(opened.model, images)[..., :3]


def _of_latents(opened: Opened, settings: DrawSettings) -> Iterator[Images]:
    yield rendered(opened, {"z": latents_of(opened, settings), **settings.conditions(opened, settings.n)})


def latents_of(opened: Opened, settings: DrawSettings) -> np.ndarray:
    """Draws the latent of each seed: [n z]."""
    conditions = settings.conditions(opened, 1)
    found = [latents.draw(opened.model, jax.random.key(seed), 1, conditions) for seed in settings.seeds]
    return np.concatenate([np.asarray(z) for z in found])


def rendered(opened: Opened, rows: Mapping[str, Any]) -> Images:
    """Makes the images of latents "z" and their conditions, or of styles "w", at most `MOST` at a time."""
    n, parts = len(rows["w" if "w" in rows else "z"]), []
    make = _rendering(opened.model)
    for start in range(0, n, MOST):
        size = rows_for(min(MOST, n - start))
        at = np.minimum(np.arange(start, start + size), n - 1)
        part = {name: np.asarray(value)[at] if np.ndim(value) else value for name, value in rows.items()}
        images, finite = (np.asarray(found)[: n - start] for found in make(opened.nets, part))
        check_finite_images(finite, opened.nets)
        parts.append(images)
    return np.concatenate(parts)


@cached_by_platform
def _rendering(model: Any) -> Any:
    return compiling.jit(functools.partial(_images, model))


def _images(model: Any, nets: Nets, rows: Batch) -> Any:
    if "w" in rows:
        return to_bytes(latents.style_model(model).synthesise(nets, rows["w"]))
    return to_bytes(model.generate(nets, rows["z"], {name: rows[name] for name in rows if name != "z"}))


def warm(opened: Opened, settings: DrawSettings) -> None:
    """Has the programs of a drawing ready, by the first of its steps."""
    for progress in drawn(opened, settings):
        if progress.look is not None:
            progress.look()
            return
