"""Metrics of one set of images against another: features once, then each metric with its interval, as cards."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from imagegen_jax.core.log import version
from imagegen_jax.metrics.card import Card
from imagegen_jax.metrics.extractor import Extractor
from imagegen_jax.metrics.features import features_of
from imagegen_jax.metrics.frechet import frechet_distance
from imagegen_jax.metrics.inception_score import inception_score
from imagegen_jax.metrics.interval import Interval, bootstrap, proportion_interval, subset_interval
from imagegen_jax.metrics.kernel import kid
from imagegen_jax.metrics.manifold import manifold_scores
from imagegen_jax.metrics.memorization import authenticity
from imagegen_jax.metrics.moments import Moments
from imagegen_jax.metrics.sets import ImageSet

DRAWS = 200  # of the bootstrap
WIDEST = 512  # features that a bootstrap of the Fréchet distance is affordable for: its time grows with their cube
KID_SUBSETS, KID_SIZE = 100, 1000
NEIGHBOURS = 5


class Score(NamedTuple):
    """A value under its printed name, with the interval (None: none) and how that was made."""

    metric: str
    value: float
    interval: Interval | None
    how: str


class Pair(NamedTuple):
    """What a metric sees: features by name of both sides, float32 [n d]."""

    features: Mapping[str, np.ndarray]
    reference: Mapping[str, np.ndarray]
    extractor: Extractor
    seed: int


def evaluate(
    images: ImageSet,
    reference: ImageSet | Moments,
    extractor: Extractor,
    metrics: Sequence[str] = ("fid", "kid", "prdc"),
    seed: int = 0,
    quiet: bool = False,
) -> list[Card]:
    """Cards of `metrics`, by their names in METRICS, of `images` against `reference`.

    Saved statistics as reference allow "fid" alone, and those of another extractor are refused. Raises ValueError for
    a metric that there is none of, or that the features or the reference do not allow, before anything is extracted.
    """
    check_metrics(metrics, reference, extractor)
    features = features_of(images, extractor, quiet)
    if isinstance(reference, Moments):
        scores = [_against_moments(features, reference, extractor, seed)]
        name, count = f"saved statistics {reference.fingerprint or 'made elsewhere'}", reference.count
    else:
        pair = Pair(features, features_of(reference, extractor, quiet), extractor, seed)
        scores = [score for metric in metrics for score in METRICS[metric](pair)]
        name, count = reference.name, len(reference)
    shared = {
        "samples": len(images),
        "images": images.name,
        "references": count,
        "reference": name,
        "extractor": extractor.name,
        "weights": extractor.fingerprint[:16],
        "resize": extractor.resize,
        "seed": seed,
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("imagegen_jax", "jax", "numpy")},
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    return [_card(score, shared) for score in scores]


def _card(score: Score, shared: Mapping[str, Any]) -> Card:
    low, high = (score.interval.low, score.interval.high) if score.interval else (None, None)
    return Card(metric=score.metric, value=score.value, low=low, high=high, interval=score.how, **shared)


def check_metrics(metrics: Sequence[str], reference: ImageSet | Moments, extractor: Extractor) -> None:
    """Raises ValueError where these metrics cannot be had of this reference."""
    if unknown := [metric for metric in metrics if metric not in METRICS]:
        raise ValueError(f"no metric {unknown[0]!r}: there are {', '.join(METRICS)}")
    if not metrics:
        raise ValueError(f"no metric is named: there are {', '.join(METRICS)}")
    if not isinstance(reference, Moments):
        return
    if set(metrics) != {"fid"}:
        raise ValueError(f"saved statistics hold mean and covariance alone: ask for fid, not {', '.join(metrics)}")
    if reference.fingerprint not in (None, extractor.fingerprint):
        raise ValueError(
            f"the saved statistics are of features {reference.fingerprint}, these are of {extractor.fingerprint} "
            f"({extractor.name}, resize {extractor.resize}): another extractor, weights or resize cannot be compared"
        )


# --- the metrics by name ---------------------------------------------------------------------------------------------


def _fid(pair: Pair) -> list[Score]:
    reference = Moments.of(pair.reference["features"], fingerprint=pair.extractor.fingerprint)
    return [_against_moments(pair.features, reference, pair.extractor, pair.seed)]


def _against_moments(features: Mapping[str, np.ndarray], reference: Moments, extractor: Extractor, seed: int) -> Score:
    """The Fréchet distance to a reference that is taken as it is: the interval is that of the samples."""
    rows = np.asarray(features["features"])
    value = frechet_distance(Moments.of(rows), reference)
    if rows.shape[1] > WIDEST:
        return Score(extractor.name, value, None, f"none: a bootstrap of {rows.shape[1]} features takes too long")
    if len(rows) <= 2 * rows.shape[1]:
        return Score(extractor.name, value, None, f"none: too few samples for {rows.shape[1]} features")
    found = bootstrap(lambda x: _distance(x, reference), rows, draws=DRAWS, seed=seed, of_limit=False)
    return Score(extractor.name, value, found, f"bootstrap over samples, {DRAWS} draws, for this number of samples")


def _distance(rows: np.ndarray, reference: Moments) -> float:
    """The distance of a bootstrap's draw: on the host, since each is small and there are many."""
    rows = rows.astype(np.float64)
    mean = rows.mean(0)
    centred = rows - mean
    return frechet_distance(Moments(len(rows), mean, centred.T @ centred), reference)


def _kid(pair: Pair) -> list[Score]:
    x, y = pair.features["features"], pair.reference["features"]
    fewer = min(len(x), len(y))
    size = min(KID_SIZE, fewer // 2)
    found = kid(x, y, subsets=KID_SUBSETS, subset_size=size)
    interval = Interval(*(1e3 * end for end in subset_interval(found.values, size, fewer)))
    return [Score("KID x 1000", 1e3 * found.mean, interval, f"over {KID_SUBSETS} subsets of {size}")]


def _inception_score(pair: Pair) -> list[Score]:
    name = next((name for name in ("logits_unbiased", "logits") if name in pair.features), None)
    if name is None:
        raise ValueError(f"is: {pair.extractor.name} gives no logits; use the classifier or inception")
    logits = np.asarray(pair.features[name])
    found = bootstrap(lambda x: inception_score(x).mean, logits, draws=DRAWS, seed=pair.seed, of_limit=False)
    return [Score("IS", found.value, found, f"bootstrap over samples, {DRAWS} draws, for this number of samples")]


def _manifold(pair: Pair) -> list[Score]:
    """Against as many references as there are samples, as the scores depend on both counts."""
    x, y = np.asarray(pair.features["features"]), pair.reference["features"]
    fewer = min(len(x), len(y))
    chosen = np.sort(np.random.default_rng(pair.seed).permutation(len(y))[:fewer])
    found = manifold_scores(x[:fewer], np.asarray(y[chosen]), neighbours=NEIGHBOURS)
    scores = []
    for name, value in found._asdict().items():
        share = name != "density"
        how = "Wilson's, the balls taken as they are" if share else "none: not a share"
        scores.append(Score(name, value, proportion_interval(value, fewer) if share else None, how))
    return scores


def _memorization(pair: Pair) -> list[Score]:
    value = authenticity(pair.features["features"], pair.reference["features"])
    interval = proportion_interval(value, len(pair.features["features"]))
    return [Score("AuthPct", 100 * value, Interval(*(100 * x for x in interval)), "Wilson's")]


METRICS: dict[str, Callable[[Pair], list[Score]]] = {
    "fid": _fid,
    "kid": _kid,
    "is": _inception_score,
    "prdc": _manifold,
    "authpct": _memorization,
}
