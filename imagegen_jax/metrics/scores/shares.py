"""Classes in samples against the data: how often each comes, and how well it is drawn. Which ones a model forgets.

Classes are what a classifier sees, of samples and of data alike, so that what it confuses is confused on both sides.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from imagegen_jax.metrics.scores.classes import has_names, listed
from imagegen_jax.metrics.scores.interval import proportion_interval
from imagegen_jax.metrics.scores.manifold import manifold_scores
from imagegen_jax.metrics.scores.pair import Pair, Score, classes_of, feature_rows, logits_of

SHOWN = 20  # classes that have scores of their own: those farthest from the data's shares
LEVEL = 0.95  # that no class at all is flagged where samples have the data's shares
NEIGHBOURS = 5
MOST = 1000  # images of a class and side whose manifolds are compared, at most


class Compared(NamedTuple):
    """Shares of classes in samples and those to expect by the data, and how many deviations lie between them."""

    samples: Float[np.ndarray, " classes"]
    expected: Float[np.ndarray, " classes"]
    z: Float[np.ndarray, " classes"]

    @property
    def flagged(self) -> np.ndarray:
        """Tells for each class whether it comes more or less often than chance lets it, Bonferroni's way."""
        limit = statistics.NormalDist().inv_cdf(1 - (1 - LEVEL) / 2 / len(self.z))
        return np.abs(self.z) > limit


def compared_shares(
    samples: Int[np.ndarray, " n"],
    data: Int[np.ndarray, " m"],
    classes: int,
    weights: Float[np.ndarray, " m"] | None = None,
) -> Compared:
    """Compares the classes that are seen in samples with those seen in data, of which each row has a weight.

    The deviation is that of both shares; half a sample is added where a class was never seen, since it may come by
    chance.
    """
    n, m = len(samples), len(data)
    weights = np.ones(m) if weights is None else weights * m / weights.sum()
    of_samples = np.bincount(samples, minlength=classes) / n
    expected = np.bincount(data, weights, classes) / m
    own = np.bincount(data, weights**2, classes) / m - 2 * expected * expected + expected**2 * np.mean(weights**2)
    pooled = (n * of_samples + m * expected + 0.5) / (n + m + 1)
    variance = pooled * (1 - pooled) / n + np.maximum(own, pooled * (1 - pooled)) / m
    return Compared(of_samples, expected, (of_samples - expected) / np.sqrt(variance))


def shares(pair: Pair) -> list[Score]:
    """Measures the share of each class that is seen in samples, and counts those that differ from the data's.

    Samples of classes that were asked for are compared with data that are weighted so that they have those shares.
    """
    keys = "logits", "logits_unbiased"
    seen, data = (np.argmax(logits_of(pair, side, *keys), axis=1) for side in ("samples", "references"))
    classes = int(logits_of(pair, "samples", *keys).shape[1])
    weights, against = _weights(pair)
    found = compared_shares(seen, data, classes, weights)
    names = _names(pair, classes)
    order = np.argsort(-np.abs(found.z), kind="stable")[:SHOWN]
    forgotten = [names[int(k)] for k in np.flatnonzero(found.flagged & (found.samples < found.expected / 2))]
    note = f"hardly drawn, below half of their share: {listed(forgotten, SHOWN)}" if forgotten else ""
    count = Score("classes of other shares", float(found.flagged.sum()), None, f"none: a count, {against}", note=note)
    return [count, *(_share(found, int(k), names[k], len(seen), against) for k in sorted(order))]


def _share(found: Compared, k: int, name: str, n: int, against: str) -> Score:
    value, flagged = float(found.samples[k]), bool(found.flagged[k])
    more = "more" if found.z[k] > 0 else "less"
    note = f"{more} than {found.expected[k]:.4f} {against}" if flagged else ""
    return Score(f"share, class {name}", value, proportion_interval(value, n), "Wilson's", note=note)


def _weights(pair: Pair) -> tuple[np.ndarray | None, str]:
    """Returns the weight of each row of the data, None for 1, and what samples are compared with, in words."""
    if pair.labels is None or pair.reference_labels is None:
        return None, "in the data"
    classes = classes_of(pair)
    if classes.alone or not classes.names:
        return None, "in the data"
    of_samples, of_data = (np.bincount(x[x >= 0], minlength=len(classes.names)) for x in classes[1:3])
    ratio = of_samples / np.maximum(of_data, 1)
    return np.where(classes.references >= 0, ratio[classes.references], 0), "in data of the classes asked for"


def _names(pair: Pair, classes: int) -> Sequence[str]:
    own = pair.reference_names if len(pair.reference_names) == classes else pair.class_names
    return own if len(own) == classes else [str(k) for k in range(classes)]


def manifold_per_class(pair: Pair) -> list[Score]:
    """Measures precision and recall of each class against the data's images of that class, and the lowest of both.

    All classes are measured by as many images, drawn by the seed, since both scores depend on the number.
    """
    classes, random = classes_of(pair), np.random.default_rng(pair.seed)
    rows = feature_rows(pair, "samples"), feature_rows(pair, "references")
    sides = [
        [np.flatnonzero(labels == k) for k in range(len(classes.names))]
        for labels in (classes.samples, classes.references)
    ]
    n = min(MOST, *(len(of) for side in sides for of in side))
    if n <= NEIGHBOURS:
        raise ValueError(f"a class has {n} images on one side: its manifold needs at least {NEIGHBOURS + 1}")
    note = classes.note(has_names(pair.class_names) or has_names(pair.reference_names))
    found: dict[str, list[Score]] = {"precision": [], "recall": []}
    for k, name in enumerate(classes.names):
        x, y = (side[np.sort(random.permutation(of[k])[:n])] for side, of in zip(rows, sides, strict=True))
        scores = manifold_scores(x, y, neighbours=NEIGHBOURS)
        for kind, of in found.items():
            value = float(getattr(scores, kind))
            ends = proportion_interval(value, n)
            how = "Wilson's, the balls taken as they are"
            of.append(Score(f"{kind}, class {name}", value, ends, how, samples=n, references=n, note=note))
    lowest = []
    for kind, of in found.items():
        worst = min(of, key=lambda score: score.value)
        how = f"none: the lowest of {len(of)}, which chance makes low"
        lowest.append(Score(f"{kind}, lowest of classes", worst.value, None, how, note=f"of {worst.metric}"))
    return [*lowest, *(score for of in found.values() for score in of)]
