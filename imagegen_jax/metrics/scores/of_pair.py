"""Scores of a pair of sets with their intervals, one function for each metric of the catalog."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from imagegen_jax.metrics.features.moments import Moments
from imagegen_jax.metrics.scores.classes import has_names
from imagegen_jax.metrics.scores.frechet import fid_infinity, frechet_distance, per_class
from imagegen_jax.metrics.scores.inception_score import inception_score
from imagegen_jax.metrics.scores.interval import (
    ConfidenceInterval,
    bootstrap,
    distance_interval,
    proportion_interval,
    subset_interval,
)
from imagegen_jax.metrics.scores.kernel import gaussian_mmd, kid
from imagegen_jax.metrics.scores.manifold import manifold_scores
from imagegen_jax.metrics.scores.memorization import authenticity, c_t_score, nearest
from imagegen_jax.metrics.scores.modes import class_frequencies, modes_covered, reverse_kl
from imagegen_jax.metrics.scores.pair import Pair, Score, Side, classes_of, feature_rows, logits_of, required

DRAWS = 200  # of the bootstrap
WIDEST = 512  # features up to which a bootstrap of the Fréchet distance is affordable: its time grows with their cube
KID_SUBSETS, KID_SIZE, KID_SEED = 100, 1000, 2020
NEIGHBOURS = 5
IS_SPLITS = 10
SIZES = 15  # of subsets, for the line to infinitely many samples
CELLS, CELL_SAMPLES = 10, 20  # of C_T at most, and the fewest samples of a cell that counts

BOOTSTRAP = f"bootstrap over samples, {DRAWS} draws, for this number of samples"

# --- distances of distributions --------------------------------------------------------------------------------------


def distance_to(reference: Moments, rows: np.ndarray, name: str, seed: int) -> Score:
    """Measures the Fréchet distance of features [n d] to a fixed reference; the interval is for the samples alone."""
    interval, how = _interval(reference, np.asarray(rows), seed)
    value = frechet_distance(Moments.of(rows), reference, ("samples", "reference"))
    return Score(name, value, interval, how)


def _interval(reference: Moments, rows: np.ndarray, seed: int) -> tuple[ConfidenceInterval | None, str]:
    """Makes the interval of a Fréchet distance; returns it, and how it was made."""
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
    """Computes the distance of a bootstrap's draw, on the host, since draws are small and many."""
    rows = rows.astype(np.float64)
    mean = rows.mean(0)
    centred = rows - mean
    return frechet_distance(Moments(len(rows), mean, centred.T @ centred), reference)


def frechet(pair: Pair) -> list[Score]:
    reference = Moments.of(feature_rows(pair, "references"))
    return [distance_to(reference, feature_rows(pair, "samples"), pair.extractor.name, pair.seed)]


def spatial_frechet(pair: Pair) -> list[Score]:
    reference = Moments.of(feature_rows(pair, "references", "spatial"))
    return [distance_to(reference, feature_rows(pair, "samples", "spatial"), f"s{pair.extractor.name}", pair.seed)]


def frechet_at_infinity(pair: Pair) -> list[Score]:
    """Reads the Fréchet distance at infinity off a line through distances of subsets.

    Where samples suffice, the smallest subset gives covariances of full rank: below, distances lie on no line.
    """
    rows = feature_rows(pair, "samples")
    least = max(2, min(5000, len(rows) // 10), min(2 * rows.shape[1], len(rows) // 2))
    reference = Moments.of(feature_rows(pair, "references"))
    value = fid_infinity(rows, reference, points=SIZES, least=least, seed=pair.seed)
    how = f"none: a line through overlapping subsets, {SIZES} sizes from {least} to {len(rows)}"
    note = "below zero, as a line may end where the distributions are nearly equal" if value < 0 else ""
    return [Score(f"{pair.extractor.name} infinity", value, None, how, note=note)]


def frechet_per_class(pair: Pair) -> list[Score]:
    """Measures the Fréchet distance of each class that both sides have, paired by names where there are any."""
    classes, name = classes_of(pair), pair.extractor.name
    x, y = feature_rows(pair, "samples"), feature_rows(pair, "references")
    compared, shared = classes.samples >= 0, classes.references >= 0
    found = per_class(x[compared], classes.samples[compared], y[shared], classes.references[shared])
    note = classes.note(has_names(pair.class_names) or has_names(pair.reference_names))
    scores = []
    for label, value in found.items():
        rows, of_reference = x[classes.samples == label], y[classes.references == label]
        interval, how = _interval(Moments.of(of_reference), rows, pair.seed)
        title = f"{name}, class {classes.names[label]}"
        scores.append(Score(title, value, interval, how, samples=len(rows), references=len(of_reference)))
    return [_mean_of_classes(scores, f"{name}, mean of classes", note), *scores]


def _mean_of_classes(scores: Sequence[Score], title: str, note: str) -> Score:
    mean = float(np.mean([score.value for score in scores]))
    samples, references = sum(x.samples or 0 for x in scores), sum(x.references or 0 for x in scores)
    total = Score(title, mean, None, "none: some classes have none", samples=samples, references=references, note=note)
    found = [score.interval for score in scores if score.interval]
    if len(found) < len(scores):
        return total
    # Classes are independent samples, so the errors of their distances add in squares.
    below = math.hypot(*(x.value - x.low for x in found)) / len(found)
    above = math.hypot(*(x.high - x.value for x in found)) / len(found)
    ends = ConfidenceInterval(mean, mean - below, mean + above)
    return total._replace(interval=ends, how="of the classes', added in squares")


def kernel(pair: Pair) -> list[Score]:
    x, y = feature_rows(pair, "samples"), feature_rows(pair, "references")
    fewer = min(len(x), len(y))
    size = min(KID_SIZE, fewer // 2)
    found = kid(x, y, subsets=KID_SUBSETS, subset_size=size, seed=KID_SEED)
    interval = ConfidenceInterval(*(1e3 * end for end in subset_interval(found.values, size, fewer)))
    how = f"over {KID_SUBSETS} subsets of {size}, drawn as torch-fidelity does (seed {KID_SEED})"
    return [Score("KID x 1000", 1e3 * found.mean, interval, how)]


def gaussian_kernel(pair: Pair) -> list[Score]:
    """Measures CMMD's distance of all samples; its error comes from subsets.

    A bootstrap would sum over all pairs hundreds of times.
    """
    x, y = feature_rows(pair, "samples"), feature_rows(pair, "references")
    value = gaussian_mmd(x, y)
    fewer = min(len(x), len(y))
    size = min(KID_SIZE, fewer // 2)
    random = np.random.default_rng(pair.seed)
    chosen = [[random.permutation(len(side))[:size] for side in (x, y)] for _ in range(KID_SUBSETS)]
    found = subset_interval(np.array([gaussian_mmd(x[i], y[j]) for i, j in chosen]), size, fewer)
    interval = ConfidenceInterval(value, value + found.low - found.value, value + found.high - found.value)
    how = f"the spread of {KID_SUBSETS} subsets of {size}; kernel of width 10"
    return [Score(f"MMD-Gaussian x 1000 ({pair.extractor.name})", value, interval, how)]


def manifold(pair: Pair) -> list[Score]:
    """Computes the manifold scores of equally many samples and references, since they depend on both counts.

    The longer side's rows are drawn by the seed.
    """
    sides = feature_rows(pair, "samples"), feature_rows(pair, "references")
    fewer, random = min(map(len, sides)), np.random.default_rng(pair.seed)
    x, y = (side[np.sort(random.permutation(len(side))[:fewer])] if len(side) > fewer else side for side in sides)
    found = manifold_scores(x, y, neighbours=NEIGHBOURS)
    cut = (("samples", sides[0]), ("references", sides[1]))
    note = "; ".join(f"{fewer:,} of {len(x):,} {name}, drawn by seed {pair.seed}" for name, x in cut if len(x) > fewer)
    scores = []
    for name, value in found._asdict().items():
        share = name != "density"
        how = "Wilson's, the balls taken as they are" if share else "none: not a share"
        interval = proportion_interval(value, fewer) if share else None
        scores.append(Score(name, value, interval, how, samples=fewer, references=fewer, note=note))
    return scores


# --- of the classes that are predicted -------------------------------------------------------------------------------


def inception(pair: Pair) -> list[Score]:
    logits = logits_of(pair, "samples", "logits_unbiased", "logits")
    found = bootstrap(
        lambda x: inception_score(x, splits=IS_SPLITS).mean, logits, draws=DRAWS, seed=pair.seed, of_limit=False
    )
    return [Score("IS", found.value, found, BOOTSTRAP)]


def modes(pair: Pair) -> list[Score]:
    """Measures the modes covered and the reverse KL.

    It compares with the reference's labels where these are the logits' classes, else with its predicted classes.
    """
    keys = "logits", "logits_unbiased"
    logits = logits_of(pair, "samples", *keys)
    predicted, classes = np.argmax(logits, axis=1), logits.shape[1]
    labels = pair.reference_labels
    of_labels = labels is not None and _count(labels, pair.reference_names) == classes
    truth = np.asarray(labels) if of_labels else np.argmax(logits_of(pair, "references", *keys), axis=1)
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
    return [*scores, Score("reverse KL", divergence, found, f"{BOOTSTRAP}, {against}")]


def agreement(pair: Pair) -> list[Score]:
    """Measures the share of samples that the classifier of the reference's classes puts in the class asked for."""
    classes, of_reference = classes_of(pair), required(pair.reference_labels, "reference_labels")
    logits = feature_rows(pair, "samples", "logits")
    if logits.shape[1] != (count := _count(of_reference, pair.reference_names)):
        raise ValueError(f"logits of {logits.shape[1]} classes, and the reference has {count}: use the classifier")
    compared = classes.samples >= 0
    place = np.full(count, -1)
    place[of_reference] = classes.references
    right = place[np.argmax(logits, axis=1)] == classes.samples
    value, n = float(np.mean(right[compared])), int(compared.sum())
    note = classes.note(has_names(pair.class_names) or has_names(pair.reference_names))
    return [Score("agreement", value, proportion_interval(value, n), "Wilson's", samples=n, note=note)]


def _count(labels: np.ndarray, names: Sequence[str]) -> int:
    """Returns the number of classes; some may have no images."""
    return max(len(names), int(np.max(labels)) + 1)


# --- copies of training data -----------------------------------------------------------------------------------------


def authentic_share(pair: Pair) -> list[Score]:
    sides: dict[str, Side] = {"AuthPct": "samples"}
    if pair.held_out is not None:
        sides["AuthPct of held-out data"] = "held-out images"
    train, scores = feature_rows(pair, "references"), []
    for name, side in sides.items():
        rows = feature_rows(pair, side)
        value = authenticity(rows, train)
        interval = ConfidenceInterval(*(100 * x for x in proportion_interval(value, len(rows))))
        how = "Wilson's" if pair.held_out else "Wilson's; there are no held-out data to compare it with"
        scores.append(Score(name, 100 * value, interval, how, of_held_out=side != "samples"))
    return scores


def copying(pair: Pair) -> list[Score]:
    samples, train, test = (feature_rows(pair, side) for side in ("samples", "references", "held-out images"))
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
    train = feature_rows(pair, "references")
    _, samples = nearest(feature_rows(pair, "samples"), train)
    _, fresh = nearest(feature_rows(pair, "held-out images"), train)
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
        images, reference = required(pair.images, "images"), required(pair.reference_images, "reference_images")
        values = measure(images, reference, (0, 255))
        mean = float(values.mean())
        if not math.isfinite(mean):
            return [Score(name, mean, None, f"none: {np.isinf(values).sum()} pairs of equal images")]
        half = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
        ends = ConfidenceInterval(mean, mean - half, mean + half)
        return [Score(name, mean, ends, "normal, of the mean over images")]

    return compute
