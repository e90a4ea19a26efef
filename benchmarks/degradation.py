"""Do the metrics get worse, step by step, where images do? MNIST's test images degraded in four ways.

    imagegen data prepare tfds:mnist
    python benchmarks/degradation.py

The test split is cut into five parts of 2,000 images, each measured on its own. Gaussian noise and Gaussian blur act on
each image. Fewer classes and fewer distinct images keep the number of images: others of the kept classes, of the whole
split, take the places (it has about 1,000 of each, so that of one class each comes twice), or each distinct image is
repeated. Each part keeps other classes. The Fréchet distance is to all training images; precision, recall and coverage
are against as many of them as there are images, others for each part.

At each step the distance must rise and coverage must fall, by so much that the 95 % intervals of both ends, Student's
over the parts, lie apart. Where they do not, the script says so and fails, after it has written what it found. The
strengths are far enough apart for that: at 3 classes and at 50 % distinct images the distance is between those of the
neighbours too, but its interval overlaps with one of theirs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Int, UInt8
from machine import RESULTS, write_result
from scipy.ndimage import gaussian_filter
from scipy.stats import t as student

from imagegen_jax.data import TFDS
from imagegen_jax.metrics.catalog import printed
from imagegen_jax.metrics.extraction import features_of
from imagegen_jax.metrics.features.classifier import trained_classifier
from imagegen_jax.metrics.features.extractor import extract
from imagegen_jax.metrics.features.moments import Moments
from imagegen_jax.metrics.scores.frechet import frechet_distance
from imagegen_jax.metrics.scores.manifold import manifold_scores
from imagegen_jax.metrics.sets import ArraySet, source_set

NAME = "degradation_mnist"
PARTS = 5
BATCH = 250
SCORES = ("FD-classifier", "precision", "recall", "coverage")
SCALES = printed(["fid", "prdc"], "FD-classifier")
WORSE = {"FD-classifier": 1, "coverage": -1}  # the sign of a change for the worse

Images = UInt8[np.ndarray, "n h w c"]
Features = Float[np.ndarray, "n d"]
Points = Float[np.ndarray, "strengths parts scores"]


class Part(NamedTuple):
    """A part of the test split, and the whole that it is of."""

    number: int
    images: Images
    whole: Images
    labels: Int[np.ndarray, " all"]


class Degradation(NamedTuple):
    """A way to make images worse: (part, strength) -> as many images. The first strength leaves them as they are."""

    name: str
    unit: str
    strengths: tuple[float, ...]
    apply: Callable[[Part, float], Images]


def noisy(part: Part, deviation: float) -> Images:
    """With normal noise on each pixel, rounded and clipped."""
    noise = np.random.default_rng(part.number).standard_normal(part.images.shape)
    return np.clip(np.round(part.images + deviation * noise), 0, 255).astype(np.uint8)


def blurred(part: Part, deviation: float) -> Images:
    """Convolved with a Gaussian."""
    smooth = gaussian_filter(part.images.astype(np.float32), (0, deviation, deviation, 0), mode="constant")
    return np.round(smooth).astype(np.uint8)


def of_fewer_classes(part: Part, kept: float) -> Images:
    """Of `kept` classes in a row, the first of which is another for each part."""
    rows = np.flatnonzero((part.labels - 2 * part.number) % 10 < kept)
    rows = np.random.default_rng(part.number).permutation(rows)
    return part.whole[np.resize(rows, len(part.images))]


def repeated(part: Part, percent: float) -> Images:
    """Of which `percent` are distinct."""
    n = len(part.images)
    return part.images[np.arange(n) % round(n * percent / 100)]


DEGRADATIONS = (
    Degradation("Gaussian noise", "standard deviation, of 255", (0, 24, 40, 56, 72, 96, 128), noisy),
    Degradation("Gaussian blur", "standard deviation, pixels", (0, 0.5, 0.75, 1, 1.25, 1.5, 2), blurred),
    Degradation("fewer classes", "classes kept, of 10", (10, 9, 8, 7, 6, 5, 4, 2, 1), of_fewer_classes),
    Degradation("fewer distinct images", "distinct, %", (100, 20, 10, 5, 2), repeated),
)


def over_parts(values: Float[np.ndarray, "... parts"]) -> Float[np.ndarray, "... 3"]:
    """The mean over the parts, and the ends of its interval."""
    mean, error = values.mean(-1), values.std(-1, ddof=1) / np.sqrt(PARTS)
    half = student.ppf(0.975, PARTS - 1) * error
    return np.stack([mean, mean - half, mean + half], axis=-1)


def in_range(points: Points, name: str) -> Float[np.ndarray, "strengths 3"]:
    """`over_parts` of a score, cut where it can have no value."""
    return np.clip(over_parts(points[:, :, SCORES.index(name)]), *SCALES[name][1:])


def violations(way: Degradation, points: Points) -> list[str]:
    """The steps at which a score does not get worse by more than the intervals."""
    wrong = []
    for name, sign in WORSE.items():
        _, low, high = over_parts(sign * points[:, :, SCORES.index(name)]).T
        for step in np.flatnonzero(low[1:] <= high[:-1]):
            wrong.append(f"{way.name}, {way.strengths[step]:g} to {way.strengths[step + 1]:g}: {name}")
    return wrong


def figure(found: Mapping[str, Points]) -> plt.Figure:
    """The distance above and the shares below, a column for each degradation."""
    drawn, axes = plt.subplots(2, len(DEGRADATIONS), figsize=(12, 5), sharey="row", layout="constrained")
    for column, way in enumerate(DEGRADATIONS):
        above, below = axes[:, column]
        _line(above, found[way.name], "FD-classifier", "C0", "o-")
        for name, colour, style in (("coverage", "C0", "o-"), ("recall", "C2", ".:"), ("precision", "C1", ".:")):
            _line(below, found[way.name], name, colour, style)
        above.set(title=way.name, yscale="log")
        below.set(xlabel=way.unit, ylim=(-0.03, 1.03))
        for panel in (above, below):
            panel.set_xticks(range(len(way.strengths)), [f"{strength:g}" for strength in way.strengths])
            panel.grid(alpha=0.3)
    axes[0, 0].set_ylabel("FD-classifier")
    axes[1, 0].set_ylabel("share")
    axes[1, 0].legend(fontsize="small")
    return drawn


def _line(panel: Any, points: Points, name: str, colour: str, style: str) -> None:
    value, low, high = in_range(points, name).T
    panel.plot(value, style, color=colour, label=name, markersize=4)
    panel.fill_between(range(len(value)), low, high, color=colour, alpha=0.25, linewidth=0)


def main() -> None:
    """Degrades, measures, draws, and checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    start = time.perf_counter()
    train, test = TFDS("mnist", split="train"), TFDS("mnist", split="test").open()
    extractor = trained_classifier(train)
    real = np.asarray(features_of(source_set(train), extractor)["features"])
    reference, order = Moments.of(real), np.random.default_rng(0).permutation(len(real))
    batch = test.batch(0, len(test))  # in a random order
    n = len(test) // PARTS

    def measure(way: Degradation, strength: float, i: int) -> list[float]:
        rows = slice(i * n, (i + 1) * n)
        images = way.apply(Part(i, batch["image"][rows], batch["image"], batch["label"]), strength)
        features = extract(extractor, ArraySet(way.name, images).batches(BATCH))["features"]
        found = manifold_scores(features, real[order[rows]])
        return [frechet_distance(Moments.of(features), reference), found.precision, found.recall, found.coverage]

    found: dict[str, Points] = {}
    for way in DEGRADATIONS:
        found[way.name] = np.array([[measure(way, s, i) for i in range(PARTS)] for s in way.strengths])
        print(f"{way.name}:\n{found[way.name].mean(1).round(3)}", file=sys.stderr)
    wrong = [text for way in DEGRADATIONS for text in violations(way, found[way.name])]
    figure(found).savefig(RESULTS / f"{NAME}.png", dpi=80)
    curves = {
        way.name: {"unit": way.unit, "strengths": way.strengths}
        | {name: in_range(found[way.name], name).round(4).tolist() for name in SCORES}
        for way in DEGRADATIONS
    }
    result = {"parts": PARTS, "images_of_a_part": n, "references": len(real), "value_low_high": curves}
    write_result(NAME, result | {"not_worse": wrong, "seconds": round(time.perf_counter() - start)})
    sys.exit("\n".join(["not worse by more than the intervals:", *wrong]) if wrong else 0)


if __name__ == "__main__":
    main()
