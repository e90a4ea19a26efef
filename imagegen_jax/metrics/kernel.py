"""Kernel distances of features: KID (Binkowski et al. 2018, arXiv 1801.01401) and CMMD (arXiv 2401.09603)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Shaped

from imagegen_jax.metrics.blocks import (
    PAIR_ROWS,
    checked_pair,
    column_blocks,
    local_mesh,
    row_blocks,
    squared_distances,
)

Kernel = Callable[[Array, Array, Array], Array]  # ([R d], [C d], gamma) -> [R C]


class KID(NamedTuple):
    """Kernel distances of subsets: their mean, their standard deviation (ddof 0), and each."""

    mean: float
    std: float
    values: Float[np.ndarray, " subsets"]


def kernel_distance(features: Shaped[Array, "n d"] | np.ndarray, reference: Shaped[Array, "m d"] | np.ndarray) -> float:
    """The unbiased squared MMD of all samples by the kernel (x.y / d + 1)^3 (Binkowski et al. 2018, Eq. 4 and Sec. 4).

    Features [N d] and [M d], no unit; below zero as often as above where the distributions are equal. Memory does not
    grow with N x M. Raises ValueError for NaN, different widths and fewer than two samples.
    """
    x, y = checked_pair(features, reference, ("features", "reference"))
    return _unbiased(x, y, local_mesh())


def kid(
    features: Shaped[Array, "n d"] | np.ndarray,
    reference: Shaped[Array, "m d"] | np.ndarray,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 2020,
) -> KID:
    """`kernel_distance` of `subsets` pairs of subsets, drawn as torch-fidelity draws them.

    That is `RandomState(seed).choice(N, subset_size, replace=False)`, for `features` and then for `reference`, subset
    by subset: equal features, order, seed and sizes give torch-fidelity's values. Published KIDs are often 10^3 times
    this. Raises ValueError where `kernel_distance` does, and for subsets larger than the samples.
    """
    x, y = checked_pair(features, reference, ("features", "reference"))
    if subsets < 1 or not 2 <= subset_size <= min(len(x), len(y)):
        raise ValueError(
            f"subsets={subsets}, subset_size={subset_size}: at least 1 and 2, "
            f"and no more than the {len(x)} features and {len(y)} references"
        )
    random, mesh = np.random.RandomState(seed), local_mesh()
    values = np.empty(subsets)
    for i in range(subsets):
        x_rows = random.choice(len(x), subset_size, replace=False)
        y_rows = random.choice(len(y), subset_size, replace=False)
        values[i] = _unbiased(x[x_rows], y[y_rows], mesh)
    return KID(float(values.mean()), float(values.std()), values)


def gaussian_mmd(
    features: Shaped[Array, "n d"] | np.ndarray,
    reference: Shaped[Array, "m d"] | np.ndarray,
    *,
    sigma: float = 10.0,
    scale: float = 1000.0,
) -> float:
    """CMMD (Jayasumana et al. 2024, Eq. 4): `scale` times the squared MMD by exp(-|x - y|^2 / (2 sigma^2)).

    Of embeddings [N d] and [M d]; the paper's are CLIP's. The biased estimate, with the diagonals, as in the authors'
    code: never below zero. Raises ValueError for NaN, different widths, fewer than two samples and sigma <= 0.
    """
    x, y = checked_pair(features, reference, ("features", "reference"))
    if not sigma > 0:
        raise ValueError(f"sigma={sigma}: the kernel's width must be above zero; the paper's is 10")
    total = functools.partial(_total, _gaussian, gamma=1 / (2 * sigma**2), mesh=local_mesh())
    return scale * (total(x, x) / len(x) ** 2 + total(y, y) / len(y) ** 2 - 2 * total(x, y) / (len(x) * len(y)))


def _unbiased(x: np.ndarray, y: np.ndarray, mesh: Mesh) -> float:
    """The unbiased estimate: a mean over pairs of different samples within, and over all pairs between."""
    gamma = 1 / x.shape[1]
    total = functools.partial(_total, _polynomial, gamma=gamma, mesh=mesh)

    def within(z: np.ndarray) -> float:
        of_itself = (np.einsum("nd,nd->n", z, z, dtype=np.float64) * gamma + 1) ** 3
        return (total(z, z) - of_itself.sum()) / (len(z) * (len(z) - 1))

    return float(within(x) + within(y) - 2 * total(x, y) / (len(x) * len(y)))


def _polynomial(x: Array, y: Array, gamma: Array) -> Array:
    return (x @ y.T * gamma + 1) ** 3


def _gaussian(x: Array, y: Array, gamma: Array) -> Array:
    return jnp.exp(-gamma * squared_distances(x, y))


def _total(kernel: Kernel, x: np.ndarray, y: np.ndarray, gamma: float, mesh: Mesh) -> float:
    """The kernel's sum over all pairs."""
    with jax.enable_x64(True):
        columns = column_blocks(y, mesh)
        blocks = row_blocks(x, mesh, PAIR_ROWS)
        return sum(float(_sum_of_rows(kernel, rows, mask, *columns, gamma)) for _, rows, mask in blocks)


@functools.partial(jax.jit, static_argnums=0)
def _sum_of_rows(
    kernel: Kernel,
    rows: Shaped[Array, "r d"],
    row_mask: Bool[Array, " r"],
    columns: Shaped[Array, "t c d"],
    column_mask: Bool[Array, "t c"],
    gamma: Float[Array, ""],
) -> Float[Array, ""]:
    """The kernel's sum over a block of rows and all columns, one tile at a time."""
    x = rows.astype(jnp.float64)

    def add(total: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
        y, mask = block
        tile = kernel(x, y.astype(jnp.float64), gamma)
        return total + jnp.sum(tile, where=row_mask[:, None] & mask), None

    return jax.lax.scan(add, jnp.zeros(()), (columns, column_mask))[0]
