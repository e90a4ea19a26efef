"""Kernel distances of features: KID (Binkowski et al. 2018, arXiv 1801.01401) and CMMD (arXiv 2401.09603)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Shaped

from imagegen_jax.core.config.given import check_integer, check_number, check_seed
from imagegen_jax.metrics.features.blocks import (
    Anywhere,
    Block,
    Place,
    checked_pair,
    default_place,
    inner_products,
    squared_distances,
)

KernelSum = Callable[[Block, Block, float], Anywhere]  # (rows, columns, gamma) -> the sum over the tile of all pairs
Distance = Callable[[np.ndarray, np.ndarray], float]  # of features [n d] and [m d]
PROBED = 256  # rows of the first subsets on which products in float32 are tried beside those in float64
AGREES = 1e-7  # the largest difference there with which float32 is taken: a tenth of what values are to be equal to


class KID(NamedTuple):
    """Kernel distances of subsets: their mean, their standard deviation (ddof 0), and each."""

    mean: float
    std: float
    values: Float[np.ndarray, " subsets"]


def kernel_distance(features: Shaped[Array, "n d"] | np.ndarray, reference: Shaped[Array, "m d"] | np.ndarray) -> float:
    """Estimates the squared MMD of all samples by the kernel (x.y / d + 1)^3, without bias.

    It is Eq. 4 with the kernel of Sec. 4 (Binkowski et al. 2018), for features [N d] and [M d], without unit. For equal
    distributions it is below zero as often as above. Memory does not grow with N x M. Raises ValueError for NaN,
    different widths and fewer than two samples.
    """
    x, y = checked_pair(features, reference, ("features", "reference"))
    return _unbiased(x, y, default_place())


def kid(
    features: Shaped[Array, "n d"] | np.ndarray,
    reference: Shaped[Array, "m d"] | np.ndarray,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 2020,
) -> KID:
    """Computes `kernel_distance` for `subsets` pairs of subsets, drawn as torch-fidelity draws them.

    It draws by `RandomState(seed).choice(N, subset_size, replace=False)`, for `features` and then for `reference`,
    subset by subset: equal features, order, seed and sizes give torch-fidelity's values. Published KIDs are often
    multiplied by 10^3. On a CPU, inner products are in float32, which takes half the time, and sums in float64, unless
    that is seen to change the distance of a part of the first subsets. Raises ValueError where `kernel_distance` does,
    and for subsets larger than the samples.
    """
    x, y = checked_pair(features, reference, ("features", "reference"))
    check_integer(subsets, "subsets")
    check_seed(seed)
    if check_integer(subset_size, "subset_size", low=-1) < 2 or subset_size > min(len(x), len(y)):
        raise ValueError(
            f"subsets={subsets}, subset_size={subset_size}: at least 1 and 2, "
            f"and no more than the {len(x)} features and {len(y)} references"
        )
    random, distance, values = np.random.RandomState(seed), None, np.empty(subsets)
    for i in range(subsets):
        of_x = x[random.choice(len(x), subset_size, replace=False)]
        of_y = y[random.choice(len(y), subset_size, replace=False)]
        distance = distance or _quickest(of_x[:PROBED], of_y[:PROBED])
        values[i] = distance(of_x, of_y)
    return KID(float(values.mean()), float(values.std()), values)


def gaussian_mmd(
    features: Shaped[Array, "n d"] | np.ndarray,
    reference: Shaped[Array, "m d"] | np.ndarray,
    *,
    sigma: float = 10.0,
    scale: float = 1000.0,
) -> float:
    """CMMD (Jayasumana et al. 2024, Eq. 4): `scale` times the squared MMD by exp(-|x - y|^2 / (2 sigma^2)).

    Embeddings are [N d] and [M d]; the paper's are CLIP's. The estimate is biased, with the diagonals, as in the
    authors' code, and never below zero. Raises ValueError for NaN, different widths, fewer than two samples and
    sigma <= 0.
    """
    x, y = checked_pair(features, reference, ("features", "reference"))
    check_number(sigma, "sigma, the kernel's width, which is 10 in the paper", 0, above=True)
    check_number(scale, "scale")
    gamma, place = 1 / (2 * sigma**2), default_place()

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return _total(_gaussian_sum, a, b, gamma, place) / (len(a) * len(b))

    return scale * (mean(x, x) + mean(y, y) - 2 * mean(x, y))


def _quickest(x: np.ndarray, y: np.ndarray) -> Distance:
    """Returns what computes distances fastest, and of these features as products in float64 do."""
    place = default_place()

    def exactly(x: np.ndarray, y: np.ndarray) -> float:
        return _unbiased(x, y, place)

    if place.mesh is not None or not x.dtype == y.dtype == np.float32:
        return exactly
    difference = abs(_by_short_products(x, y) - exactly(x, y))
    return _by_short_products if difference <= AGREES else exactly  # of a NaN too, where float32 overflows


def _by_short_products(x: np.ndarray, y: np.ndarray) -> float:
    """Computes the unbiased estimate by inner products in float32, whose errors are of either sign, on the host.

    NumPy makes half of a product of a matrix with itself.
    """
    gamma = np.float32(1 / x.shape[1])

    def total(a: np.ndarray, b: np.ndarray) -> float:
        t = a @ b.T
        t *= gamma
        t += np.float32(1)
        return float((t * t * t).sum(dtype=np.float64))

    with np.errstate(over="ignore", invalid="ignore"):
        return _estimate(x, y, total)


def _unbiased(x: np.ndarray, y: np.ndarray, place: Place) -> float:
    return _estimate(x, y, lambda a, b: _total(_polynomial_sum, a, b, 1 / x.shape[1], place))


def _estimate(x: np.ndarray, y: np.ndarray, total: Distance) -> float:
    """Returns the unbiased estimate: means over pairs of different samples within a set, over all pairs between.

    `total` sums the kernel over all pairs.
    """

    def within(z: np.ndarray) -> float:
        of_itself = (np.einsum("nd,nd->n", z, z, dtype=np.float64) / z.shape[1] + 1) ** 3
        return (total(z, z) - of_itself.sum()) / (len(z) * (len(z) - 1))

    return within(x) + within(y) - 2 * total(x, y) / (len(x) * len(y))


def _polynomial_sum(x: Block, y: Block, gamma: float) -> Float[Anywhere, ""]:
    t = inner_products(x, y) * gamma + 1
    return _masked_sum(t * t * t, x, y)


def _gaussian_sum(x: Block, y: Block, gamma: float) -> Float[Anywhere, ""]:
    distances = squared_distances(x, y)
    return _masked_sum(distances.__array_namespace__().exp(-gamma * distances), x, y)


def _masked_sum(tile: Float[Anywhere, "r c"], x: Block, y: Block) -> Float[Anywhere, ""]:
    return x.mask.astype(tile.dtype) @ tile @ y.mask.astype(tile.dtype)


def _total(kernel_sum: KernelSum, x: np.ndarray, y: np.ndarray, gamma: float, place: Place) -> float:
    """Sums the kernel over all pairs, on the host, so that one tile at a time is computed.

    If sums stayed on several devices, tile after tile, they could use up the threads of a CPU that simulates these:
    each would wait for another, until XLA ends the process.
    """
    with jax.enable_x64(True):
        kernel_sum = place.compiled(kernel_sum)
        if x is y:
            return sum(times * float(kernel_sum(a, b, gamma)) for a, b, times in place.pairs(x))
        columns = place.columns(y)
        return sum(float(kernel_sum(rows, block, gamma)) for rows in place.rows(x) for block in columns)
