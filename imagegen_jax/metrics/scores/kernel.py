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
SubsetDistance = Callable[[np.ndarray, np.ndarray], float]  # of the rows at these places of both sides
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
        x_rows = random.choice(len(x), subset_size, replace=False)
        y_rows = random.choice(len(y), subset_size, replace=False)
        distance = distance or _quickest(x, y, x_rows, y_rows)
        values[i] = distance(x_rows, y_rows)
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


def _quickest(x: np.ndarray, y: np.ndarray, x_rows: np.ndarray, y_rows: np.ndarray) -> SubsetDistance:
    """Returns what computes distances of subsets fastest, if of these rows as products in float64 do."""
    place = default_place()

    def exactly(x_rows: np.ndarray, y_rows: np.ndarray) -> float:
        return _unbiased(x[x_rows], y[y_rows], place)

    if place.mesh is not None or not x.dtype == y.dtype == np.float32:
        return exactly
    probed = x_rows[:PROBED], y_rows[:PROBED]
    with np.errstate(over="ignore", invalid="ignore"):  # where float32 overflows, the difference is no number
        difference = abs(_ShortProducts(x, y, len(probed[0]))(*probed) - exactly(*probed))
    return _ShortProducts(x, y, len(x_rows)) if difference <= AGREES else exactly


class _ShortProducts:
    """Unbiased estimates of subsets of `size` rows on the host, by inner products in float32 and sums in float64.

    Errors of the products are of either sign, so that they leave the sums. All subsets take the same memory.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, size: int) -> None:
        self.sides, self.size, self.width = (x, y), size, x.shape[1]
        self.of_itself = [(np.einsum("nd,nd->n", z, z, dtype=np.float64) / self.width + 1) ** 3 for z in self.sides]
        self.chosen = [np.empty((size, self.width), np.float32) for _ in self.sides]
        self.tile, self.cube = np.empty((2, size, size), np.float32)

    def __call__(self, x_rows: np.ndarray, y_rows: np.ndarray) -> float:
        means = []
        for side, of_itself, rows, chosen in zip(
            self.sides, self.of_itself, (x_rows, y_rows), self.chosen, strict=True
        ):
            np.take(side, rows, axis=0, out=chosen, mode="clip")  # which, unlike "raise", writes to `out` itself
            means.append((self._total(chosen, chosen) - of_itself[rows].sum()) / (self.size * (self.size - 1)))
        return float(sum(means) - 2 * self._total(*self.chosen) / self.size**2)

    def _total(self, a: np.ndarray, b: np.ndarray) -> float:
        np.matmul(a, b.T, out=self.tile)  # half of it where b is a
        self.tile *= np.float32(1 / self.width)
        self.tile += np.float32(1)
        np.multiply(self.tile, self.tile, out=self.cube)
        self.cube *= self.tile
        return float(self.cube.sum(dtype=np.float64))


def _unbiased(x: np.ndarray, y: np.ndarray, place: Place) -> float:
    """Returns the unbiased estimate: means over pairs of different samples within a set, over all pairs between."""
    gamma = 1 / x.shape[1]

    def within(z: np.ndarray) -> float:
        of_itself = (np.einsum("nd,nd->n", z, z, dtype=np.float64) * gamma + 1) ** 3
        return (_total(_polynomial_sum, z, z, gamma, place) - of_itself.sum()) / (len(z) * (len(z) - 1))

    return within(x) + within(y) - 2 * _total(_polynomial_sum, x, y, gamma, place) / (len(x) * len(y))


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
