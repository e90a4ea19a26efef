"""The grid of samples that a run draws as it goes on, and the health of what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from imagegen_jax.core.arrays.image import images_to_float
from imagegen_jax.core.arrays.texts import texts_of
from imagegen_jax.core.capabilities import reads_text
from imagegen_jax.core.drawing.draw import class_rows, label_conditions, panels
from imagegen_jax.core.drawing.grid import grid
from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.model import Image
from imagegen_jax.core.program import Program
from imagegen_jax.core.reporting.health import image_health, latent_health
from imagegen_jax.core.state import State
from imagegen_jax.core.step import prepare

SEED = 0  # of every grid, so that those of two steps differ by what was learned


def rows_of_grid(experiment: Experiment) -> tuple[np.ndarray | None, int, int]:
    """Returns the labels of a grid of samples, how many columns it has, and how many images."""
    labels, columns = class_rows(experiment.num_classes, experiment.samples)
    return labels, columns, experiment.samples if labels is None else len(labels)


def draw_grid(program: Program, state: State) -> tuple[np.ndarray, Mapping[str, Any], tuple[str, ...]]:
    """Draws a picture of samples from a fixed key, a class a row where there are classes, and measures their health.

    What it draws by texts follows the captions of the data's first rows, which are returned last. Images that are made
    from others are shown between these and the data's own (`panels`). Samples of another shape than the data, such as
    images of a model of latents, are not compared with them.
    """
    labels, columns, n = rows_of_grid(program.experiment)
    images = program.sample(state, n, seed=SEED, conditions=label_conditions(labels))
    batch = program.dataset.batch(0, n)
    data = prepare((), batch, program.constants.key).get("image")
    health = {} if data is None else _health(images, jnp.asarray(data))
    prompts = texts_of(program.dataset, n) if reads_text(program.experiment.model) else ()
    return grid(panels(program.experiment.model, images, batch), columns), health, prompts


def _health(samples: np.ndarray, data: Image) -> Mapping[str, Any]:
    if samples.shape[1:] != data.shape[1:]:
        return {}
    measure = image_health if samples.dtype == np.uint8 else latent_health
    return measure(images_to_float({"image": jnp.asarray(samples)})["image"], data)
