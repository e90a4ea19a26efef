"""Improved precision and recall (Kynkaanniemi et al. 2019, arXiv 1904.06991); density and coverage (2002.09797)."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Shaped

from imagegen_jax.metrics.blocks import (
    PAIR_ROWS,
    checked_pair,
    column_blocks,
    local_mesh,
    row_blocks,
    squared_distances,
)


class Manifold(NamedTuple):
    """How samples and reference cover each other; each is a share from 0 to 1, but density, which may exceed 1."""

    precision: float  # samples inside a ball of the reference
    recall: float  # references inside a ball of the samples
    density: float  # mean number of the reference's balls that a sample is in, over `neighbours`
    coverage: float  # references whose own ball holds a sample


def manifold_scores(
    features: Shaped[Array, "n d"] | np.ndarray, reference: Shaped[Array, "m d"] | np.ndarray, *, neighbours: int = 5
) -> Manifold:
    """All four scores of samples `features` [N d] against `reference` [M d], with balls to the k-th neighbour.

    Precision and recall are Eq. 1 and 2 of Kynkaanniemi et al. 2019, density and coverage Eq. 3 and 4 of Naeem et al.
    2020. A sample on a ball's surface is outside, as in the package `prdc`, whose values these are for float64
    features; for float32 features it rounds its distances to float32, which can move single pairs across a surface.

    The distance matrix is never stored. A device holds one set of features whole, its share of 1,024 rows of the other,
    and a few tiles of 64 MiB: below 1 GiB for 50,000 x 50,000 float32 features of width 2,048.

    Raises ValueError for NaN, different widths, and fewer than `neighbours` + 1 samples on a side.
    """
    x, y = checked_pair(features, reference, ("features", "reference"))
    for name, rows in (("features", x), ("reference", y)):
        if not 1 <= neighbours < len(rows):
            raise ValueError(
                f"neighbours={neighbours} with {len(rows)} samples in {name}: must be at least 1 and below that number"
            )
    with jax.enable_x64(True):
        mesh = local_mesh()
        x_radii, y_radii = _radii(x, neighbours, mesh), _radii(y, neighbours, mesh)
        return _scores(x, x_radii, y, y_radii, neighbours, mesh)


def _radii(x: np.ndarray, neighbours: int, mesh: Mesh) -> Float[np.ndarray, " n"]:
    """The distance of each sample to its k-th neighbour."""
    columns = column_blocks(x, mesh)
    parts = [_nearest(neighbours, rows, start, *columns) for start, rows, _ in row_blocks(x, mesh, PAIR_ROWS)]
    return np.concatenate([np.asarray(part) for part in parts])[: len(x)]


def _scores(
    x: np.ndarray, x_radii: np.ndarray, y: np.ndarray, y_radii: np.ndarray, neighbours: int, mesh: Mesh
) -> Manifold:
    columns, column_mask = column_blocks(y, mesh)
    padded_radii = np.pad(y_radii, (0, column_mask.size - len(y))).reshape(column_mask.shape)
    balls, recalled, nearest = [], np.zeros(column_mask.size, bool), np.full(column_mask.size, np.inf)
    for start, rows, mask in row_blocks(x, mesh, PAIR_ROWS):
        radii = np.zeros(len(rows))
        radii[: len(x) - start] = x_radii[start : start + len(rows)]
        inside, reached, distance = _compare(rows, mask, radii, columns, column_mask, padded_radii)
        balls.append(np.asarray(inside))
        recalled |= np.asarray(reached).ravel()
        nearest = np.minimum(nearest, np.asarray(distance).ravel())
    inside_balls = np.concatenate(balls)[: len(x)]
    return Manifold(
        precision=float((inside_balls > 0).mean()),
        recall=float(recalled[: len(y)].mean()),
        density=float(1 / neighbours * inside_balls.mean()),
        coverage=float((nearest[: len(y)] < y_radii).mean()),
    )


@functools.partial(jax.jit, static_argnums=0)
def _nearest(
    neighbours: int,
    rows: Shaped[Array, "r d"],
    start: Int[Array, ""],
    columns: Shaped[Array, "t c d"],
    column_mask: Bool[Array, "t c"],
) -> Float[Array, " r"]:
    """Distance from each row to its k-th neighbour among the columns; row i is column start + i."""
    x, (size, _) = rows.astype(jnp.float64), columns.shape[1:]
    own = start + jnp.arange(len(rows))

    def smallest(found: Array, block: tuple[Array, Array, Array]) -> tuple[Array, None]:
        y, mask, first = block
        is_other = mask & (own[:, None] != first + jnp.arange(size))
        tile = jnp.where(is_other, squared_distances(x, y.astype(jnp.float64)), jnp.inf)
        return _least(jnp.concatenate([found, tile], axis=1), neighbours), None

    firsts = jnp.arange(len(columns)) * size
    none = jnp.full((len(rows), neighbours), jnp.inf)
    return jnp.sqrt(jax.lax.scan(smallest, none, (columns, column_mask, firsts))[0][:, -1])


def _least(values: Float[Array, "r c"], count: int) -> Float[Array, "r count"]:
    """The smallest of each row, ascending. One by one: `top_k` of float64 took four times as long on the CPU."""
    places = jnp.arange(values.shape[1])
    found = []
    for _ in range(count):
        place = jnp.argmin(values, axis=1)[:, None]
        found.append(jnp.take_along_axis(values, place, axis=1))
        values = jnp.where(places == place, jnp.inf, values)
    return jnp.concatenate(found, axis=1)


@jax.jit
def _compare(
    rows: Shaped[Array, "r d"],
    row_mask: Bool[Array, " r"],
    row_radii: Float[Array, " r"],
    columns: Shaped[Array, "t c d"],
    column_mask: Bool[Array, "t c"],
    column_radii: Float[Array, "t c"],
) -> tuple[Int[Array, " r"], Bool[Array, "t c"], Float[Array, "t c"]]:
    """For each row, the columns whose balls it is in; for each column, whether a row's ball holds it, and how near."""
    x = rows.astype(jnp.float64)

    def tile(inside: Array, block: tuple[Array, Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        y, mask, radii = block
        real = row_mask[:, None] & mask
        distances = jnp.where(real, jnp.sqrt(squared_distances(x, y.astype(jnp.float64))), jnp.inf)
        reached = jnp.any(distances < row_radii[:, None], axis=0)
        return inside + jnp.sum(distances < radii, axis=1), (reached, distances.min(axis=0))

    none = jnp.zeros(len(rows), int)
    inside, (reached, nearest) = jax.lax.scan(tile, none, (columns, column_mask, column_radii))
    return inside, reached, nearest
