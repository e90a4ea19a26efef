"""What a model of digits learned of a style that 20 images showed: `edm_digits_slanted` before, after and otherwise.

    python -m experiments.edm_digits --workdir runs/edm_digits --steps 2500
    python -m experiments.edm_digits_slanted --workdir runs/edm_digits_slanted
    python -m experiments.edm_digits_slanted --lora None --optim.network.lr.peak 3e-4 --workdir runs/edm_digits_tuned
    python benchmarks/lora_style.py runs/edm_digits runs/edm_digits_slanted runs/edm_digits_tuned

Two support vector machines look at 1,000 samples of each run, without guidance and with some: one knows slanted digits
from upright ones, the other all ten digits in both styles. Both are trained on the 1,500 digits of the training split
as they are and slanted, and their own accuracy is of the 297 of the test split. A copy is a sample nearer to one of the
20 images, by the root mean square over pixels, than 99 % of the other slanted training digits are, so that 1 % would be
for a model that knows all of them. Intervals are Wilson's, of 95 %. Writes benchmarks/results/lora_style.json and a
picture of each run's guided samples.
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float
from machine import RESULTS, write_result
from sklearn.svm import SVC

import imagegen_jax as ig
from imagegen_jax.core.drawing.grid import grid, magnified, write_png
from imagegen_jax.data import Digits, Slanted
from imagegen_jax.metrics.scores.interval import proportion_interval

Rows = Float[np.ndarray, "n pixels"]
SAMPLES = 1_000
GUIDANCE = 1.5


def rows_of(images: np.ndarray) -> Rows:
    """Images as rows of numbers from 0 to 1."""
    return np.asarray(images).reshape(len(images), -1) / 255


def both(split: Any) -> tuple[Rows, np.ndarray, np.ndarray]:
    """The digits of a split as they are and slanted, which of both they are, and their classes."""
    plain = Digits(split=split).open()
    slanted = Slanted(Digits(split=split)).open()
    style = np.repeat([0, 1], len(plain))
    return np.concatenate([rows_of(plain.images), rows_of(slanted.images)]), style, np.tile(plain.labels, 2)


def nearest(images: Rows, shown: Rows) -> Float[np.ndarray, " n"]:
    """The distance of each image to the nearest of those that were shown."""
    return np.sqrt(((images[:, None] - shown[None]) ** 2).mean(-1)).min(1)


def main() -> None:
    """Trains both classifiers, draws samples of each run, and counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    images, styles, classes = both("train")
    style, digit = (SVC(C=10.0, gamma="scale").fit(images, wanted) for wanted in (styles, classes))
    test, test_styles, test_classes = both("test")
    shown = rows_of(Slanted(per_class=2).open().images)
    others = images[styles == 1]
    others = others[nearest(others, shown) > 0]
    limit = float(np.quantile(nearest(others, shown), 0.01))
    labels, found = np.arange(SAMPLES) % 10, {}
    for path in options.runs:
        run = ig.load(path)
        for guidance in (1.0, GUIDANCE):
            drawn = run.sample(SAMPLES, labels, seed=1, guidance=guidance)
            rows = rows_of(drawn)
            judged = {
                "of the class asked for": digit.predict(rows) == labels,
                "slanted": style.predict(rows) == 1,
                "copies": nearest(rows, shown) < limit,
            }
            shares = {name: proportion_interval(float(hits.mean()), SAMPLES) for name, hits in judged.items()}
            percent = {name: [round(100 * x, 1) for x in share] for name, share in shares.items()}
            found[f"{path.name}, guidance {guidance:g}"] = percent
        write_png(
            RESULTS / f"lora_style_{path.name}.png",
            magnified(grid(drawn[np.argsort(labels, kind="stable")][::10], 10), 8),
        )
    result = {
        "samples": SAMPLES,
        "percent [low, high]": found,
        "accuracy percent": {
            "style": round(100 * float(style.score(test, test_styles)), 1),
            "digit": round(100 * float(digit.score(test, test_classes)), 1),
        },
        "distance below which a sample is a copy": round(limit, 4),
    }
    write_result("lora_style", result)


if __name__ == "__main__":
    main()
