"""Frechet distance of features: FID (Heusel et al. 2017, arXiv 1706.08500) and its limit of infinite samples."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Array, Shaped

from imagegen_jax.core.config.given import check_integer, check_seed
from imagegen_jax.metrics.features.blocks import check_widths, checked, checked_pair
from imagegen_jax.metrics.features.moments import Moments


def frechet_distance(a: Moments, b: Moments, names: tuple[str, str] = ("a", "b")) -> float:
    """|mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), Eq. 6, in the features' squared unit.

    It is never below zero. Warns where there are too few samples for covariances of full rank: the value is then that
    of degenerate Gaussians, far above the value with more samples. Raises ValueError for different widths and for
    moments with NaN. Messages call the two by `names`.
    """
    check_widths(len(a.mean), len(b.mean), names)
    named = list(zip(names, (a, b), strict=True))
    for name, moments in named:
        if not (np.isfinite(moments.mean).all() and np.isfinite(moments.scatter).all()):
            raise ValueError(f"{name} holds NaN or infinity: compute these moments again from finite features")
    _warn_of_rank(named)
    return _distance(a, b)


def fid_infinity(
    features: Shaped[Array, "n d"] | np.ndarray,
    reference: Moments,
    *,
    points: int = 15,
    least: int | None = None,
    seed: int = 0,
) -> float:
    """Estimates FID at infinitely many samples (Chong & Forsyth 2020, arXiv 1911.07023): a line in 1/N, read at zero.

    The line goes through the distances of `points` subsets of `features` [N d], drawn by `seed` without replacement, of
    sizes evenly spaced from `least` (default: 5,000, and at most N / 10) to N. The bias from the reference's own count
    stays. Raises ValueError
    where `frechet_distance` does, and for sizes that give no line.
    """
    rows = checked(features, "features")
    check_widths(rows.shape[1], len(reference.mean), ("features", "reference"))
    least = max(2, min(5000, len(rows) // 10)) if least is None else check_integer(least, "least")
    check_integer(points, "points")
    check_seed(seed)
    if points < 2 or not 2 <= least < len(rows):
        raise ValueError(
            f"points={points}, least={least}: a line needs at least 2 points, from at least 2 samples "
            f"to fewer than the {len(rows)} there are"
        )
    random = np.random.default_rng(seed)
    sizes = np.linspace(least, len(rows), points).astype(int)
    subsets = [Moments.of(rows[random.permutation(len(rows))[:size]]) for size in sizes]
    _warn_of_rank([("the smallest subset", subsets[0]), ("reference", reference)])
    distances = [_distance(subset, reference) for subset in subsets]
    _, intercept = np.polyfit(1 / sizes, distances, 1)
    return float(intercept)


def per_class(
    features: Shaped[Array, "n d"] | np.ndarray,
    labels: Shaped[Array, " n"] | np.ndarray,
    reference_features: Shaped[Array, "m d"] | np.ndarray,
    reference_labels: Shaped[Array, " m"] | np.ndarray,
) -> dict[int, float]:
    """Computes the Frechet distance of each class in `labels` to the same class of the reference.

    Features [N d] and [M d] with integer labels [N] and [M]. Warns once, for the smallest class, where there are too
    few samples. Raises ValueError where `frechet_distance` does, for labels of another length, and for a class with
    fewer than two samples on either side.
    """
    names = "features", "reference_features"
    sides = checked_pair(features, reference_features, names)
    of_class = np.asarray(labels), np.asarray(reference_labels)
    for name, rows, found in zip(names, sides, of_class, strict=True):
        if found.shape != (len(rows),):
            raise ValueError(f"{name} has {len(rows)} samples and labels of shape {found.shape}: give one label each")
    classes = [int(label) for label in np.unique(of_class[0])]
    for label in classes:
        for name, found in zip(names, of_class, strict=True):
            if (count := int((found == label).sum())) < 2:
                raise ValueError(f"class {label} has {count} samples in {name}: a covariance needs at least 2")
    pairs = {
        label: tuple(Moments.of(rows[found == label]) for rows, found in zip(sides, of_class, strict=True))
        for label in classes
    }
    smallest = min(pairs, key=lambda label: min(moments.count or 0 for moments in pairs[label]))
    _warn_of_rank([(f"class {smallest} of {name}", m) for name, m in zip(names, pairs[smallest], strict=True)])
    return {label: _distance(a, b) for label, (a, b) in pairs.items()}


def _warn_of_rank(named: list[tuple[str, Moments]]) -> None:
    """Warns of covariances without full rank."""
    few = [(name, m) for name, m in named if m.count is not None and m.count <= len(m.mean)]
    if few:
        what = ", ".join(f"{name} has {m.count} samples for {len(m.mean)} features" for name, m in few)
        warnings.warn(
            f"{what}: such covariances have no full rank and the Frechet distance is far too large; "
            f"give more than {len(few[0][1].mean)} samples, or use the kernel distance",
            stacklevel=3,
        )


def _distance(a: Moments, b: Moments) -> float:
    """Computes the distance by symmetric eigenvalues: unlike `sqrtm`, they are real for singular covariances too."""
    a, b = sorted((a, b), key=lambda moments: np.inf if moments.count is None else moments.count)
    # C_a = F F^T. The eigenvalues of F^T C_b F are those of C_a^(1/2) C_b C_a^(1/2), whatever F is.
    factor = _factor(a.covariance)
    product = np.linalg.eigvalsh(factor.T @ b.covariance @ factor)
    trace = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(np.maximum(product, 0)).sum()
    difference = a.mean - b.mean
    return max(0.0, float(difference @ difference + trace))  # rounding can give -1e-15 for equal distributions


def _factor(covariance: np.ndarray) -> np.ndarray:
    """Returns F with F F^T = covariance: Cholesky's where that is well defined, else by eigenvectors.

    F has full column rank: a singular covariance's zeros are left out, since each would add the square root of its
    rounding error.
    """
    epsilon = len(covariance) * np.finfo(np.float64).eps
    try:
        factor = np.linalg.cholesky(covariance)  # takes a seventh of the time
        pivots = np.diag(factor) ** 2
        if pivots.min() > 1e3 * epsilon * pivots.max():
            return factor
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(covariance)
    kept = values > epsilon * values[-1]
    return vectors[:, kept] * np.sqrt(values[kept])
