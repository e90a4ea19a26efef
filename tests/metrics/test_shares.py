"""Shares of classes: those of the data are passed, planted ones flagged; and classes that are drawn badly are found."""

from __future__ import annotations

import numpy as np
import pytest

from imagegen_jax.metrics.features.extractor import Pixels
from imagegen_jax.metrics.scores.pair import Pair
from imagegen_jax.metrics.scores.shares import compared_shares, manifold_per_class, shares

CLASSES = 10


def drawn(seed: int, n: int = 2000, p: np.ndarray | None = None) -> np.ndarray:
    return np.random.default_rng(seed).choice(CLASSES, n, p=p)


def pair_of(samples: np.ndarray, data: np.ndarray, labels: np.ndarray | None = None) -> Pair:
    """A pair whose logits say the classes given; the data have the labels that they are seen as."""
    sides = ({"logits": np.eye(CLASSES, dtype=np.float32)[x], "features": x[:, None]} for x in (samples, data))
    names = tuple(f"class{k}" for k in range(CLASSES))
    return Pair(*sides, Pixels(), 0, labels, data, class_names=names, reference_names=names)  # type: ignore[arg-type]


def test_equal_shares_are_flagged_as_seldom_as_stated() -> None:
    flagged = [compared_shares(drawn(2 * k), drawn(2 * k + 1), CLASSES).flagged.any() for k in range(400)]
    assert 0.01 < np.mean(flagged) < 0.09


def test_a_planted_doubling_is_flagged_and_a_class_that_is_gone_is_named() -> None:
    p = np.full(CLASSES, 0.1)
    p[3], p[7] = 0.2, 0.0
    found = {score.metric: score for score in shares(pair_of(drawn(0, p=p), drawn(1)))}
    three, seven, first = (found[name] for name in ("share, class class3", "share, class class7", *list(found)[:1]))
    assert first.metric == "classes of other shares" and first.value == 2 and "class7" in first.note
    assert three.note.startswith("more than 0.") and seven.note.startswith("less than 0.")
    assert three.interval is not None and three.interval.low < 0.2 < three.interval.high
    assert not found["share, class class0"].note
    clean = shares(pair_of(drawn(2), drawn(3)))
    assert clean[0].value == 0 and not clean[0].note


def test_samples_of_classes_that_were_asked_for_are_compared_with_these() -> None:
    """Data of a long tail, samples of all classes alike: none is flagged for that alone, one that is not drawn is."""
    tail = 1 / np.arange(1, CLASSES + 1)
    data, asked = drawn(0, p=tail / tail.sum()), np.arange(2000) % CLASSES
    assert shares(pair_of(asked, data))[0].value > 5
    assert shares(pair_of(asked, data, asked))[0].value == 0
    missed = np.where(asked == 4, 5, asked)
    found = shares(pair_of(missed, data, asked))
    assert found[0].value == 2 and found[0].note.endswith("class4")


def test_the_class_that_is_drawn_badly_has_the_lowest_precision_and_recall() -> None:
    random, labels = np.random.default_rng(0), np.arange(120) % 3
    centres = np.array([[0.0, 0], [50, 0], [0, 50]])
    rows = [centres[labels] + random.standard_normal((120, 2)) for _ in range(2)]
    rows[0][labels == 1] += [0, 20]  # samples beside the data
    rows[0][labels == 2] = centres[2] + 0.01 * random.standard_normal((40, 2))  # samples all alike
    sides = ({"features": np.float32(side)} for side in rows)
    found = {s.metric: s for s in manifold_per_class(Pair(*sides, Pixels(), 0, labels, labels))}  # type: ignore[arg-type]
    assert found["precision, class 1"].value == 0 < 0.6 < found["precision, class 0"].value
    assert found["recall, class 2"].value < 0.3 < 0.6 < found["recall, class 0"].value
    assert found["precision, lowest of classes"].value == 0 and found["precision, lowest of classes"].note.endswith("1")
    few = np.where(np.arange(120) < 5, 0, 1)
    with pytest.raises(ValueError, match="a class has 5 images on one side"):
        manifold_per_class(
            Pair({"features": np.float32(rows[0])}, {"features": np.float32(rows[1])}, Pixels(), 0, few, few)
        )
