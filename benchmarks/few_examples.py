"""What a model of nine digits learned of the tenth from ten images, and what it kept: `imagegen train RUN --few PLACE`.

    python benchmarks/few_examples.py --runs runs/few --new 9 --seeds 0 1 2 --controls

Trains `edm_digits` for 500 steps of 64 images on the 1,500 training digits without a class, and goes on with ten images
of this, for each of some choices of ten, by the defaults of `recipes.few`. The controls, of the first choice, are all
weights in place of pairs, without warps, and without old data too. A support vector machine, trained on the 1,500
digits, says of 500 samples of the new class whether they are of it, and of 500 of the nine others whether they are what
was asked for; its own accuracy is of the 297 of the test split. A copy is a sample nearer to one of the ten, by the
root mean square over pixels, than 99 % of all other images of the class are, so that 1 % would be for a model that
knows the class. The spread is the mean distance between two samples over that of two real images. Intervals of a run
are Wilson's of 95 %, of the mean over choices Student's. Writes benchmarks/results/few_examples_DIGIT.json, and a
picture: the ten, and below them samples, for each choice.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from machine import RESULTS, write_result
from scipy import stats
from sklearn.svm import SVC

import imagegen_jax as ig
from imagegen_jax.core.drawing.grid import grid, magnified, write_png
from imagegen_jax.core.optim import Adam, CosineDecay
from imagegen_jax.data import Classes, Digits
from imagegen_jax.metrics.scores.interval import proportion_interval
from imagegen_jax.recipes.few import with_few

Rows = Float[np.ndarray, "n pixels"]
SAMPLES = 500
SHOWN = 20  # samples in the picture


def rows_of(images: Any) -> Rows:
    """Images as rows of numbers from 0 to 1."""
    return np.asarray(images).reshape(len(images), -1) / 255


def nearest(images: Rows, shown: Rows) -> Float[np.ndarray, " n"]:
    """Returns the distance of each image to the nearest of those that were shown."""
    return np.sqrt(((images[:, None] - shown[None]) ** 2).mean(-1)).min(1)


def spread(images: Rows) -> float:
    """Returns the mean distance between two images."""
    between = np.sqrt(((images[:, None] - images[None]) ** 2).mean(-1))
    return float(between[np.triu_indices(len(images), 1)].mean())


@dataclasses.dataclass(frozen=True)
class Judge:
    """Knows all digits, and says of samples what they are."""

    svm: SVC
    new: str

    def of(self, run: ig.Run, ten: UInt8[np.ndarray, "10 8 8 1"], guidance: float) -> dict[str, Any]:
        """Counts, with intervals."""
        old = np.arange(SAMPLES) % 9
        drawn = rows_of(run.sample(SAMPLES, np.full(SAMPLES, 9), seed=1, guidance=guidance))
        others = self.svm.predict(rows_of(run.sample(SAMPLES, old, seed=2, guidance=guidance)))
        real, shown = rows_of(Classes(Digits(), (self.new,)).open().images), rows_of(ten)
        unseen = real[nearest(real, shown) > 0]
        limit = np.quantile(nearest(unseen, shown), 0.01)
        hits = {
            "right": self.svm.predict(drawn) == int(self.new),
            "copies": nearest(drawn, shown) < limit,
            "old ones right": others == np.array([int(name) for name in run.class_names])[old],
        }
        found: dict[str, Any] = {
            name: [round(100 * x, 1) for x in proportion_interval(float(hit.mean()), SAMPLES)]
            for name, hit in hits.items()
        }
        return found | {"spread": round(spread(drawn) / spread(unseen), 3)}


def full(found: ig.Experiment, few: Any, old: bool) -> ig.Experiment:
    """Returns the experiment with all weights trained in place of pairs, without warps, as in the first trials."""
    data = found.data if old else dataclasses.replace(found.data, share=0.99)
    optim = {"network": Adam(CosineDecay(5e-4, warmup=10))}
    return dataclasses.replace(found, lora=None, augment=(), optim=optim, data=data, steps=150)


def mean_of(values: list[float]) -> list[float]:
    """Returns the mean and Student's interval of 95 %."""
    mean, half = float(np.mean(values)), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return [round(x, 1) for x in (mean, mean - half, mean + half)]


def main() -> None:
    """Trains what is not trained yet, draws and counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=pathlib.Path, required=True)
    parser.add_argument("--new", default="9", choices=tuple("0123456789"), help="the digit to learn")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the choices of ten images")
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--controls", action="store_true")
    options = parser.parse_args()
    train, test = Digits(split="train").open(), Digits(split="test").open()
    svm = SVC(C=10.0, gamma="scale").fit(rows_of(train.images), train.labels)
    judge, folder = Judge(svm, options.new), options.runs / f"without_{options.new}"
    experiment = ig.recipe("edm_digits")
    nine = dataclasses.replace(
        experiment, data=Classes(Digits(split="train"), (options.new,), left_out=True), steps=500, batch_size=64,
        model=dataclasses.replace(experiment.model, num_classes=9), sample_every=0,
    )  # fmt: skip
    ig.fit(nine, folder)
    found: dict[str, Any] = {}
    lines = []
    for seed in options.seeds:
        few = Classes(Digits(split="train"), (options.new,), per_class=10, seed=seed)
        made, ten = dataclasses.replace(with_few(nine, folder, few), sample_every=0), np.asarray(few.open().images)
        ways = {"": made}
        if options.controls and seed == options.seeds[0]:
            ways |= {", all weights": full(made, few, True), ", all weights, no old data": full(made, few, False)}
        for way, each in ways.items():
            run = ig.fit(each, options.runs / f"with_{options.new}_{seed}{way.replace(', ', '_').replace(' ', '_')}")
            found[f"choice {seed}{way}"] = judge.of(run, ten, options.guidance)
            print(seed, way, found[f"choice {seed}{way}"], flush=True)
            drawn = run.sample(SHOWN, np.full(SHOWN, 9), seed=1, guidance=options.guidance)
            lines += [ten, drawn]
    write_png(RESULTS / f"few_examples_{options.new}.png", magnified(grid(np.concatenate(lines), 10), 8))
    chosen = [found[f"choice {seed}"] for seed in options.seeds]
    means = {name: mean_of([each[name][0] for each in chosen]) for name in ("right", "copies", "old ones right")}
    accuracy = round(100 * float(svm.score(rows_of(test.images), test.labels)), 1)
    write_result(
        f"few_examples_{options.new}",
        {"samples": SAMPLES, "guidance": options.guidance, "percent [low, high]": found, "mean of choices": means,
         "accuracy of the judge": accuracy},
    )  # fmt: skip


if __name__ == "__main__":
    main()
