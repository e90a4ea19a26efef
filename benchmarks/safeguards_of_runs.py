"""Whether what a trained run gives away, copies, doubles or forgets is found: planted on purpose, and not.

    python -m experiments.edm_digits --data.split train --workdir runs/edm_digits_train
    python benchmarks/safeguards_of_runs.py runs/edm_digits_train --overfitted runs/edm_digits_100 --train

With --train, `edm_digits` is first trained for long on the first 100 digits alone, until it knows them. Membership is
guessed by the loss, of training images and of the 297 of the test split, with halves of these as a control, both with
intervals of 95 % by a bootstrap. Of 2,000 samples of the first run, as many of each class, shares of classes are
compared with the data's as they are, and with 200 threes more; then the sevens that were asked for are made ones, which
is a class that a model forgets. Five training images are put among 1,000 samples, and their ranks counted, where 1 is
the most suspicious. Writes benchmarks/results/safeguards_of_runs.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from typing import Any

import numpy as np
from machine import write_result

import imagegen_jax as ig
from imagegen_jax.data import Digits, from_arrays
from imagegen_jax.metrics.card import Card
from imagegen_jax.metrics.copies import ranked_copies
from imagegen_jax.metrics.evaluate import evaluate
from imagegen_jax.metrics.features.classifier import trained_classifier
from imagegen_jax.metrics.features.extractor import Pixels
from imagegen_jax.metrics.sets import ArraySet, SampleSet, source_set

NAMES = tuple("0123456789")
FEW = 100  # images of the run that is to know them
PLANTED = 5


def figures(cards: list[Card], *words: str) -> dict[str, Any]:
    """Returns the values of cards whose names begin with some words, with intervals and notes."""
    return {
        card.metric: [None if x is None else round(x, 4) for x in (card.value, card.low, card.high)]
        + ([card.note] if card.note else [])
        for card in cards
        if not words or card.metric.startswith(words)
    }


def overfit(folder: pathlib.Path, steps: int) -> None:
    """Trains the recipe on few images for long."""
    train, experiment = Digits(split="train").open(), ig.recipe("edm_digits")
    few = from_arrays(np.asarray(train.images[:FEW]), np.asarray(train.labels[:FEW]), NAMES)
    ig.fit(dataclasses.replace(experiment, data=few, batch_size=64, steps=steps, sample_every=0), folder)


def membership(path: pathlib.Path) -> dict[str, Any]:
    """Measures how well the loss tells a run's training images from the test split's."""
    run = ig.load(path)
    held_out = source_set(Digits(split="test"))
    return figures(
        evaluate(SampleSet(run, 10), source_set(run.experiment.data), Pixels(), ["membership"], held_out=held_out)
    )


def planted(path: pathlib.Path) -> dict[str, Any]:
    """Measures what shares, precision and recall of classes, ranks of copies say of samples, and of changed ones."""
    run, training = ig.load(path), source_set(Digits(split="train"))
    classifier = trained_classifier(Digits(split="train"))
    labels = np.concatenate([np.arange(2_000) % 10, np.full(200, 3)]).astype(np.int32)
    drawn = run.sample(len(labels), labels, seed=1)

    def scores(name: str, images: np.ndarray, asked: np.ndarray | None, metrics: list[str]) -> list[Card]:
        of = ArraySet(name, images, asked, keep=False, class_names=NAMES if asked is not None else ())
        return evaluate(of, training, classifier, metrics)

    first, forgotten = drawn[:2_000], drawn[:2_000].copy()
    asked = labels[:2_000]
    forgotten[asked == 7] = first[asked == 1]
    found: dict[str, Any] = {
        "shares of 2,000 samples": figures(scores("as drawn", first, None, ["shares"])),
        "shares with threes doubled": figures(scores("threes doubled", drawn, None, ["shares"])),
    }
    for name, images in (("as drawn", first), ("ones for sevens", forgotten)):
        cards = scores(name, images, asked, ["shares", "prdc_per_class"])
        found[f"by class, {name}"] = figures(cards, "classes of other", "precision", "recall")
    random = np.random.default_rng(0)
    among, places = first[:1_000].copy(), random.choice(1_000, PLANTED, replace=False)
    among[places] = training.images[random.choice(len(training.images), PLANTED, replace=False)]
    order = ranked_copies(among, np.asarray(training.images)).samples.tolist()
    found["ranks of planted copies"] = sorted(order.index(place) + 1 for place in places)
    clean = ranked_copies(first[:1_000], np.asarray(training.images))
    found["lowest ratios, nothing planted"] = [round(float(x), 3) for x in clean.ratios[:5]]
    found["nearer than another training image"] = int((clean.ratios < 1).sum())
    return found


def main() -> None:
    """Measures what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, nargs="?", help="trained on the training split of digits; else none")
    parser.add_argument("--overfitted", type=pathlib.Path, required=True)
    parser.add_argument("--train", action="store_true", help="train the overfitted run, where it is not finished")
    parser.add_argument("--steps", type=int, default=700, help="of it")
    options = parser.parse_args()
    if options.train:
        overfit(options.overfitted, options.steps)
    result: dict[str, Any] = {"membership": {}}
    for path in filter(None, (options.overfitted, options.run)):
        result["membership"][path.name] = membership(path)
        print(path, result["membership"][path.name], flush=True)
    result |= planted(options.run) if options.run else {}
    print(result, flush=True)
    write_result("safeguards_of_runs", result)


if __name__ == "__main__":
    main()
