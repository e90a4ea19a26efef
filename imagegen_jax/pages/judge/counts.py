"""How many answers a share needs, and what a share of answers tells: intervals, agreement between people."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from imagegen_jax.metrics.scores.interval import ConfidenceInterval

_NORMAL = statistics.NormalDist()


def wilson(successes: float, n: float, level: float = 0.95) -> ConfidenceInterval:
    """Returns a share with its score interval (Wilson 1927), which stays within [0, 1]; `n` may be an effective count.

    Raises ValueError for no answers.
    """
    if n <= 0:
        raise ValueError("there are no answers to take a share of")
    z, p = _NORMAL.inv_cdf((1 + level) / 2), successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    return ConfidenceInterval(p, max(0.0, centre - half), min(1.0, centre + half))


def answers_for_width(half: float, level: float = 0.95) -> int:
    """Returns how many answers bring the interval of a share near one half to `half` on each side: z^2 / (4 half^2)."""
    return math.ceil((_NORMAL.inv_cdf((1 + level) / 2) / (2 * half)) ** 2)


def answers_to_tell(share: float, other: float = 0.5, power: float = 0.8, level: float = 0.95) -> int:
    """Returns how many answers tell a share from another in so many of all cases (normal, two-sided, of one sample)."""
    deviations = [math.sqrt(p * (1 - p)) for p in (other, share)]
    z = _NORMAL.inv_cdf((1 + level) / 2) * deviations[0] + _NORMAL.inv_cdf(power) * deviations[1]
    return math.ceil((z / (share - other)) ** 2)


def clustered(answers: Sequence[bool], *groupings: Sequence[object]) -> ConfidenceInterval:
    """Returns the share of true answers, with Wilson's interval for as many answers as they are worth.

    Answers of one person, or about one pair, are alike: by each grouping in which some group has several answers, the
    variance of the share over groups is compared with that of independent answers (Kish 1965, the design effect), and
    the largest such effect, if above 1, divides the count. A grouping with one group alone shows nothing.
    """
    values = np.asarray(answers, float)
    effect = max([1.0, *(_effect(values, groups) for groups in groupings)])
    n = len(values) / effect
    return wilson(float(values.mean()) * n if len(values) else 0.0, n)


def _effect(values: np.ndarray, groups: Sequence[object]) -> float:
    _, of = np.unique([str(group) for group in groups], return_inverse=True)
    count, p, n = int(of.max(initial=-1)) + 1, values.mean() if len(values) else 0.0, len(values)
    if count in (0, 1, n) or p in (0.0, 1.0):
        return 1.0
    residuals = np.bincount(of, values - p, count)
    variance = count / (count - 1) * float((residuals**2).sum()) / n**2
    return variance / (p * (1 - p) / n)


def agreement(votes: Mapping[object, Sequence[bool]]) -> tuple[float, float, int] | None:
    """Returns what share of two people's votes about one thing agree, kappa (Fleiss 1971), and of how many things.

    `votes` has those of each thing. Kappa is that share less what chance gives, over what chance leaves; NaN where all
    votes are the same. None where nothing has two votes.
    """
    several = [list(given) for given in votes.values() if len(given) > 1]
    if not several:
        return None
    pairs = [(sum(v), len(v)) for v in several]
    same = [(yes * (yes - 1) + (n - yes) * (n - yes - 1)) / (n * (n - 1)) for yes, n in pairs]
    share = sum(yes for yes, _ in pairs) / sum(n for _, n in pairs)
    observed, chance = statistics.fmean(same), share**2 + (1 - share) ** 2
    kappa = (observed - chance) / (1 - chance) if chance < 1 else math.nan
    return observed, kappa, len(several)
