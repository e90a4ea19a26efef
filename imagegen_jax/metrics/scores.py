"""Scores of a pair of sets with their intervals: what each metric of the catalog computes, one function a metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from imagegen_jax.metrics.extractor import Extractor
from imagegen_jax.metrics.frechet import fid_infinity, frechet_distance, per_class
from imagegen_jax.metrics.inception_score import inception_score
from imagegen_jax.metrics.interval import Interval, bootstrap, distance_interval, proportion_interval, subset_interval
from imagegen_jax.metrics.kernel import gaussian_mmd, kid
from imagegen_jax.metrics.manifold import manifold_scores
from imagegen_jax.metrics.memorization import authenticity, c_t_score, nearest
from imagegen_jax.metrics.modes import class_frequencies, modes_covered, reverse_kl
from imagegen_jax.metrics.moments import Moments

DRAWS = 200  # of the bootstrap
WIDEST = 512  # features that a bootstrap of the Fréchet distance is affordable for: its time grows with their cube
KID_SUBSETS, KID_SIZE, KID_SEED = 100, 1000, 2020
NEIGHBOURS = 5
IS_SPLITS = 10
SIZES = 15  # of subsets, for the line to infinitely many samples
CELLS, CELL_SAMPLES = 10, 20  # of C_T at most, and the fewest samples of a cell that counts

BOOTSTRAP = f"bootstrap over samples, {DRAWS} draws, for this number of samples"

T = TypeVar("T")


class Score(NamedTuple):
    """A value under its printed name, with the interval (None: none) and how that was made."""

    metric: str
    value: float
    interval: Interval | None
    how: str
    of_held_out: bool = False  # measured of the held-out data: what the same score of the samples is compared with
    samples: int | None = None  # that it was measured of; None: all


class Pair(NamedTuple):
    """What a metric sees of both sides: features by name, float32 [n d], and what else there is."""

    features: Mapping[str, np.ndarray]
    reference: Mapping[str, np.ndarray]
    extractor: Extractor
    seed: int
    labels: np.ndarray | None = None  # int [n], of the samples
    reference_labels: np.ndarray | None = None  # int [m]
    held_out: Mapping[str, np.ndarray] | None = None  # features of data like the reference that was not trained on
    images: np.ndarray | None = None  # uint8 [n h w c]; row i is compared with row i of the reference's
    reference_images: np.ndarray | None = None


# --- distances of distributions --------------------------------------------------------------------------------------


def distance_to(reference: Moments, rows: np.ndarray, name: str, seed: int) -> Score:
    """The Fréchet distance of features [n d] to a reference taken as it is: the interval is that of the samples."""
    interval, how = _interval(reference, np.asarray(rows), seed)
    return Score(name, frechet_distance(Moments.of(rows), reference), interval, how)


def _interval(reference: Moments, rows: np.ndarray, seed: int) -> tuple[Interval | None, str]:
    """Of a Fréchet distance, and how it was made."""
    if rows.shape[1] > WIDEST:
        return None, f"none: a bootstrap of {rows.shape[1]} features takes too long"
    if len(rows) <= 2 * rows.shape[1]:
        return None, f"none: too few samples for {rows.shape[1]} features"
    own = Moments.of(rows)
    found = distance_interval(
        lambda x: _distance(x, reference), lambda x: _distance(x, own), rows, draws=DRAWS, seed=seed
    )
    return found, BOOTSTRAP


def _distance(rows: np.ndarray, reference: Moments) -> float:
    """The distance of a bootstrap's draw: on the host, since each is small and there are many."""
    rows = rows.astype(np.float64)
    mean = rows.mean(0)
    centred = rows - mean
    return frechet_distance(Moments(len(rows), mean, centred.T @ centred), reference)


def frechet(pair: Pair) -> list[Score]:
    return [
        distance_to(Moments.of(pair.reference["features"]), pair.features["features"], pair.extractor.name, pair.seed)
    ]


def spatial_frechet(pair: Pair) -> list[Score]:
    name = f"s{pair.extractor.name}"
    reference = Moments.of(_tap(pair.reference, "spatial", pair))
    return [distance_to(reference, _tap(pair.features, "spatial", pair), name, pair.seed)]


def frechet_at_infinity(pair: Pair) -> list[Score]:
    """Where there are samples enough, from a size at which the covariance has full rank: below, there is no line."""
    rows = np.asarray(pair.features["features"])
    least = max(2, min(5000, len(rows) // 10), min(2 * rows.shape[1], len(rows) // 2))
    reference = Moments.of(pair.reference["features"])
    value = fid_infinity(rows, reference, points=SIZES, least=least, seed=pair.seed)
    how = f"none: a line through overlapping subsets, {SIZES} sizes from {least} to {len(rows)}"
    return [Score(f"{pair.extractor.name} infinity", value, None, how)]


def frechet_per_class(pair: Pair) -> list[Score]:
    labels, of_reference = _there(pair.labels, "labels"), _there(pair.reference_labels, "reference_labels")
    x, y, name = np.asarray(pair.features["features"]), np.asarray(pair.reference["features"]), pair.extractor.name
    scores = []
    for label, value in per_class(x, labels, y, of_reference).items():
        rows = x[labels == label]
        interval, how = _interval(Moments.of(y[of_reference == label]), rows, pair.seed)
        scores.append(Score(f"{name}, class {label}", value, interval, how, samples=len(rows)))
    mean = float(np.mean([score.value for score in scores]))
    found = [score.interval for score in scores if score.interval]
    title = f"{name}, mean of classes"
    if len(found) < len(scores):
        return [Score(title, mean, None, "none: some classes have none"), *scores]
    # Classes are independent samples, so the errors of their distances add in squares.
    below = math.hypot(*(x.value - x.low for x in found)) / len(found)
    above = math.hypot(*(x.high - x.value for x in found)) / len(found)
    return [
        Score(title, mean, Interval(mean, mean - below, mean + above), "of the classes', added in squares"),
        *scores,
    ]


def kernel(pair: Pair) -> list[Score]:
    x, y = pair.features["features"], pair.reference["features"]
    fewer = min(len(x), len(y))
    size = min(KID_SIZE, fewer // 2)
    found = kid(x, y, subsets=KID_SUBSETS, subset_size=size, seed=KID_SEED)
    interval = Interval(*(1e3 * end for end in subset_interval(found.values, size, fewer)))
    how = f"over {KID_SUBSETS} subsets of {size}, drawn as torch-fidelity does (seed {KID_SEED})"
    return [Score("KID x 1000", 1e3 * found.mean, interval, how)]


def gaussian_kernel(pair: Pair) -> list[Score]:
    """Of all samples; its error from that of subsets, since a bootstrap would sum over all pairs hundreds of times."""
    x, y = np.asarray(pair.features["features"]), np.asarray(pair.reference["features"])
    value = gaussian_mmd(x, y)
    fewer = min(len(x), len(y))
    size = min(KID_SIZE, fewer // 2)
    random = np.random.default_rng(pair.seed)
    chosen = [[random.permutation(len(side))[:size] for side in (x, y)] for _ in range(KID_SUBSETS)]
    found = subset_interval(np.array([gaussian_mmd(x[i], y[j]) for i, j in chosen]), size, fewer)
    interval = Interval(value, max(0.0, value + found.low - found.value), value + found.high - found.value)
    how = f"the spread of {KID_SUBSETS} subsets of {size}; kernel of width 10"
    return [Score(f"MMD-Gaussian x 1000 ({pair.extractor.name})", value, interval, how)]


def manifold(pair: Pair) -> list[Score]:
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


# --- of the classes that are predicted -------------------------------------------------------------------------------


def inception(pair: Pair) -> list[Score]:
    logits = np.asarray(
        _tap(pair.features, "logits_unbiased" if "logits_unbiased" in pair.features else "logits", pair)
    )
    found = bootstrap(
        lambda x: inception_score(x, splits=IS_SPLITS).mean, logits, draws=DRAWS, seed=pair.seed, of_limit=False
    )
    return [Score("IS", found.value, found, BOOTSTRAP)]


def modes(pair: Pair) -> list[Score]:
    """Against the labels of the reference where they are the classes that the logits are of, else its predictions."""
    key = next((name for name in ("logits", "logits_unbiased") if name in pair.features), "logits")
    logits = _tap(pair.features, key, pair)
    predicted, classes = np.argmax(logits, axis=1), logits.shape[1]
    labels = pair.reference_labels
    of_labels = labels is not None and int(labels.max()) + 1 == classes
    truth = np.asarray(labels) if of_labels else np.argmax(_tap(pair.reference, key, pair), axis=1)
    data = class_frequencies(truth, (classes,))
    covered = modes_covered(class_frequencies(predicted, (classes,)))
    against = f"against the reference's {'labels' if of_labels else 'predicted classes'}"
    scores = [Score("modes covered", covered, None, f"none: a count, of {np.count_nonzero(data)} that the data has")]
    divergence = reverse_kl(class_frequencies(predicted, (classes,)), data)
    if not math.isfinite(divergence):
        return [*scores, Score("reverse KL", divergence, None, f"none: samples of a class without data, {against}")]
    found = bootstrap(
        lambda x: reverse_kl(class_frequencies(x, (classes,)), data),
        predicted, draws=DRAWS, seed=pair.seed, of_limit=False,
    )  # fmt: skip
    interval = found._replace(low=max(0.0, found.low))
    return [*scores, Score("reverse KL", divergence, interval, f"{BOOTSTRAP}, {against}")]


def agreement(pair: Pair) -> list[Score]:
    """The share of samples that the classifier puts in the class that was asked for."""
    labels, of_reference = _there(pair.labels, "labels"), _there(pair.reference_labels, "reference_labels")
    logits = _tap(pair.features, "logits", pair)
    if logits.shape[1] != (classes := int(of_reference.max()) + 1):
        raise ValueError(
            f"agreement: logits of {logits.shape[1]} classes, and the reference has {classes}: use the classifier"
        )
    predicted = np.argmax(logits, axis=1)
    value = float(np.mean(predicted == labels))
    return [Score("agreement", value, proportion_interval(value, len(labels)), "Wilson's")]


# --- copies of training data -----------------------------------------------------------------------------------------


def authentic_share(pair: Pair) -> list[Score]:
    sides = {"AuthPct": pair.features} | ({} if pair.held_out is None else {"AuthPct of held-out data": pair.held_out})
    scores = []
    for name, side in sides.items():
        value = authenticity(side["features"], pair.reference["features"])
        interval = Interval(*(100 * x for x in proportion_interval(value, len(side["features"]))))
        how = "Wilson's" if pair.held_out else "Wilson's; there are no held-out data to compare it with"
        scores.append(Score(name, 100 * value, interval, how, of_held_out=side is pair.held_out))
    return scores


def copying(pair: Pair) -> list[Score]:
    samples, train = np.asarray(pair.features["features"]), np.asarray(pair.reference["features"])
    test = np.asarray(_there(pair.held_out, "held_out")["features"])
    cells = max(1, min(CELLS, min(len(samples), len(test)) // 100, len(train)))

    def score(cells: int) -> float:
        return c_t_score(samples, train, test, cells, CELL_SAMPLES, pair.seed)

    try:
        value = score(cells)
    except ValueError:  # samples off the data may all lie in a cell that has no held-out image
        cells, value = 1, score(1)
    how = f"none: a z-score, within about 2 of zero for fresh data; cells: {cells}, held-out images: {len(test)}"
    return [Score("C_T", value, None, how)]


def nearest_ratio(pair: Pair) -> list[Score]:
    train = pair.reference["features"]
    _, samples = nearest(pair.features["features"], train)
    _, fresh = nearest(_there(pair.held_out, "held_out")["features"], train)
    name = "nearest distance ratio"
    if not np.median(fresh):
        return [Score(name, math.inf, None, "none: half of the held-out images are in the training data")]
    found = bootstrap(
        lambda x, y: float(np.median(x) / np.median(y)), samples, fresh, draws=DRAWS, seed=pair.seed, of_limit=False
    )
    return [Score(name, found.value, found, f"bootstrap over samples and held-out images, {DRAWS} draws")]


# --- image by image --------------------------------------------------------------------------------------------------


def by_image(name: str, measure: Callable[..., np.ndarray]) -> Callable[[Pair], list[Score]]:
    def compute(pair: Pair) -> list[Score]:
        images, reference = _there(pair.images, "images"), _there(pair.reference_images, "reference_images")
        values = measure(images, reference, (0, 255))
        mean = float(values.mean())
        if not math.isfinite(mean):
            return [Score(name, mean, None, f"none: {np.isinf(values).sum()} pairs of equal images")]
        half = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
        return [Score(name, mean, Interval(mean, mean - half, mean + half), "normal, of the mean over images")]

    return compute


def _tap(features: Mapping[str, np.ndarray], key: str, pair: Pair) -> np.ndarray:
    if key not in features:
        raise ValueError(f"{pair.extractor.name} gives no {key}, only {', '.join(features)}")
    return features[key]


def _there(value: T | None, name: str) -> T:
    if value is None:
        raise ValueError(f"this pair has no `{name}`, which the metric reads")
    return value
