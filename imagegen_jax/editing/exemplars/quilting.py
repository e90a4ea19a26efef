"""More of a texture by quilting: blocks of the exemplar side by side (Efros & Freeman 2001, SIGGRAPH)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.image import to_float, to_uint8
from imagegen_jax.nn.patches.quilting import nearly_best, places_of, with_block


@dataclasses.dataclass(frozen=True)
class Quilting:
    """Blocks and their seams."""

    block: int = 24  # pixels of a side
    overlap: int = 8
    tolerance: float = 0.1  # blocks are drawn among those that fit so much worse than the best


def quilted(
    exemplar: UInt8[np.ndarray, "v u 3"], size: tuple[int, int], quilting: Quilting, seed: int
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Yields an image of the exemplar's blocks after each row of them, the last one whole; `size`: (height, width).

    Raises ValueError for an exemplar that is smaller than a block and a pixel.
    """
    check_size(exemplar, quilting)
    block, overlap, tolerance = quilting.block, quilting.overlap, quilting.tolerance
    windows = np.lib.stride_tricks.sliding_window_view(exemplar, (block, block), (0, 1)).transpose(0, 1, 3, 4, 2)
    candidates = to_float(jnp.asarray(windows.reshape(-1, block, block, 3)))
    rows, columns = (places_of(length, block, overlap) for length in size)
    canvas = jnp.zeros((rows * (block - overlap) + overlap, columns * (block - overlap) + overlap, 3))
    choose = nearly_best(tolerance)
    add = compiling.jit(lambda canvas, among, place, key: with_block(canvas, among, place, overlap, choose, key))
    key = jax.random.key(seed)
    for row in range(rows):
        for column in range(columns):
            place = jnp.array([row, column])
            canvas = add(canvas, candidates, place, jax.random.fold_in(key, row * columns + column))
        yield np.asarray(to_uint8(canvas[: size[0], : size[1]]))


def check_size(exemplar: np.ndarray, quilting: Quilting) -> None:
    """Raises ValueError where blocks could come from one place alone, or a seam has no room."""
    if min(exemplar.shape[:2]) <= quilting.block:
        raise ValueError(
            f"the exemplar has {exemplar.shape[0]}x{exemplar.shape[1]} pixels: blocks of {quilting.block} need more: "
            "give a larger picture, or smaller blocks with --block"
        )
    places_of(min(exemplar.shape[:2]), quilting.block, quilting.overlap)
