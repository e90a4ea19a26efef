"""Whether generated images are of use: classifiers that are trained from scratch on them, or on them beside real ones.

The classification accuracy score (CAS, Ravuri & Vinyals 2019, arXiv 1905.10887) is the accuracy on real test images of
a classifier that has seen generated ones alone. Augmentation adds them to real ones, at several sizes of the real set,
beside what anybody would try first: shifts by a pixel, and mirroring.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Int, UInt8

from imagegen_jax.core.arrays.image import to_float
from imagegen_jax.core.compile import jit
from imagegen_jax.core.platform.target import cached_by_platform
from imagegen_jax.core.reporting.progress import Progress
from imagegen_jax.metrics.features.classifier import Classifier
from imagegen_jax.metrics.scale import SHARE, Scale
from imagegen_jax.metrics.scores.interval import ConfidenceInterval
from imagegen_jax.metrics.scores.pair import Pair, Score, classes_of, required

Right = Bool[np.ndarray, "seeds tests"]  # whether each seed's classifier puts each test image in its class

SEEDS = 5  # of the classifier: its weights, and its batches
STEPS, BATCH = 500, 128
RATE, DECAY = 1e-3, 1e-2  # AdamW's, the first falling to 0 along half a cosine
DRAWS = 1000  # of the bootstrap
TESTED = 500  # images at a time
SMALL = 8  # the smaller real set is so much smaller than the whole
FEWEST = 10  # real images a class on average, in the smaller set
DIFFERENCE = Scale("higher", -1.0, 1.0)

HOW = f"bootstrap over {SEEDS} seeds of the classifier and the test images together, {DRAWS} draws"


class Labelled(NamedTuple):
    """Images uint8 [n h w c] and their classes [n]."""

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int[np.ndarray, " n"]

    def first(self, n: int) -> Labelled:
        """Returns the first `n`."""
        return Labelled(self.images[:n], self.labels[:n])


@dataclasses.dataclass(frozen=True)
class Moves:
    """What is done to the images of each batch: moved by at most so many pixels, and mirrored or not."""

    shift: int = 0
    mirror: bool = False


class Sets(NamedTuple):
    """What classifiers are trained and tested on, with one numbering of the classes."""

    generated: Labelled
    real: Labelled
    test: Labelled
    classes: int


def classification_accuracy(pair: Pair) -> list[Score]:
    """Scores classifiers of generated images on real test images, beside those of as many real ones, in pairs."""
    sets = sets_of(pair)
    n = min(len(sets.generated.labels), len(sets.real.labels))
    with Progress("classifiers", 2 * SEEDS, "classifiers", quiet=pair.quiet) as shown:
        train = functools.partial(trained, sets.test, sets.classes, pair.seed, shown.add)
        generated, real = train([sets.generated.first(n)]), train([sets.real.first(n)])
    shared: dict[str, Any] = {"samples": n, "references": len(sets.test.labels)}
    shared["note"] = f"trained on {n:,} images each"
    return [
        Score("CAS", float(generated.mean()), accuracy_interval(generated, pair.seed), HOW, scale=SHARE, **shared),
        Score("CAS of real images", float(real.mean()), accuracy_interval(real, pair.seed), HOW, scale=SHARE, **shared),
        _difference("CAS, generated minus real", generated, real, pair.seed, shared),
    ]


def augmentation(pair: Pair) -> list[Score]:
    """Scores classifiers of real and generated images against those of real ones alone, for the whole set and less."""
    sets, ways = sets_of(pair), {"shifts": Moves(1), "shifts and mirroring": Moves(1, True)}
    sizes = sizes_of(len(sets.real.labels), sets.classes)
    scores = []
    with Progress("classifiers", len(sizes) * 4 * SEEDS, "classifiers", quiet=pair.quiet) as shown:
        train = functools.partial(trained, sets.test, sets.classes, pair.seed, shown.add)
        for n in sizes:
            real = sets.real.first(n)
            alone = train([real])
            of = "" if n == sizes[0] else f" of {n:,}"
            found = {"generated": train([real, sets.generated])}
            found |= {way: train([real], moves) for way, moves in ways.items()}
            shared: dict[str, Any] = {"samples": len(sets.generated.labels), "references": len(sets.test.labels)}
            shared["note"] = f"{n:,} real images alone: {alone.mean():.2%} right"
            for way, right in found.items():
                scores.append(_difference(f"augmentation{of}, {way}", right, alone, pair.seed, shared))
    return scores


def sizes_of(n: int, classes: int) -> list[int]:
    """Returns the sizes of the real set: all of it, and an eighth where that is enough to learn from."""
    return [n, *([n // SMALL] if n // SMALL >= FEWEST * classes else [])]


def _difference(name: str, a: Right, b: Right, seed: int, shared: dict[str, Any]) -> Score:
    return Score(name, float(a.mean() - b.mean()), paired_interval(a, b, seed), HOW, scale=DIFFERENCE, **shared)


def accuracy_interval(right: Right, seed: int) -> ConfidenceInterval:
    """Makes the interval of an accuracy, with seeds and test images drawn again together."""
    return paired_interval(right, np.zeros_like(right), seed)


def paired_interval(a: Right, b: Right, seed: int) -> ConfidenceInterval:
    """Makes the interval of a difference of accuracies: the same seeds and test images are drawn again for both."""
    difference, rng = a.astype(float) - b, np.random.default_rng(seed)
    seeds, tests = difference.shape
    draws = [
        difference[rng.integers(0, seeds, seeds)].mean(0)[rng.integers(0, tests, tests)].mean() for _ in range(DRAWS)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return ConfidenceInterval(float(difference.mean()), float(low), float(high))


def sets_of(pair: Pair) -> Sets:
    """Returns what a pair has to train and test on: its images of shared classes, numbered alike.

    Test images have the labels of the reference. Raises ValueError where a part is missing.
    """
    classes = classes_of(pair)
    number = dict(zip(required(pair.reference_labels, "reference_labels"), classes.references, strict=True))
    test_labels = required(pair.held_out_labels, "held_out_labels")
    of_test = np.array([number.get(label, -1) for label in test_labels])

    def of_shared(images: np.ndarray | None, labels: np.ndarray) -> Labelled:
        return Labelled(required(images, "images")[labels >= 0], labels[labels >= 0])

    return Sets(
        of_shared(pair.images, classes.samples),
        of_shared(pair.reference_images, classes.references),
        of_shared(pair.held_out_images, of_test),
        len(classes.names),
    )


# --- training --------------------------------------------------------------------------------------------------------


def trained(
    test: Labelled,
    classes: int,
    seed: int,
    done: Callable[[], None],
    pools: Sequence[Labelled],
    moves: Moves = Moves(),
) -> Right:
    """Trains a classifier for each of `SEEDS` seeds, on batches with as many images of each pool, and tests it."""
    right = []
    for i in range(SEEDS):
        right.append(_one(test, classes, seed * SEEDS + i, pools, moves))
        done()
    return np.stack(right)


def _one(test: Labelled, classes: int, seed: int, pools: Sequence[Labelled], moves: Moves) -> Bool[np.ndarray, " n"]:
    height, width, channels = test.images.shape[1:]
    init, step, classify = _programs((height, width, channels), classes, STEPS)
    rng = np.random.default_rng(seed)
    state = init(jax.random.key(seed))
    for _ in range(STEPS):
        shares = [BATCH // len(pools)] * (len(pools) - 1)
        counts = [BATCH - sum(shares), *shares]
        rows = [rng.integers(0, len(pool.labels), n) for pool, n in zip(pools, counts, strict=True)]
        images = np.concatenate([pool.images[at] for pool, at in zip(pools, rows, strict=True)])
        labels = np.concatenate([pool.labels[at] for pool, at in zip(pools, rows, strict=True)])
        state = step(state, moved(images, moves, rng), labels.astype(np.int32))
    found = []
    for start in range(0, len(test.labels), TESTED):
        block = np.arange(start, start + TESTED) % len(test.labels)  # a full one, of which the end is left out
        found.append(np.asarray(classify(state, test.images[block])))
    return np.concatenate(found)[: len(test.labels)] == test.labels


def moved(images: UInt8[np.ndarray, "n h w c"], moves: Moves, rng: np.random.Generator) -> np.ndarray:
    """Moves each image by up to `moves.shift` pixels, its edge repeated, and mirrors one of two where that is asked."""
    if moves.shift:
        s, (height, width) = moves.shift, images.shape[1:3]
        padded = np.pad(images, ((0, 0), (s, s), (s, s), (0, 0)), mode="edge")
        down, right = rng.integers(0, 2 * s + 1, (2, len(images), 1, 1))
        rows, columns = down + np.arange(height)[:, None], right + np.arange(width)
        images = padded[np.arange(len(images))[:, None, None], rows, columns]
    if moves.mirror:
        images = np.where(rng.random(len(images))[:, None, None, None] < 0.5, images[:, :, ::-1], images)
    return images


class _Programs(NamedTuple):
    init: Callable[[Any], Any]
    step: Callable[[Any, Any, Any], Any]
    classify: Callable[[Any, Any], Any]


@cached_by_platform
def _programs(shape: tuple[int, int, int], classes: int, steps: int) -> _Programs:
    """Compiles what trains a classifier of images of a shape in `steps`: once for all seeds and sets."""
    model = Classifier(shape, classes)
    optimiser = optax.adamw(optax.cosine_decay_schedule(RATE, steps), weight_decay=DECAY)

    def init(key: jax.Array) -> Any:
        nothing = {"image": jnp.zeros((1, *shape)), "label": jnp.zeros(1, jnp.int32)}
        nets = model.init(key, nothing)
        return nets, optimiser.init(nets)

    def step(state: Any, images: jax.Array, labels: jax.Array) -> Any:
        nets, moments = state

        def loss(nets: Any) -> jax.Array:
            logits = model.apply(nets, to_float(images))["logits"]
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        update, moments = optimiser.update(jax.grad(loss)(nets), moments, nets)
        return optax.apply_updates(nets, update), moments

    def classify(state: Any, images: jax.Array) -> Int[jax.Array, " n"]:
        return model.classify(state[0], to_float(images)).argmax(1)

    return _Programs(jit(init), jit(step), jit(classify))
