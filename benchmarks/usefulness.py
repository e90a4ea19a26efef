"""Whether images of runs are of use to a classifier: CAS and augmentation of digits, with controls.

    python -m experiments.edm_digits --data.split train --workdir runs/edm_digits_train
    python -m experiments.factor_mixture_digits --workdir runs/factor_mixture_digits
    python benchmarks/usefulness.py runs/edm_digits_train runs/factor_mixture_digits --augment runs/edm_digits_train

Classifiers are trained from scratch by five seeds on the 1,500 digits of the training split, on as many samples of each
run, without guidance, on the real ones in another order (a control, whose difference is 0) and with shuffled labels
(the other, whose accuracy is chance), and tested on the 297 digits of the test split. A run that was trained on these
would be flattered: --data.split train. Intervals of 95 % by a bootstrap over seeds and test images together, of
differences in pairs. Writes benchmarks/results/usefulness.json.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import time
from typing import Any

import numpy as np
from machine import write_result

import imagegen_jax as ig
from imagegen_jax.core import compile as compiling
from imagegen_jax.data import Digits
from imagegen_jax.metrics.scores import usefulness
from imagegen_jax.metrics.scores.usefulness import Labelled, Moves, Right, accuracy_interval, paired_interval, trained


def percent(values: Any) -> list[float]:
    """A value and the ends of its interval, in percent."""
    return [round(100 * float(x), 2) for x in values]


def digits(split: Any) -> Labelled:
    """The digits of a split."""
    dataset = Digits(split=split).open()
    return Labelled(np.asarray(dataset.images), np.asarray(dataset.labels))


def samples_of(path: pathlib.Path, real: Labelled) -> Labelled:
    """As many samples of a run as there are real images, of the same classes."""
    run = ig.load(path)
    if (split := getattr(run.experiment.data, "split", None)) != "train":
        raise ValueError(f"{path} was trained on digits {split}, the test split among them: --data.split train")
    return Labelled(run.sample(len(real.labels), real.labels, seed=1), real.labels)


def main() -> None:
    """Trains all classifiers, and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("--augment", type=pathlib.Path, help="the run whose samples are added to real ones")
    options = parser.parse_args()
    compiling.use_persistent_cache()
    real, test, rng = digits("train"), digits("test"), np.random.default_rng(0)
    train = functools.partial(trained, test, 10, 0, lambda: None)
    order = rng.permutation(len(real.labels))
    sets = {
        "real": real,
        "real in another order": Labelled(real.images[order], real.labels[order]),
        "shuffled labels": Labelled(real.images, rng.permutation(real.labels)),
        **{path.name: samples_of(path, real) for path in options.runs},
    }
    rights: dict[str, Right] = {}
    result: dict[str, Any] = {
        "seeds": usefulness.SEEDS,
        "steps": usefulness.STEPS,
        "accuracy %": {},
        "minus real %": {},
    }
    for name, pool in sets.items():
        begun = time.process_time()
        rights[name] = train([pool])
        result["accuracy %"][name] = percent(accuracy_interval(rights[name], 0))
        result["minus real %"][name] = percent(paired_interval(rights[name], rights["real"], 0))
        seconds = round(time.process_time() - begun)
        print(name, result["accuracy %"][name], result["minus real %"][name], seconds, "s", flush=True)
    write_result("usefulness", result)
    for n in usefulness.sizes_of(len(real.labels), 10) if options.augment else []:
        few = real.first(n)
        alone = rights["real"] if n == len(real.labels) else train([few])
        of_size = augmentation(train, few, sets[options.augment.name], alone)
        result["augmentation %"] = {**result.get("augmentation %", {}), f"{n} real": of_size}
        print(n, of_size, flush=True)
        write_result("usefulness", result)  # this takes long: what there is stays


def augmentation(train: Any, few: Labelled, generated: Labelled, alone: Right) -> dict[str, Any]:
    """The accuracy of real images alone, and how much more it is with generated ones or moved ones."""
    ways = {
        "generated": train([few, generated]),
        "shifts": train([few], Moves(1)),
        "shifts and mirroring": train([few], Moves(1, True)),
    }
    found: dict[str, Any] = {"alone": percent(accuracy_interval(alone, 0))}
    return found | {f"{way}, minus alone": percent(paired_interval(right, alone, 0)) for way, right in ways.items()}


if __name__ == "__main__":
    main()
