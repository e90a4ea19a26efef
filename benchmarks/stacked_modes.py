"""Modes of stacked MNIST, three digits in the channels of an image, that DCGAN and WGAN-GP cover: 1,000 there are.

    imagegen data prepare tfds:mnist
    python benchmarks/stacked_modes.py dcgan_mnist wgan_gp_mnist --steps dcgan_mnist=6000,wgan_gp_mnist=9000

Each recipe is trained on stacks in place of digits, with its own networks but for the colours (`--workdir`: there, or
gone on with). Of its samples each channel is classified by a classifier of single digits: the triple is the mode
(Metz et al. 2017, arXiv 1611.02163; Srivastava et al. 2017, arXiv 1705.07761). The number of samples is the papers'.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pathlib

import numpy as np
from machine import write_result

import imagegen_jax as ig
from imagegen_jax.data import TFDS, Stacked
from imagegen_jax.metrics.features.classifier import trained_classifier
from imagegen_jax.metrics.features.extractor import extract
from imagegen_jax.metrics.scores.modes import class_frequencies, modes_covered, reverse_kl

DIGITS = TFDS("mnist", split="train", size=32, channels=1)
CLASSES = (10, 10, 10)
CHUNK = 1_000  # images


def stacked(name: str, steps: int) -> ig.Experiment:
    """The recipe, on stacks."""
    changes = {
        "name": f"{name}_stacked",
        "data": Stacked(DIGITS),
        "model.image_shape": (32, 32, 3),
        "steps": steps,
        "evaluation": None,
    }
    return ig.override(importlib.import_module(f"experiments.{name}").experiment, changes)


def triples(images: np.ndarray) -> np.ndarray:
    """The digits that the classifier sees in the channels of images [N H W 3]: [N 3]."""
    singles = images.transpose(0, 3, 1, 2).reshape(-1, *images.shape[1:3], 1)
    parts = (singles[start : start + CHUNK] for start in range(0, len(singles), CHUNK))
    logits = extract(trained_classifier(DIGITS), parts)["logits"]
    return np.argmax(logits, axis=1).astype(np.int32).reshape(-1, 3)


def seconds_of(workdir: pathlib.Path, batch_size: int) -> float:
    """Training time by the images per second in the run's log: stops in between do not count."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    speeds = [(line["step"], line["images_per_second"]) for line in lines if "images_per_second" in line]
    steps = np.diff([0, *(step for step, _ in speeds)])
    return float(sum(batch_size * steps / [speed for _, speed in speeds]))


def main() -> None:
    """Trains and counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", help="names of experiments on MNIST")
    parser.add_argument("--steps", default="", help="of each, as NAME=N,NAME=N (default: as the recipe has it)")
    parser.add_argument(
        "--workdir", type=pathlib.Path, default=pathlib.Path("runs"), help="folder of the runs' folders"
    )
    parser.add_argument("--samples", type=int, default=26_000)
    options = parser.parse_args()
    steps = {name: int(n) for name, n in (pair.split("=") for pair in options.steps.split(",") if pair)}
    uniform = np.full(np.prod(CLASSES), 1 / np.prod(CLASSES))
    data = triples(Stacked(DIGITS).open().images[: options.samples])
    result = {"samples": options.samples, "data": {"modes": modes_covered(class_frequencies(data, CLASSES))}}
    for name in options.recipes:
        default = importlib.import_module(f"experiments.{name}").experiment.steps
        experiment = stacked(name, steps.get(name, default))
        workdir = options.workdir / experiment.name
        run = ig.fit(experiment, workdir)
        frequencies = class_frequencies(triples(run.sample(options.samples, seed=1)), CLASSES)
        result[name] = {
            "steps": experiment.steps,
            "minutes": round(seconds_of(workdir, experiment.batch_size) / 60, 1),
            "modes": modes_covered(frequencies),
            "reverse_kl_nats": round(reverse_kl(frequencies, uniform), 3),
        }
    write_result("stacked_modes", result)


if __name__ == "__main__":
    main()
