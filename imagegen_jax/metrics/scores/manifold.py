"""Improved precision and recall (Kynkaanniemi et al. 2019, arXiv 1904.06991); density and coverage (2002.09797)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from imagegen_jax.core.config.given import check_integer
from imagegen_jax.metrics.features.blocks import Anywhere, Block, Place, checked_pair, default_place, squared_distances


class Manifold(NamedTuple):
    """How samples and reference cover each other; all are shares from 0 to 1, except density, which may exceed 1."""

    precision: float  # samples inside a ball of the reference
    recall: float  # references inside a ball of the samples
    density: float  # mean number of reference balls around a sample, over `neighbours`
    coverage: float  # references whose own ball holds a sample


def manifold_scores(
    features: Shaped[Array, "n d"] | np.ndarray, reference: Shaped[Array, "m d"] | np.ndarray, *, neighbours: int = 5
) -> Manifold:
    """Computes all four scores of `features` [N d] against `reference` [M d], with balls to the k-th neighbour.

    Precision and recall are Eq. 1 and 2 of Kynkaanniemi et al. 2019, density and coverage Eq. 3 and 4 of Naeem et al.
    2020. A sample on a ball's surface is outside, as in the package `prdc`. For float64 features the values are
    the same as its; for float32 features it rounds distances to float32, which can move single pairs across a surface.

    The distance matrix is never stored. A device holds one set of features whole, its share of 1,024 rows of the other,
    and a few tiles of 64 MiB: below 1 GiB for 50,000 x 50,000 float32 features of width 2,048. A CPU holds a float64
    copy of one set and a few tiles of 8 MiB.

    Warns of balls of radius zero, around repeated rows: nothing is inside these, so that a set scores 0 against its own
    duplicates. Raises ValueError for NaN, different widths, and fewer than `neighbours` + 1 samples on a side.
    """
    check_integer(neighbours, "neighbours")
    x, y = checked_pair(features, reference, ("features", "reference"))
    for name, rows in (("features", x), ("reference", y)):
        if not 1 <= neighbours < len(rows):
            raise ValueError(
                f"neighbours={neighbours} with {len(rows)} samples in {name}: must be at least 1 and below that number"
            )
    with jax.enable_x64(True):
        place = default_place()
        x_radii, y_radii = _radii(x, neighbours, place), _radii(y, neighbours, place)
        _warn_of_repeated((("samples", x, x_radii), ("references", y, y_radii)), neighbours)
        return _scores(x, x_radii, y, y_radii, neighbours, place)


def _warn_of_repeated(sides: Sequence[tuple[str, np.ndarray, np.ndarray]], neighbours: int) -> None:
    repeated = []
    for name, rows, radii in sides:
        length = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64).max())
        if count := int((radii <= 1e-7 * length).sum()):  # equal rows can come out 1e-8 of their length apart
            repeated.append(f"{count:,} of {len(rows):,} {name}")
    if repeated:
        warnings.warn(
            f"{' and '.join(repeated)} have {neighbours} equal rows or more beside them: their balls have no radius "
            "and hold nothing, not even equal rows, which lowers these scores; remove the duplicates",
            stacklevel=3,
        )


def _radii(x: np.ndarray, neighbours: int, place: Place) -> Float[np.ndarray, " n"]:
    """Returns the distance of each sample to its k-th neighbour."""
    columns, keep = place.columns(x), place.compiled(_keep_nearest)
    parts = []
    for rows in place.rows(x):
        found = np.full((len(rows.mask), neighbours), np.inf)
        for block in columns:
            found = keep(found, rows, block)
        parts.append(np.asarray(found).max(axis=1))
    return np.sqrt(np.concatenate(parts)[: len(x)])


def _keep_nearest(found: Float[Anywhere, "r k"], rows: Block, columns: Block) -> Float[Anywhere, "r k"]:
    """Returns the k smallest squared distances of each row to others, among those found before and these columns."""
    xp = columns.values.__array_namespace__()
    own, others = rows.start + xp.arange(len(rows.mask)), columns.start + xp.arange(len(columns.mask))
    counts = columns.mask & (own[:, None] != others)
    return _smallest(
        xp.concat([found, xp.where(counts, squared_distances(rows, columns), np.inf)], axis=1), len(found[0])
    )


def _smallest(values: Float[Anywhere, "r c"], count: int) -> Float[Anywhere, "r count"]:
    """Returns the `count` smallest values of each row, in no order."""
    if isinstance(values, np.ndarray):
        return np.partition(values, count - 1, axis=1)[:, :count]
    return -jax.lax.top_k(-values, count)[0]


class Reached(NamedTuple):
    """Results for some columns after comparing them with some rows."""

    recalled: Bool[Anywhere, " c"]  # whether a row's ball holds it
    nearest: Float[Anywhere, " c"]  # the distance of the nearest row


def _scores(
    x: np.ndarray, x_radii: np.ndarray, y: np.ndarray, y_radii: np.ndarray, neighbours: int, place: Place
) -> Manifold:
    columns, compare = place.columns(y), place.compiled(_compare)
    column_radii = [_cut(y_radii, block) for block in columns]
    reached = [Reached(np.zeros(len(block.mask), bool), np.full(len(block.mask), np.inf)) for block in columns]
    balls = []
    for rows in place.rows(x):
        inside, row_radii = np.zeros(len(rows.mask), np.int64), _cut(x_radii, rows)
        for i, block in enumerate(columns):
            hits, reached[i] = compare(reached[i], rows, row_radii, block, column_radii[i])
            inside += np.asarray(hits)
        balls.append(inside)
    inside_balls = np.concatenate(balls)[: len(x)]
    recalled, nearest = (
        np.concatenate([np.asarray(x) for x in parts])[: len(y)] for parts in zip(*reached, strict=True)
    )
    return Manifold(
        precision=float((inside_balls > 0).mean()),
        recall=float(recalled.mean()),
        density=float(1 / neighbours * inside_balls.mean()),
        coverage=float((nearest < y_radii).mean()),
    )


def _cut(radii: Float[np.ndarray, " n"], block: Block) -> Float[np.ndarray, " r"]:
    """Returns the radii of a block's rows, 0 for those that only fill it up."""
    found = radii[block.start : block.start + len(block.mask)]
    return np.pad(found, (0, len(block.mask) - len(found)))


def _compare(
    reached: Reached, rows: Block, row_radii: Float[Anywhere, " r"], columns: Block, column_radii: Float[Anywhere, " c"]
) -> tuple[Int[Anywhere, " r"], Reached]:
    """Counts the columns' balls that each row is in; returns the counts, and the columns' results with these rows."""
    xp = columns.values.__array_namespace__()
    distances = xp.sqrt(squared_distances(rows, columns))
    distances = xp.where(rows.mask[:, None] & columns.mask, distances, np.inf)
    recalled = reached.recalled | xp.any(distances < row_radii[:, None], axis=0)
    nearest = xp.minimum(reached.nearest, xp.min(distances, axis=0))
    return xp.sum(distances < column_radii, axis=1), Reached(recalled, nearest)
