"""Runs an edit by a denoiser over rows of images and conditions, in chunks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagegen_jax.core.arrays.image import to_float, to_uint8
from imagegen_jax.core.drawing.finite import check_finite_images
from imagegen_jax.core.run import Run
from imagegen_jax.data.pictures.streaming import with_progress
from imagegen_jax.editing import restoration
from imagegen_jax.editing.restoration import Edit, Given

TextOf = Callable[[Any], str]  # returns, as text, the program of an edit by a model


def made(
    run: Run,
    edit: Edit,
    rows: Given,
    arrays: Given | None = None,
    *,
    chunk: int = 64,
    seed: int = 0,
    check: Callable[[TextOf], None] | None = None,
    **settings: Any,
) -> np.ndarray:
    """Edits `rows`, `chunk` at a time, all with the same `arrays`; returns the images. Scalars are no rows.

    `check` may look at models' programs before anything is made, and raise. Raises NonFiniteError where an image is not
    finite.
    """
    n = next(len(values) for values in jax.tree.leaves(rows) if np.ndim(values))
    chunk = min(chunk, n)

    def given(start: int) -> tuple[Any, ...]:
        at = np.minimum(np.arange(start, start + chunk), n - 1)  # the last row fills up the last chunk
        taken = {**jax.tree.map(functools.partial(_rows, at), rows), **(arrays or {})}
        return run.nets, taken, jax.random.fold_in(jax.random.key(seed), start)

    def compiled(model: Any) -> Any:
        return restoration.program(edit, model, **settings)

    if check is not None:
        check(lambda model: compiled(model).lower(*given(0)).as_text())

    def chunks() -> Iterator[np.ndarray]:
        for start in range(0, n, chunk):
            images = np.asarray(compiled(run.experiment.model)(*given(start)))[: n - start]
            check_finite_images(images, run.nets)
            yield images

    return np.concatenate(list(with_progress(chunks(), n)))


def _rows(at: np.ndarray, values: Any) -> Any:
    """Returns the rows `at` of an array; a scalar as it is."""
    return np.asarray(values)[at] if np.ndim(values) else values


def floats(images: np.ndarray) -> np.ndarray:
    """Returns uint8 images as models see them."""
    return np.asarray(to_float(jnp.asarray(images)))


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Returns images of models as uint8."""
    return np.asarray(to_uint8(jnp.asarray(images)))
