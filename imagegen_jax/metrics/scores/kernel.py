"""Kernel distances of features: KID (Binkowski et al. 2018, arXiv 1801.01401) and CMMD (arXiv 2401.09603)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Shaped

from imagegen_jax.core.config.given import check_integer, check_number, check_seed
from imagegen_jax.metrics.features.blocks import (
    HOST_ROWS,
    Anywhere,
    Block,
    Place,
    checked_pair,
    default_place,
    inner_products,
    squared_distances,
)

KernelSum = Callable[[Block, Block, float], Anywhere]  # (rows, columns, gamma) -> the sum over the tile of all pairs
Rows = tuple[np.ndarray, np.ndarray]  # of both sides: the features, or the places of a subset's
PROBED = 256  # rows of the first subsets on which products in float32 are tried beside those in float64
SPREAD = 10  # how far above the largest kernel of these rows that of all may be
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
    random = np.random.RandomState(seed)

    def drawn() -> Iterator[Rows]:
        for _ in range(subsets):
            x_rows = random.choice(len(x), subset_size, replace=False)
            yield x_rows, random.choice(len(y), subset_size, replace=False)

    values = _of_subsets(x, y, drawn(), subsets, subset_size)
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


def _of_subsets(x: np.ndarray, y: np.ndarray, drawn: Iterator[Rows], subsets: int, size: int) -> np.ndarray:
    """Computes the unbiased estimate of each subset in the way that takes least."""
    place, (x_rows, y_rows) = default_place(), next(drawn)
    rows = itertools.chain([(x_rows, y_rows)], drawn)
    own = [_own_kernels(z) for z in (x, y)]
    if not _short_products_suffice((x, y), own, (x_rows[:PROBED], y_rows[:PROBED]), place):
        return np.array([_unbiased(x[of_x], y[of_y], place) for of_x, of_y in rows])
    if (len(x) + len(y)) ** 2 < subsets * (2 * size) ** 2:  # pairs
        return _by_all_pairs(x, y, own, list(rows))
    distance = _ShortProducts((x, y), own, size)
    return np.array([distance(*of) for of in rows])


def _own_kernels(z: np.ndarray) -> Float[np.ndarray, " n"]:
    """Returns the kernel of each row with itself, the largest that it has with any no larger one."""
    found: np.ndarray = (np.einsum("nd,nd->n", z, z, dtype=np.float64) / z.shape[1] + 1) ** 3
    return found


def _short_products_suffice(sides: Rows, own: Sequence[np.ndarray], probed: Rows, place: Place) -> bool:
    """Tells whether products in float32 give what those in float64 do, and are faster: on the host.

    They are tried on some rows; errors grow with the kernel, so that no other row's may be far above theirs.
    """
    if place.mesh is not None or any(side.dtype != np.float32 for side in sides):
        return False
    x, y = (side[rows] for side, rows in zip(sides, probed, strict=True))
    own_of_tried = [kernels[rows] for kernels, rows in zip(own, probed, strict=True)]
    if max(map(np.max, own)) > SPREAD * max(map(np.max, own_of_tried)):
        return False
    every = np.arange(len(x))
    with np.errstate(over="ignore", invalid="ignore"):  # where float32 overflows, the difference is no number
        return abs(_ShortProducts((x, y), own_of_tried, len(x))(every, every) - _unbiased(x, y, place)) <= AGREES


def _by_all_pairs(
    x: np.ndarray, y: np.ndarray, own: Sequence[np.ndarray], rows: Sequence[Rows]
) -> Float[np.ndarray, " subsets"]:
    """Computes the unbiased estimate of each subset from kernels of all pairs of all rows, each computed once."""
    size, within, between = len(rows[0][0]), np.zeros(len(rows)), np.zeros(len(rows))
    masks = [np.zeros((len(z), len(rows))) for z in (x, y)]  # 1 where a row is in a subset
    for subset, of in enumerate(rows):
        for mask, chosen in zip(masks, of, strict=True):
            mask[chosen, subset] = 1

    def sums(a: np.ndarray, b: np.ndarray, of_a: np.ndarray, of_b: np.ndarray) -> np.ndarray:
        return np.sum(_cubes(a @ b.T, x.shape[1]).astype(np.float64) @ of_b * of_a, axis=0)

    for z, of_itself, mask in zip((x, y), own, masks, strict=True):
        within -= of_itself @ mask
        for i, a in enumerate(spans := _spans(len(z))):
            for b in spans[i:]:
                within += (1 if a is b else 2) * sums(z[a], z[b], mask[a], mask[b])
    for a in _spans(len(x)):
        for b in _spans(len(y)):
            between += sums(x[a], y[b], masks[0][a], masks[1][b])
    return within / (size * (size - 1)) - 2 * between / size**2


def _spans(length: int) -> list[slice]:
    return [slice(start, start + HOST_ROWS) for start in range(0, length, HOST_ROWS)]


def _cubes(t: np.ndarray, width: int, out: np.ndarray | None = None) -> np.ndarray:
    """Returns the kernel of inner products, which are lost."""
    t *= np.float32(1 / width)
    t += np.float32(1)
    found = np.multiply(t, t, out=out)
    found *= t
    return found


class _ShortProducts:
    """Unbiased estimates of subsets of `size` rows on the host, by inner products in float32 and sums in float64.

    Errors of the products are of either sign, so that they leave the sums. All subsets take the same memory.
    """

    def __init__(self, sides: Rows, own: Sequence[np.ndarray], size: int) -> None:
        self.sides, self.own, self.size, self.width = sides, own, size, sides[0].shape[1]
        self.chosen = [np.empty((size, self.width), np.float32) for _ in self.sides]
        self.tile, self.cube = np.empty((2, size, size), np.float32)

    def __call__(self, x_rows: np.ndarray, y_rows: np.ndarray) -> float:
        means = []
        for side, of_itself, rows, chosen in zip(self.sides, self.own, (x_rows, y_rows), self.chosen, strict=True):
            np.take(side, rows, axis=0, out=chosen, mode="clip")  # which, unlike "raise", writes to `out` itself
            means.append((self._total(chosen, chosen) - of_itself[rows].sum()) / (self.size * (self.size - 1)))
        return float(sum(means) - 2 * self._total(*self.chosen) / self.size**2)

    def _total(self, a: np.ndarray, b: np.ndarray) -> float:
        np.matmul(a, b.T, out=self.tile)  # half of it where b is a
        return float(_cubes(self.tile, self.width, self.cube).sum(dtype=np.float64))


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
