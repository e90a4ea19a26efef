"""Tests whether samples copy training data, from features [N D] of both: nearest neighbours, AuthPct and C_T.

Distances are Euclidean. Their meaning depends on the features: a copy that is shifted by a pixel is near in a
classifier's features and far in pixels.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.shard import batch_sharding, replicated
from imagegen_jax.core.config.given import check_integer, check_seed
from imagegen_jax.core.platform.target import cached_by_platform
from imagegen_jax.metrics.features.blocks import local_mesh

Features = Num[Array | np.ndarray, "n d"]

QUERIES = 1024  # rows of `samples` at a time, over all devices
POINTS = 4096  # rows of `train` at a time
CANDIDATES = 8  # for each row, compared again by exact differences


def nearest(samples: Features, train: Features) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Finds the nearest training point of each sample, the first of equals; returns its row and the distance.

    Distances come from a matrix product, whose rounding can exchange close neighbours; the eight nearest are then
    measured again as |sample - point|, so that a copy has distance 0. Each device holds `train` whole, and beside it
    at most 1024 x 4096 products and 1024 x 8 points at a time, split over the devices: 16 MB and 32 D kB.
    Raises ValueError for arrays that are not [N D] with equal D, are empty, or hold NaN or infinity.
    """
    samples, train = _checked(samples, "samples"), _checked(train, "train")
    return _nearest(samples, train)


def authenticity(samples: Features, train: Features) -> float:
    """Computes AuthPct, as a share from 0 to 1 (Alaa et al. 2022, arXiv 2102.08921).

    It is the share of samples that are farther from their nearest training point than that point is from its own
    nearest neighbour in the training set. Copies score 0. Fresh draws from the training distribution do not score 1:
    one fails exactly where sample and point are each other's nearest neighbours, so that many draws together score 1/3
    on a curve, 0.378 on a surface, and more in more dimensions, where a few points are nearest to many samples.
    Compare with the score of held-out data: a score far below it means copying, one far above it samples off the data.
    Raises ValueError as `nearest` does, and for fewer than two training points.
    """
    samples, train = _checked(samples, "samples"), _checked(train, "train")
    if len(train) < 2:
        raise ValueError("train has one point: authenticity compares with its nearest neighbour, so give at least 2")
    index, distance = _nearest(samples, train)
    return float(np.mean(distance > spacings(train, index)))


def spacings(train: Features, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Returns, for each of some rows of `train`, the distance of its nearest neighbour there, apart from itself."""
    hit, which = np.unique(rows, return_inverse=True)
    train = np.asarray(train, np.float32)
    _, spacing = _nearest(train[hit], train, own=hit)
    return spacing[which]


def c_t_score(
    samples: Features, train: Features, test: Features, cells: int, min_samples: int = 20, seed: int = 0
) -> float:
    """Computes C_T, the data-copying test (Meehan, Chaudhuri & Dasgupta 2020, arXiv 2004.05675).

    k-means splits the training set into `cells`. In each, the z-score of the Mann-Whitney U statistic tells whether
    samples are nearer to the cell's training points than fresh data, `test`, is; C_T is its mean over the cells that
    hold at least `min_samples` samples, weighted with their share of `test`. It is about 0 for fresh draws (a standard
    normal in each cell), far below 0 for copies, and far above for samples off the data. It grows with the number of
    samples, so compare scores of equal numbers only. Raises ValueError as `nearest` does, for fewer training points
    than cells, and where no cell holds enough.
    """
    samples, train, test = (_checked(x, name) for x, name in ((samples, "samples"), (train, "train"), (test, "test")))
    check_integer(min_samples, "min_samples")
    check_seed(seed)
    if check_integer(cells, "cells") > len(train):
        raise ValueError(f"cells={cells}: must be from 1 to the number of training points, {len(train)}")
    from sklearn.cluster import KMeans  # here, since the import takes a second, and other functions do without it

    partition = KMeans(cells, n_init=1, random_state=seed).fit(train)
    cell_of = {"samples": partition.predict(samples), "test": partition.predict(test)}
    _, sample_distance = _nearest(samples, train, groups=(cell_of["samples"], partition.labels_))
    _, test_distance = _nearest(test, train, groups=(cell_of["test"], partition.labels_))
    scores, weights = [], []
    for cell in range(cells):
        of_samples = sample_distance[cell_of["samples"] == cell]
        of_test = test_distance[cell_of["test"] == cell]
        if len(of_samples) >= min_samples and len(of_test):
            scores.append(_z_score(of_samples, of_test))
            weights.append(len(of_test))
    if not scores:
        raise ValueError(
            f"none of {cells} cells holds min_samples={min_samples} of {len(samples)} samples and a test point: "
            "use fewer cells or more samples"
        )
    return float(np.average(scores, weights=weights))


def _z_score(samples: Float[np.ndarray, " m"], test: Float[np.ndarray, " n"]) -> float:
    """Returns (U - m n / 2) / sqrt(m n (m + n + 1) / 12).

    U counts the pairs in which the sample's value is larger, ties as half.
    """
    m, n = len(samples), len(test)
    test = np.sort(test)
    u = (np.searchsorted(test, samples, "left").sum() + np.searchsorted(test, samples, "right").sum()) / 2
    return float((u - m * n / 2) / np.sqrt(m * n * (m + n + 1) / 12))


def _checked(features: Features, name: str) -> Float[np.ndarray, "n d"]:
    features = np.asarray(features, np.float32)
    if features.ndim != 2 or features.size == 0:
        raise ValueError(f"{name} has shape {features.shape}: must be [N D] with at least one row")
    if not np.isfinite(features).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return features


def _nearest(
    queries: Float[np.ndarray, "n d"],
    points: Float[np.ndarray, "m d"],
    own: Int[np.ndarray, " n"] | None = None,
    groups: tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]] | None = None,
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Finds the nearest point in each query's group that is not `own`, a row of points; returns row and distance."""
    if queries.shape[1] != points.shape[1]:
        raise ValueError(f"features of shapes {queries.shape} and {points.shape}: must have the same length")
    n, m = len(queries), len(points)
    own = np.full(n, -1) if own is None else own
    query_group, point_group = (np.zeros(n, np.int32), np.zeros(m, np.int32)) if groups is None else groups
    center = points.mean(0, dtype=np.float64).astype(np.float32)  # leaves less to cancel in the matrix product
    mesh = local_mesh()
    rows = min(QUERIES, n)
    rows = -(-rows // mesh.size) * mesh.size
    size = min(POINTS, m)
    blocks = _padded(points - center, size, 0).reshape(-1, size, points.shape[1])
    block_groups = _padded(point_group, size, -1).reshape(-1, size)  # a group that no query is in
    on_all = jax.device_put((blocks, block_groups.astype(np.int32)), replicated(mesh))
    padded = (
        _padded(queries - center, rows, 0),
        _padded(own.astype(np.int32), rows, -1),
        _padded(query_group, rows, 0),
    )
    found = []
    for start in range(0, n, rows):
        split = jax.device_put(tuple(np.asarray(x[start : start + rows]) for x in padded), batch_sharding(mesh))
        found.append(jax.device_get(_search()(*split, *on_all, out=replicated(mesh))))
    index, distance = (np.concatenate(parts)[:n] for parts in zip(*found, strict=True))
    return index, distance


def _padded(rows: np.ndarray, multiple: int, value: int) -> np.ndarray:
    missing = -len(rows) % multiple
    return np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1), constant_values=value)


@cached_by_platform
def _search() -> Any:
    return compiling.jit(_nearest_in_blocks, static_argnames="out")


def _nearest_in_blocks(
    queries: Float[Array, "q d"],
    own: Int[Array, " q"],
    query_group: Int[Array, " q"],
    blocks: Float[Array, "t b d"],
    block_groups: Int[Array, "t b"],
    out: Any,
) -> tuple[Int[Array, " q"], Float[Array, " q"]]:
    count, size, _ = blocks.shape

    def search(best: tuple[Array, Array], block: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], None]:
        start, points, group = block
        row = start + jnp.arange(size)
        product = jnp.matmul(queries, points.T, precision=jax.lax.Precision.HIGHEST)
        score = 2 * product - jnp.sum(points**2, axis=1)  # |q|^2 - |q - p|^2
        allowed = (group == query_group[:, None]) & (row != own[:, None])
        score = jnp.concatenate([best[0], jnp.where(allowed, score, -jnp.inf)], axis=1)
        rows = jnp.concatenate([best[1], jnp.broadcast_to(row, allowed.shape)], axis=1)
        score, chosen = jax.lax.top_k(score, CANDIDATES)
        return (score, jnp.take_along_axis(rows, chosen, axis=1)), None

    none = jnp.full((len(queries), CANDIDATES), -jnp.inf), jnp.zeros((len(queries), CANDIDATES), jnp.int32)
    (score, rows), _ = jax.lax.scan(search, none, (jnp.arange(count) * size, blocks, block_groups))
    points = blocks.reshape(count * size, -1)[rows]
    distance = jnp.sqrt(jnp.sum((queries[:, None] - points) ** 2, axis=-1))
    distance = jnp.where(jnp.isfinite(score), distance, jnp.inf)
    least = distance.min(1)
    index = jnp.where(distance == least[:, None], rows, count * size).min(1)
    return jax.lax.with_sharding_constraint((index, least), out)
