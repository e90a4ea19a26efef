"""`imagegen evaluate`: words of the command line to sets of images, extractors and cards."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imagegen_jax.data import TFDS, Digits, Source, parse_source
from imagegen_jax.metrics.card import Card, append, leaderboard, text_table
from imagegen_jax.metrics.classifier import trained_classifier
from imagegen_jax.metrics.evaluate import METRICS, check_metrics, evaluate
from imagegen_jax.metrics.extractor import Extractor, Pixels, random_network
from imagegen_jax.metrics.features import features_of
from imagegen_jax.metrics.inception import inception
from imagegen_jax.metrics.mobilenet import mobilenet
from imagegen_jax.metrics.moments import Moments
from imagegen_jax.metrics.resize import KINDS
from imagegen_jax.metrics.sets import ImageSet, SampleSet, source_set
from imagegen_jax.report import write_report
from imagegen_jax.run import load

WITH_CLASSIFIER = ("mnist", "fashion_mnist", "kmnist", "emnist")  # TFDS sets whose default extractor it is
EXTRACTORS = "classifier, inception[:FILE], mobilenet:PATH, random, pixels"

EXAMPLES = """examples:
  imagegen evaluate runs/demo --metrics fid,kid,is,prdc --samples 10000
  imagegen evaluate samples.npz tfds:cifar10 --extractor inception
  imagegen evaluate tfds:mnist tfds:mnist --split test,train      the floor: real images against real ones
  imagegen evaluate tfds:cifar10 --extractor inception --statistics cifar10.npz
  imagegen evaluate runs/* --leaderboard table.md

Each argument is a run's folder, a folder or .zip of images, an .npz of images or of saved statistics (mu, sigma),
`digits`, or a TFDS name. One run alone is compared with the data that it was trained on."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `imagegen evaluate`."""
    parser.add_argument("targets", nargs="+", help="what to evaluate, and what against; see below")
    parser.add_argument(
        "--metrics", default="fid,kid,prdc", help=f"of {', '.join(METRICS)}, with commas (default: fid,kid,prdc)"
    )
    parser.add_argument("--samples", type=int, default=10_000, help="images drawn from a run (default: 10,000)")
    parser.add_argument("--extractor", default="auto", help=f"auto, {EXTRACTORS} (default: auto)")
    parser.add_argument("--resize", choices=KINDS, help="how images come to the extractor's size (default: clean)")
    parser.add_argument("--split", help="splits of TFDS sets and digits, of each such argument in order: test,train")
    parser.add_argument("--average", help="which moving average of a run; 'none' for the last weights")
    parser.add_argument("--seed", type=int, default=0, help="of samples, subsets and bootstrap (default: 0)")
    parser.add_argument("--statistics", type=pathlib.Path, help="write mean and covariance of the first to this .npz")
    parser.add_argument("--leaderboard", type=pathlib.Path, help="evaluate each run on its own; a Markdown table here")
    parser.add_argument("--json", action="store_true", help="a card a line, for machines")
    parser.add_argument("--quiet", action="store_true", help="no progress line")


def run_command(options: argparse.Namespace, modules: Sequence[str]) -> None:
    """Evaluates what the command line names; prints, and stores with a run what was measured of it."""
    metrics = [name.strip() for name in options.metrics.split(",")]
    if options.samples < 2:
        raise ValueError(f"--samples {options.samples}: must be at least 2")
    if options.leaderboard:
        results = {target: _of_run(target, metrics, options, modules) for target in options.targets}
        options.leaderboard.write_text(leaderboard(_by_experiment(results)))
        print(options.leaderboard.read_text(), end="")
        return
    if len(options.targets) > 2:
        raise ValueError(f"{len(options.targets)} arguments: give one or two, or runs with --leaderboard")
    if options.statistics:
        _write_statistics(options, modules)
    elif len(options.targets) == 1:
        _print(_of_run(options.targets[0], metrics, options, modules), options.json)
    else:
        _print(_of_two(options, metrics, modules), options.json)


def _print(cards: Sequence[Card], as_json: bool) -> None:
    print("\n".join(json.dumps(card.to_dict()) for card in cards) if as_json else text_table(cards))


def _of_run(target: str, metrics: Sequence[str], options: argparse.Namespace, modules: Sequence[str]) -> list[Card]:
    """A run against the data that it was trained on."""
    folder = pathlib.Path(target)
    if not _is_run(folder):
        raise ValueError(f"{target} is no run folder: say what to compare it with as a second argument")
    samples = _samples(folder, options, modules)
    source = samples.run.experiment.data
    extractor = extractor_of(options.extractor, options.resize, source, options.quiet)
    cards = evaluate(samples, source_set(source), extractor, metrics, options.seed, options.quiet)
    append(cards, folder / "evaluations.jsonl")
    print(f"report: {write_report(folder)}", file=sys.stderr)
    return cards


def _of_two(options: argparse.Namespace, metrics: Sequence[str], modules: Sequence[str]) -> list[Card]:
    splits = _splits(options)
    images, first = _set_of(options.targets[0], options, modules, splits[0])
    saved = _saved_statistics(options.targets[1])
    if saved is not None:
        extractor = extractor_of(options.extractor, options.resize, first, options.quiet)
        return evaluate(images, saved, extractor, metrics, options.seed, options.quiet)
    reference, second = _set_of(options.targets[1], options, modules, splits[1])
    extractor = extractor_of(options.extractor, options.resize, second, options.quiet)
    check_metrics(metrics, reference, extractor)
    cards = evaluate(images, reference, extractor, metrics, options.seed, options.quiet)
    if isinstance(images, SampleSet):
        append(cards, images.run.workdir / "evaluations.jsonl")
        write_report(images.run.workdir)
    return cards


def _write_statistics(options: argparse.Namespace, modules: Sequence[str]) -> None:
    images, source = _set_of(options.targets[0], options, modules, _splits(options)[0])
    extractor = extractor_of(options.extractor, options.resize, source, options.quiet)
    features = features_of(images, extractor, options.quiet)["features"]
    Moments.of(features, fingerprint=extractor.fingerprint).save(options.statistics)
    print(f"mean and covariance of {len(images):,} images ({extractor.name}) in {options.statistics}")


def _by_experiment(results: Mapping[str, list[Card]]) -> dict[str, list[list[Card]]]:
    """Runs that differ in nothing but a trailing number are seeds of one entry: runs/a_seed1, runs/a_seed2."""
    entries: dict[str, list[list[Card]]] = {}
    for target, cards in results.items():
        entry = re.sub(r"[-_]?(seed)?[-_]?\d+$", "", pathlib.Path(target).name) or pathlib.Path(target).name
        entries.setdefault(entry, []).append(cards)
    return entries


# --- words to things -------------------------------------------------------------------------------------------------


def extractor_of(word: str, resize: str | None, source: Any, quiet: bool = False) -> Extractor:
    """The extractor that a word names; "auto" is the classifier for digits and MNIST's kind, else Inception.

    `source` is the data that a classifier is trained on. Raises ValueError for another word, and as each extractor
    does where its weights are missing.
    """
    name, _, path = word.partition(":")
    if name == "auto":
        small = isinstance(source, Digits) or (
            isinstance(source, TFDS) and source.name.split("/")[0] in WITH_CLASSIFIER
        )
        name = "classifier" if small else "inception"
    if name == "classifier":
        if not isinstance(source, Source):
            raise ValueError("the classifier is trained on a labelled data set: compare with one, not with a run")
        return trained_classifier(source, quiet)
    if name == "inception":
        return inception(path or None, resize or "clean", ("features", "logits_unbiased"))
    if name == "mobilenet":
        if not path:
            raise ValueError("mobilenet: say where its weights are, as in mobilenet:weights/")
        return mobilenet(path, resize or "clean")
    if name == "random":
        return random_network(resize=resize or "clean")
    if name == "pixels":
        return Pixels()
    raise ValueError(f"no extractor {word!r}: there are {EXTRACTORS}")


def _splits(options: argparse.Namespace) -> list[str | None]:
    given = options.split.split(",") if options.split else []
    if len(given) > 2:
        raise ValueError(f"--split {options.split}: one for each argument, at most two")
    return [*given, None, None][:2] if len(given) != 1 or len(options.targets) == 1 else [given[0], given[0]]


def _is_run(folder: pathlib.Path) -> bool:
    return (folder / "experiment.json").is_file()


def _samples(folder: pathlib.Path, options: argparse.Namespace, modules: Sequence[str]) -> SampleSet:
    return SampleSet(load(folder, modules).with_average(options.average), options.samples, options.seed)


def _set_of(
    word: str, options: argparse.Namespace, modules: Sequence[str], split: str | None
) -> tuple[ImageSet, Source | None]:
    """The images that a word names, and their source where it is one."""
    if _is_run(pathlib.Path(word)):
        return _samples(pathlib.Path(word), options, modules), None
    source = parse_source(word)
    if split:
        if "split" not in {field.name for field in dataclasses.fields(source)}:  # type: ignore[arg-type]
            raise ValueError(f"--split {split}: {word} has no splits")
        source = dataclasses.replace(source, split=split)  # type: ignore[type-var]
    return source_set(source), source


def _saved_statistics(word: str) -> Moments | None:
    path = pathlib.Path(word)
    if path.suffix != ".npz" or not path.is_file():
        return None
    with np.load(path) as arrays:
        is_statistics = {"mu", "sigma"} <= set(arrays.files)
    return Moments.load(path) if is_statistics else None
