"""Ways through what a model can make: between two seeds, mixes of styles, and along directions."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from imagegen_jax.core.capabilities import FromLatents, StyleBased
from imagegen_jax.core.config.given import check_integer, check_number, check_seed
from imagegen_jax.core.model import num_classes
from imagegen_jax.editing import directions as sefa
from imagegen_jax.editing import latents
from imagegen_jax.metrics.scores.path_length import slerp
from imagegen_jax.pages.play.drawing import Progress, Stepwise, drawn, latents_of, rendered
from imagegen_jax.pages.play.places import Opened
from imagegen_jax.pages.play.settings import DrawSettings
from imagegen_jax.pages.play.stepping import start_noise

DIRECTIONS = 6  # that there are sliders for
STRENGTH = 10.0  # of a direction, at most

_found: dict[Opened, np.ndarray] = {}
_finding = threading.Lock()


def between(opened: Opened, settings: DrawSettings, given: Mapping[str, Any]) -> Stepwise:
    """Draws `n` images on the arc from the seed to "other": of latents, or of all noise, also what a solver adds.

    Raises ValueError where a model makes its images of neither.
    """
    other = dataclasses.replace(settings, n=1, seed=check_seed(given.get("other", 1), "other"))
    first = dataclasses.replace(settings, n=1)
    share = jnp.linspace(0, 1, max(2, settings.n))
    if settings.steps is not None:

        def along(draw: int) -> np.ndarray:
            start, end = (start_noise(one.seeds, opened.model.image_shape, draw) for one in (first, other))
            return _arc(start, end, share)

        images = yield from drawn(opened, settings, along)
        return images
    yield Progress(0, 1)
    _check_latents(opened)
    start, end = (latents_of(opened, one) for one in (first, other))
    path = _arc(start, end, share)
    return rendered(opened, {"z": path, **settings.conditions(opened, len(path))})


def _arc(start: np.ndarray, end: np.ndarray, share: Any) -> np.ndarray:
    a, b = (jnp.repeat(jnp.asarray(x).reshape(1, -1), len(share), axis=0) for x in (start, end))
    return np.asarray(slerp(a, b, share)).reshape(-1, *start.shape[1:])


def mixed(opened: Opened, settings: DrawSettings, given: Mapping[str, Any]) -> Stepwise:
    """Mixes styles: image (r, c) of a square has those of row r, but in layers "first" to "last" those of column c.

    Rows have the seeds from "seed" on, columns from "other" on. Raises ValueError for a model without styles.
    """
    try:
        model = latents.style_model(opened.model)
    except TypeError as error:
        raise ValueError(str(error)) from None
    side = max(2, min(4, int(settings.n**0.5)))
    first = check_integer(given.get("first", 0), "first", 0, model.layers - 1)
    last = check_integer(given.get("last", 3), "last", first, model.layers - 1)
    seeds = (settings.seed, check_seed(given.get("other", 100), "other"))
    yield Progress(0, 1)
    rows, columns = (_styles(opened, dataclasses.replace(settings, n=side, seed=seed)) for seed in seeds)
    w = np.asarray(latents.mixed(rows, columns, first, last + 1))
    return rendered(opened, {"w": w.reshape(-1, *w.shape[2:])})


def walked(opened: Opened, settings: DrawSettings, given: Mapping[str, Any]) -> Stepwise:
    """Draws the images of seeds moved along directions, with a strength for each in "strengths".

    Raises ValueError for a model that makes its images of no latents.
    """
    _check_latents(opened)
    strengths = given.get("strengths", [])
    if not isinstance(strengths, list) or len(strengths) > DIRECTIONS:
        raise ValueError(f"strengths: a list of at most {DIRECTIONS} numbers")
    alphas = np.array([check_number(s, "strengths", -STRENGTH, STRENGTH) for s in strengths], np.float32)
    yield Progress(0, 1)
    n = directions_of(opened)[: len(alphas)]
    move = alphas[: len(n)] @ n if len(n) else np.float32(0)
    if isinstance(opened.model, StyleBased):
        return rendered(opened, {"w": np.asarray(_styles(opened, settings)) + move})
    z = latents_of(opened, settings) + move
    return rendered(opened, {"z": z, **settings.conditions(opened, settings.n)})


def directions_of(opened: Opened) -> np.ndarray:
    """Finds the directions in which images change most, by SeFa: float32 [k d]; found once for a checkpoint."""
    with _finding:
        if opened not in _found:
            _found.clear()
            _found[opened] = _directions(opened)
        return _found[opened]


def _directions(opened: Opened) -> np.ndarray:
    model, nets, first = opened.model, opened.nets, DrawSettings(label=0 if num_classes(opened.model) else None)
    if isinstance(model, StyleBased):
        width = _styles(opened, first).shape[-1]
        a = sefa.style_weights(model, nets, width, range(model.layers))
    else:
        conditions = first.conditions(opened, 1)
        label = {name: value for name, value in conditions.items() if name == "label"}
        a = sefa.latent_weights(model, nets, label)
    return sefa.directions(a, min(DIRECTIONS, a.shape[1]))[0].astype(np.float32)


def _styles(opened: Opened, settings: DrawSettings) -> Any:
    z = latents_of(opened, settings)
    conditions = settings.conditions(opened, len(z))
    return opened.model.styles(opened.nets, jnp.asarray(z), conditions.get("label"), conditions.get("truncation", 1.0))


def _check_latents(opened: Opened) -> None:
    if not isinstance(opened.model, FromLatents):
        raise ValueError(f"a {type(opened.model).__name__} does not make its images of latents alone")


WAYS = {"between": between, "mix": mixed, "walk": walked}
