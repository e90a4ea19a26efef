"""The loss of a run's model on each image by itself, by the same noise for all: what membership is guessed by."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays import autoencoding
from imagegen_jax.core.arrays.image import images_to_float
from imagegen_jax.core.capabilities import reads_text
from imagegen_jax.core.model import Batch, Inputs, Model, Nets, condition_rows
from imagegen_jax.core.platform.target import cached_by_platform
from imagegen_jax.core.step import row_keys, stage_at
from imagegen_jax.metrics.membership import NO_RUN
from imagegen_jax.metrics.sets import ArraySet, ImageSet, ReconstructionSet, SampleSet, TrainedRun

DRAWS = 16  # of noise, and of its levels where a loss has some
MOST = 2000  # images of each side, drawn by the seed
ROWS = 64  # images at a time


class Losses(NamedTuple):
    """Losses of images that a run was trained on, and of others."""

    members: Float[np.ndarray, " n"]
    others: Float[np.ndarray, " m"]


def no_losses(images: ImageSet) -> str | None:
    """Says why there is no loss of an image alone by the run that drew `images`, with the remedy; None: there is."""
    if not isinstance(images, SampleSet | ReconstructionSet):
        return NO_RUN
    model = images.run.experiment.model
    name, phases = type(model).__name__, model.phases(stage_at(model, images.run.step))
    if len(phases) != 1:
        return f"a {name} is trained by {len(phases)} losses, and none is an image's own: leave it out"
    if reads_text(model) is not None or set(condition_rows(model)) - {"label", "image"}:
        return f"the loss of a {name} needs more than images and labels: leave it out"
    return None


def losses_of(images: ImageSet, reference: ImageSet, held_out: ImageSet | None, seed: int) -> Losses:
    """Computes the losses of a run's training images and of held-out ones, at most `MOST` of each.

    Raises ValueError where the run has no such loss, or where there are no stored images.
    """
    if (reason := no_losses(images)) is not None:
        raise ValueError(reason)
    assert isinstance(images, SampleSet | ReconstructionSet)
    if not isinstance(reference, ArraySet) or not isinstance(held_out, ArraySet):
        raise ValueError("the losses of images need the images themselves, of training and of held-out data")
    return Losses(*(_losses(images.run, side, seed) for side in (reference, held_out)))


def _losses(run: TrainedRun, images: ArraySet, seed: int) -> Float[np.ndarray, " n"]:
    model = run.experiment.model
    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:MOST])
    program = _program(model, stage_at(model, run.step))
    keys = jax.random.split(jax.random.key(seed), DRAWS)
    found = []
    for start in range(0, len(chosen), ROWS):
        rows = chosen[np.minimum(np.arange(start, start + ROWS), len(chosen) - 1)]  # of one number, to compile once
        batch = {"image": np.asarray(images.images[rows])}
        if images.labels is not None:
            batch["label"] = np.asarray(images.labels[rows], np.int32)
        found.append(np.asarray(program(run.nets, batch, keys, np.int32(run.step))))
    return np.concatenate(found)[: len(chosen)].astype(np.float64)


@cached_by_platform
def _program(model: Model, stage: Hashable) -> Any:
    (phase,) = model.phases(stage)

    def of_row(nets: Nets, row: Batch, key: Any, step: Any) -> Any:
        batch: Batch = images_to_float({name: leaf[None] for name, leaf in row.items()})
        encoding, drawn = jax.random.split(key)
        batch = autoencoding.drawn_latents(model, nets, batch, row_keys(encoding, batch))
        return phase.loss(nets, Inputs(batch, drawn, row_keys(drawn, batch), step, nets))[0]

    def of_rows(nets: Nets, rows: Batch, keys: Any, step: Any) -> Any:
        each = jax.vmap(of_row, (None, 0, None, None))
        return jnp.mean(jax.lax.map(lambda key: each(nets, rows, key, step), keys), axis=0)

    return compiling.jit(of_rows)
