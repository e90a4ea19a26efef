"""Samples as one picture: a grid of them, a class or a prompt a row, and whether that is small enough."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence

import numpy as np

from imagegen_jax.core.arrays.image import is_image
from imagegen_jax.core.arrays.space import sample_shape
from imagegen_jax.core.drawing.grid import beside, grid, magnified, repeated
from imagegen_jax.core.model import Model, condition_rows
from imagegen_jax.core.provenance.origin import Origin
from imagegen_jax.data.pictures import captions
from imagegen_jax.data.pictures.output import check_picture_size, write_picture

COLUMNS = 64  # of a grid, at most
PIXELS = 2**27  # of a grid, at most: larger ones take gigabytes to write and to look at


def translated(model: Model) -> str:
    """Returns the name of the images that `model` makes its own from; "" where it makes them from none."""
    return next((name for name, row in condition_rows(model).items() if is_image(row.shape, row.dtype)), "")


def write_samples(
    path: pathlib.Path,
    images: np.ndarray,
    labels: np.ndarray | None,
    sources: np.ndarray | None = None,
    prompts: Sequence[str] = (),
    origin: Origin | None = None,
) -> None:
    """Writes uint8 images [n h w c] as a grid, each beside its source where that can be magnified to its height.

    Those of one of few prompts are under its words. The metadata of the file say its origin, with all prompts.
    """
    if sources is not None and images.shape[1] % sources.shape[1] == 0:
        images = beside(repeated(sources, images.shape[1]), images)
    different = len(set(prompts))
    columns = _columns(len(images), different if labels is None else len(np.unique(labels)))
    if 0 < different <= captions.MOST:
        picture = captions.by_prompt(images, prompts, columns)
    else:
        picture = magnified(grid(images, columns), images.shape[1])
    write_picture(path, picture, None if origin is None else origin.with_prompts(prompts))


def write_row(
    path: pathlib.Path, image: np.ndarray, row: int, prompts: Sequence[str] = (), origin: Origin | None = None
) -> None:
    """Writes one image uint8 [h w c] of a command, as it is; `prompts` are those of all rows."""
    write_picture(path, image, None if origin is None else origin.of_row(row, prompts[row : row + 1]))


def _columns(n: int, classes: int) -> int:
    """Returns the columns of a grid: a class a row where there are classes, else a square."""
    rows = min(classes, n)
    return min(COLUMNS, max(1, round(n / rows if rows else n**0.5)))


def check_grid(place: pathlib.Path, n: int, classes: int, model: Model) -> None:
    """Raises ValueError where a grid of so many images would be larger than a picture can be, before they are drawn."""
    height, width, _ = sample_shape(model)
    row = condition_rows(model).get(translated(model))
    if row is not None and height % row.shape[0] == 0:
        width += row.shape[1] * (height // row.shape[0])
    zoom, columns = magnified(np.zeros((1, 1, 1), np.uint8), height).shape[0], _columns(n, classes)
    height, width = (2 + count * (side + 2) for count, side in ((math.ceil(n / columns), height), (columns, width)))
    if height * width * zoom**2 > PIXELS:
        raise ValueError(
            f"--n {n}: a picture of so many images would have {height * zoom}x{width * zoom} pixels: write them to a "
            "folder/ or an .npz (--out), or ask for fewer"
        )
    check_picture_size(place, height * zoom, width * zoom)
