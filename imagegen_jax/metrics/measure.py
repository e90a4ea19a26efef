"""Computes metrics so that one that fails gives its reason in place of its value, and the others are not lost."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping

import numpy as np

from imagegen_jax.metrics.scale import Scale
from imagegen_jax.metrics.scores.interval import ConfidenceInterval
from imagegen_jax.metrics.scores.pair import Score


def measured(scales: Mapping[str, Scale], compute: Callable[[], list[Score]]) -> list[Score]:
    """Returns the scores of `compute`, none of them NaN; where it raises, failed scores under the names in `scales`.

    Each score gets the scale of its name; other names get that of the first. Warnings of `compute` are noted with its
    scores, except NumPy's, since the values are checked here.
    """
    with warnings.catch_warnings(record=True) as said, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        try:
            found = compute()
        except Exception as error:  # whatever it is, the other metrics' scores are worth more
            return [_failed(name, _reason(error), scale) for name, scale in scales.items()]
    notes = dict.fromkeys(str(warning.message) for warning in said if issubclass(warning.category, UserWarning))
    first = next(iter(scales.values()))
    said_of = [score._replace(note="; ".join([*filter(None, [score.note]), *notes])) for score in found]
    return [_sound(score._replace(scale=scales.get(score.metric, first))) for score in said_of]


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"


def _failed(name: str, reason: str, scale: Scale) -> Score:
    return Score(name, math.nan, None, "none", failed=reason, scale=scale)


def _sound(score: Score) -> Score:
    """Cuts a score's interval to the score's range; makes a failed score of one whose value is no number."""
    explained = score.interval is None and score.how.startswith("none:")
    if math.isnan(score.value) or (math.isinf(score.value) and not explained):
        return _failed(score.metric, f"its value is {score.value}", score.scale)
    if score.interval is None:
        return score
    if not (math.isfinite(score.interval.low) and math.isfinite(score.interval.high)):
        return score._replace(interval=None, how="none: its ends are not finite")
    _, low, high = score.scale
    ends = min(max(score.interval.low, low), high), min(max(score.interval.high, low), high)
    return score._replace(interval=ConfidenceInterval(score.value, *ends))
