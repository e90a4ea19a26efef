"""Intervals of a score: a bootstrap over samples, and one from the scores of subsets."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from imagegen_jax import moved
from imagegen_jax.core.config.given import check_integer, check_number, check_seed

__getattr__ = moved.attributes(__name__)


class ConfidenceInterval(NamedTuple):
    """A score with the ends of its confidence interval, in the score's unit."""

    value: float
    low: float
    high: float


def bootstrap(
    score: Callable[..., float],
    *samples: np.ndarray,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    of_limit: bool = True,
) -> ConfidenceInterval:
    """Makes a bootstrap interval of `score(*samples)`.

    Each array of `samples` has its samples on axis 0 and is resampled on its own, by `seed`. Distances such as FID grow
    by resampling, as they did when the samples were drawn, so that percentiles would count this bias twice. With
    `of_limit` the interval is for the score of infinitely many samples: the basic one, 2 score - quantile (Davison &
    Hinkley 1997, Eq. 5.6), which may lie below a biased score. Without, it is for the mean score of the same number of
    samples, which published FIDs compare: the quantiles' distances from the mean of the draws. Raises ValueError for a
    level outside (0, 1), for too few draws to show its quantiles, and for fewer than two samples.
    """
    _check_level(level)
    check_seed(seed)
    if check_integer(draws, "draws") * (1 - level) < 2:
        raise ValueError(
            f"draws={draws} cannot show the quantiles of level={level}: give at least {int(np.ceil(2 / (1 - level)))}"
        )
    if not samples or min(map(len, samples)) < 2:
        raise ValueError(f"samples of lengths {[len(x) for x in samples]}: a bootstrap needs at least 2 of each")
    random = np.random.default_rng(seed)
    value = float(score(*samples))
    drawn = [score(*(x[random.integers(0, len(x), len(x))] for x in samples)) for _ in range(draws)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    centre = value if of_limit else float(np.mean(drawn))
    return ConfidenceInterval(value, float(value + centre - high), float(value + centre - low))


def distance_interval(
    distance: Callable[[np.ndarray], float],
    to_samples: Callable[[np.ndarray], float],
    samples: np.ndarray,
    *,
    draws: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> ConfidenceInterval:
    """Makes a bootstrap interval of a distance such as FID, which is zero for equal distributions only.

    It is for the mean of `distance(samples)` over sets of the same number of samples. `to_samples` is the same distance
    to `samples` themselves. Near zero a distance is quadratic in its error, and the variance of its draws counts that
    part three times: once for itself, twice for the error that the samples already had. The draws' distances to the
    samples show this part alone, so that twice its variance is subtracted (what remains is at least that part once).
    The interval is made for the logarithm, in which a distance is nearly normal, and ends at most four standard errors
    above the value.

    In simulations with 200 draws it covers in 92 to 98 % of cases with 30 samples a feature or more, and more often
    with fewer. Raises ValueError for a level outside (0, 1), fewer than 20 draws and two samples.
    """
    _check_level(level)
    check_seed(seed)
    if check_integer(draws, "draws") < 20 or len(samples) < 2:
        raise ValueError(f"draws={draws}, {len(samples)} samples: must be at least 20 and 2")
    random = np.random.default_rng(seed)
    value = float(distance(samples))
    found = np.empty((draws, 2))
    for i in range(draws):
        drawn = samples[random.integers(0, len(samples), len(samples))]
        found[i] = distance(drawn), to_samples(drawn)
    of_both, quadratic = found.var(axis=0, ddof=1)
    error = math.sqrt(max(of_both - 2 * quadratic, quadratic))
    if value <= 0:
        return ConfidenceInterval(value, 0.0, 4 * error)
    exponent = statistics.NormalDist().inv_cdf((1 + level) / 2) * error / value
    above = value * math.exp(min(exponent, 700.0))  # beyond 700 it overflows; the other bound is smaller then
    return ConfidenceInterval(value, value * math.exp(-exponent), min(above, value + 4 * error))


def subset_interval(
    values: Float[np.ndarray, " subsets"], subset_size: int, count: int, *, level: float = 0.95
) -> ConfidenceInterval:
    """Makes an interval around the mean of subset scores, such as `KID.values`, whose subsets overlap.

    It is subsampling (Politis & Romano 1994) for a score that is about normal and whose error falls as 1/sqrt(n). The
    values' spread is multiplied by sqrt(m / (n - m) + 1 / subsets). The first term goes from subsets of `subset_size` =
    m to all `count` = n samples (of the side with fewer), and allows for samples that subsets share; the second is for
    a mean over few subsets. For equal distributions a score errs less, so that its interval is too wide rather than too
    narrow.

    Raises ValueError for fewer than 20 values, and where `count` is not above `subset_size`.
    """
    _check_level(level)
    if len(values) < 20:
        raise ValueError(f"{len(values)} subset values: their spread needs at least 20; raise `subsets`")
    if not check_integer(subset_size, "subset_size") < check_integer(count, "count"):
        raise ValueError(f"subset_size={subset_size}, count={count}: subsets must be smaller than the samples")
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    error = spread * math.sqrt(subset_size / (count - subset_size) + 1 / len(values))
    half = statistics.NormalDist().inv_cdf((1 + level) / 2) * error
    return ConfidenceInterval(mean, mean - half, mean + half)


def proportion_interval(share: float, count: int, *, level: float = 0.95) -> ConfidenceInterval:
    """Makes Wilson's score interval (1927) of a `share`, from 0 to 1, of `count` independent samples.

    Raises ValueError for a share outside [0, 1] and a count below 1.
    """
    _check_level(level)
    if not 0 <= share <= 1 or check_integer(count, "count") < 1:
        raise ValueError(f"share={share} of count={count}: must be from 0 to 1, of at least 1")
    z = statistics.NormalDist().inv_cdf((1 + level) / 2)
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    low, high = max(centre - half, 0.0), min(centre + half, 1.0)
    # Rounding moves ends that are 0 or 1 by 1e-17.
    return ConfidenceInterval(share, float(min(low, share)), float(max(high, share)))


def _check_level(level: float) -> None:
    if not 0 < check_number(level, "level") < 1:
        raise ValueError(f"level={level}: must be between 0 and 1, such as 0.95")
