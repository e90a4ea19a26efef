"""Classifiers as judges: copies of real images are as good as these, shuffled labels are worth nothing."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from imagegen_jax.data import Digits
from imagegen_jax.metrics.evaluate import check_metrics, evaluate
from imagegen_jax.metrics.features.extractor import Pixels
from imagegen_jax.metrics.scores import usefulness
from imagegen_jax.metrics.scores.usefulness import Moves, moved, paired_interval, sizes_of
from imagegen_jax.metrics.sets import ArraySet, source_set

RNG = np.random.default_rng(0)


@functools.cache
def patterns(n, seed, bright=80):
    """Images of three classes, by where they are bright, and of one class more that the others lack."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = rng.integers(0, 120, (n, 8, 8, 1))
    for i, label in enumerate(labels):
        images[i, 2 * label : 2 * label + 3] += bright
    return images.astype(np.uint8), labels


def set_of(name, n, seed, names=("a", "b", "c"), order=None, bright=80):
    images, labels = patterns(n, seed, bright)
    return ArraySet(name, images, labels if order is None else order[labels], class_names=names)


@pytest.fixture
def quickly(monkeypatch):
    """Fewer and shorter trainings."""
    for name, value in (("SEEDS", 2), ("STEPS", 25), ("BATCH", 32), ("TESTED", 60), ("FEWEST", 5)):
        monkeypatch.setattr(usefulness, name, value)


def cards(metric, images, bright=80):
    reference, test = (set_of(name, n, seed, bright=bright) for name, n, seed in (("real", 150, 1), ("test", 60, 2)))
    found = evaluate(images, reference, Pixels(), [metric], quiet=True, held_out=test)
    return {card.metric: card for card in found}


def test_copies_are_as_good_as_the_real_ones_and_shuffled_labels_are_chance(quickly):
    real = cards("cas", set_of("copies", 150, 1))
    assert real["CAS"].value == real["CAS of real images"].value > 0.9
    difference = real["CAS, generated minus real"]
    assert difference.low == difference.value == difference.high == 0 and difference.held_out == "test"
    images, labels = patterns(150, 3)
    shuffled = cards("cas", ArraySet("shuffled", images, RNG.permutation(labels), class_names=("a", "b", "c")))
    assert shuffled["CAS"].value < 0.7 and shuffled["CAS, generated minus real"].high < 0
    others = cards("cas", set_of("other names", 150, 3, ("c", "a", "b"), np.array([1, 2, 0])))
    assert others["CAS"].value > 0.9  # the same classes, by their names


def test_augmentation_is_scored_against_real_images_alone_at_two_sizes(quickly):
    found = cards("augmentation", set_of("more", 120, 4, bright=25), bright=25)  # hard to see
    assert list(found) == [
        f"augmentation{of}, {way}" for of in ("", " of 18") for way in ("generated", "shifts", "shifts and mirroring")
    ]
    for card in found.values():
        assert card.low <= card.value <= card.high and "real images alone" in card.note
    assert found["augmentation of 18, generated"].value > 0  # 120 more of the same classes


def test_what_cannot_be_trained_on_is_refused_before_anything_is():
    reference, test = set_of("real", 150, 1), set_of("test", 60, 2)
    unlabelled = ArraySet("none", patterns(60, 2)[0])
    for images, held_out, why in (
        (set_of("s", 9, 3), None, "there are no held-out data"),
        (ArraySet("none", patterns(9, 3)[0]), test, "the samples have no labels"),
        (set_of("s", 9, 3), unlabelled, "the held-out data have no labels to test by"),
        (ArraySet("big", np.zeros((9, 9, 9, 1), np.uint8), np.arange(9) % 3, class_names=("a", "b", "c")), test,
         "one classifier takes images of one shape alone"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            check_metrics(["cas"], images, reference, Pixels(), held_out)


def test_the_interval_counts_seeds_and_test_images_in_pairs():
    a = RNG.random((5, 400)) < 0.9
    assert paired_interval(a, a, 0) == (0, 0, 0)
    b = a & (RNG.random(400) < 0.9)  # a tenth of the test images is lost to all seeds
    found = paired_interval(a, b, 0)
    assert found.low < found.value < found.high and found.value == pytest.approx(0.09, abs=0.03)
    apart = paired_interval(a, RNG.permutation(b, axis=1), 0)  # pairs that are none
    assert apart.high - apart.low > 1.2 * (found.high - found.low)
    lucky = a.copy()
    lucky[0] = False  # one seed of five fails altogether, which images alone would not show
    assert paired_interval(a, lucky, 0).low < 0.05 and paired_interval(a, lucky, 0).high > 0.35


def test_moved_images_are_shifted_with_their_edge_or_mirrored():
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    many = moved(image.repeat(200, axis=0), Moves(1), np.random.default_rng(0))
    padded = np.pad(image[0, ..., 0], 1, mode="edge")
    wanted = {padded[i : i + 4, j : j + 4].tobytes() for i in range(3) for j in range(3)}
    assert {x.tobytes() for x in many} == wanted
    both = moved(image.repeat(50, axis=0), Moves(0, True), np.random.default_rng(0))
    assert {x.tobytes() for x in both} == {image.tobytes(), image[:, :, ::-1].tobytes()}
    assert sizes_of(1500, 10) == [1500, 187] and sizes_of(300, 10) == [300]


@pytest.mark.slow
def test_copies_of_digits_are_as_good_as_digits(quickly, monkeypatch):
    for name, value in (("STEPS", 120), ("BATCH", 128)):
        monkeypatch.setattr(usefulness, name, value)
    train, test = (source_set(Digits(split=split)) for split in ("train", "test"))
    found = evaluate(train.first(1500), train, Pixels(), ["cas"], quiet=True, held_out=test)
    assert found[0].value == found[1].value > 0.9 and found[2].low <= 0 <= found[2].high
