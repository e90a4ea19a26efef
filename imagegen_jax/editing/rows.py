"""What edits by a denoiser are made of: rows of images and conditions, and what a program makes of them in chunks."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagegen_jax.cli.runs import check_used, classes_of, scalars_of, with_progress
from imagegen_jax.core import draw
from imagegen_jax.core.finite import check_finite_images
from imagegen_jax.core.image import to_float, to_uint8
from imagegen_jax.diffusion import restoration
from imagegen_jax.diffusion.restoration import Edit, Given
from imagegen_jax.run import Run


def made(
    options: argparse.Namespace, run: Run, edit: Edit, rows: Given, arrays: Given | None = None, **settings: Any
) -> np.ndarray:
    """Returns what `edit` makes of `rows`, --chunk at a time, all with the same `arrays`."""
    n = len(rows["image"])
    chunk = min(options.chunk, n)

    def given(start: int) -> tuple[Any, ...]:
        at = np.minimum(np.arange(start, start + chunk), n - 1)  # the last row fills up the last chunk
        taken = {**jax.tree.map(functools.partial(_rows, at), rows), **(arrays or {})}
        return run.nets, taken, jax.random.fold_in(jax.random.key(options.seed), start)

    def compiled(model: Any) -> Any:
        return restoration.program(edit, model, **settings)

    check_used(options, run.experiment.model, lambda model: compiled(model).lower(*given(0)).as_text())

    def chunks() -> Iterator[np.ndarray]:
        for start in range(0, n, chunk):
            images = np.asarray(compiled(run.experiment.model)(*given(start)))[: n - start]
            check_finite_images(images, run.nets)
            yield images

    return np.concatenate(list(with_progress(chunks(), n)))


def _rows(at: np.ndarray, values: Any) -> Any:
    """The rows `at` of an array; a scalar as it is."""
    return np.asarray(values)[at] if np.ndim(values) else values


def floats(images: np.ndarray) -> np.ndarray:
    """Returns uint8 images as models see them."""
    return np.asarray(to_float(jnp.asarray(images)))


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Returns images of models as uint8."""
    return np.asarray(to_uint8(jnp.asarray(images)))


def conditions_of(
    options: argparse.Namespace, run: Run, n: int, labels: Sequence[int] | np.ndarray | None = None
) -> dict[str, Any]:
    """Returns labels of `n` images, those given or asked for in turn, and guidance."""
    model = run.experiment.model
    labels = (classes_of(options.labels, run, n) or None) if labels is None else labels
    if run.experiment.num_classes and labels is None:
        raise ValueError(
            f"this model has {run.experiment.num_classes} classes: say of which one the images are, such as --labels 0"
        )
    rows = None if labels is None else np.resize(labels, n)
    conditions = {**draw.label_conditions(rows), **scalars_of(options, model)}
    draw.check_conditions(model, n, conditions)
    return conditions
