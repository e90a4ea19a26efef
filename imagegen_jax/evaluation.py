"""`imagegen evaluate`: words of the command line to sets of images, extractors and cards."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from imagegen_jax.data import TFDS, Digits, Source, parse_source
from imagegen_jax.main import EXPECTED_ERRORS, step_word
from imagegen_jax.metrics.card import Card, append, leaderboard, text_table
from imagegen_jax.metrics.catalog import METRICS, check_names
from imagegen_jax.metrics.choose import EXTRACTORS, extractor_of
from imagegen_jax.metrics.evaluate import applicable, check_metrics, evaluate
from imagegen_jax.metrics.extractor import Extractor, Pixels
from imagegen_jax.metrics.features import features_of
from imagegen_jax.metrics.moments import Moments
from imagegen_jax.metrics.resize import KINDS
from imagegen_jax.metrics.seeds import entries_of
from imagegen_jax.metrics.sets import ImageSet, SampleSet, source_set
from imagegen_jax.report import write_report
from imagegen_jax.run import load

ALL = "all"

EXAMPLES = """examples:
  imagegen evaluate runs/demo --metrics fid,kid,is,prdc --samples 10000
  imagegen evaluate samples.npz tfds:cifar10 --extractor inception
  imagegen evaluate tfds:mnist tfds:mnist --split test,train      the floor: real images against real ones
  imagegen evaluate tfds:cifar10 --extractor inception --statistics cifar10.npz
  imagegen evaluate samples.npz train.npz --held-out test.npz --metrics authpct,c_t
  imagegen evaluate decoded.npz originals.npz --metrics psnr,ssim
  imagegen evaluate runs/* --leaderboard table.md

Each argument is a run's folder, a folder or .zip of images, an .npz of images or of saved statistics (mu, sigma),
`digits`, or a TFDS name. One run alone is compared with the data that it was trained on.

metrics:
""" + "\n".join(f"  {name:14} {metric.about}" for name, metric in METRICS.items())


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `imagegen evaluate`."""
    parser.add_argument("targets", nargs="+", help="what to evaluate, and what against; see below")
    parser.add_argument(
        "--metrics",
        default="fid,kid,prdc",
        help="names from the list below, with commas, or all that apply: all (default: fid,kid,prdc)",
    )
    parser.add_argument("--samples", type=int, default=10_000, help="images drawn from a run (default: 10,000)")
    parser.add_argument("--extractor", default="auto", help=f"auto, {EXTRACTORS} (default: auto)")
    parser.add_argument("--resize", choices=KINDS, help="how images come to the extractor's size (default: clean)")
    parser.add_argument("--held-out", metavar="WORD", help="images not trained on (default: the data's test split)")
    parser.add_argument("--split", help="splits of TFDS sets and digits, in the order of arguments, --held-out last")
    parser.add_argument("--step", type=step_word, help="which checkpoint of a run, or 'best' (default: the newest)")
    parser.add_argument("--average", help="which moving average of a run; 'none' for the last weights")
    parser.add_argument("--seed", type=int, default=0, help="of samples, subsets and bootstrap (default: 0)")
    parser.add_argument("--statistics", type=pathlib.Path, help="write mean and covariance of the first to this .npz")
    parser.add_argument("--leaderboard", type=pathlib.Path, help="evaluate each run on its own; a Markdown table here")
    parser.add_argument("--json", action="store_true", help="a card a line, for machines")
    parser.add_argument("--quiet", action="store_true", help="no progress line")


def run_command(options: argparse.Namespace, modules: Sequence[str]) -> None:
    """Evaluates what the command line names; prints, and stores with a run what was measured of it."""
    metrics = [name.strip() for name in options.metrics.split(",")]
    if metrics != [ALL]:
        check_names(metrics)
    if options.samples < 2:
        raise ValueError(f"--samples {options.samples}: must be at least 2")
    if options.leaderboard:
        _leaderboard(metrics, options, modules)
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
    """Prints the cards. Raises SystemExit(1) where a metric failed, which its row says."""
    print("\n".join(json.dumps(card.to_dict()) for card in cards) if as_json else text_table(cards))
    if any(card.failed for card in cards):
        raise SystemExit(1)


def _leaderboard(metrics: Sequence[str], options: argparse.Namespace, modules: Sequence[str]) -> None:
    """Writes and prints the table. Raises SystemExit(1) where a run or a metric failed, after all others are told."""
    for target in options.targets:
        _check_run(target)
    results: dict[str, list[Card]] = {}
    for target in options.targets:
        try:
            results[target] = _of_run(target, metrics, options, modules)
        except EXPECTED_ERRORS as error:
            if len(options.targets) == 1:
                raise
            print(f"error: {target}: {error}", file=sys.stderr)
    if not results:
        raise SystemExit(1)
    options.leaderboard.write_text(leaderboard(entries_of(results, modules)))
    print(options.leaderboard.read_text(), end="")
    if len(results) < len(options.targets) or any(card.failed for cards in results.values() for card in cards):
        raise SystemExit(1)


def _check_run(target: str) -> None:
    if not _is_run(pathlib.Path(target)):
        raise ValueError(f"{target} is no run folder: say what to compare it with as a second argument")


def _of_run(target: str, metrics: Sequence[str], options: argparse.Namespace, modules: Sequence[str]) -> list[Card]:
    """A run against the data that it was trained on."""
    _check_run(target)
    folder = pathlib.Path(target)
    samples = _samples(folder, options, modules)
    source = samples.run.experiment.data
    cards = _cards(samples, source_set(source), source, metrics, options, _splits(options)[2])
    print(f"report: {folder / 'report.html'}", file=sys.stderr)
    return cards


def _of_two(options: argparse.Namespace, metrics: Sequence[str], modules: Sequence[str]) -> list[Card]:
    splits = _splits(options)
    images, first = _set_of(options.targets[0], options, modules, splits[0])
    saved = _saved_statistics(options.targets[1])
    if saved is not None:
        return _cards(images, saved, first, metrics, options, splits[2])
    reference, second = _set_of(options.targets[1], options, modules, splits[1])
    return _cards(images, reference, second, metrics, options, splits[2])


def _cards(
    images: ImageSet,
    reference: ImageSet | Moments,
    source: Source | None,
    metrics: Sequence[str],
    options: argparse.Namespace,
    held_out_split: str | None,
) -> list[Card]:
    """The cards, kept with the run where a run drew the images. `source` is the labelled data for a classifier."""
    names = list(METRICS) if metrics == [ALL] else metrics
    held_out = None
    if not isinstance(reference, Moments) and any(METRICS[name].wants_held_out for name in names):
        held_out = _held_out(options, source, images, held_out_split)
    elif options.held_out:
        readers = ", ".join(name for name, metric in METRICS.items() if metric.wants_held_out)
        raise ValueError(f"--held-out {options.held_out}: of all metrics only {readers} compare with such images")
    if metrics != [ALL]:
        check_metrics(metrics, images, reference, None, held_out)  # before a classifier is trained
    extractor = _extractor_for(names, reference, options, source)
    if metrics == [ALL]:
        metrics, skipped = applicable(images, reference, extractor, held_out)
        for name, reason in skipped.items():
            print(f"without {name}: {reason}", file=sys.stderr)
    cards = evaluate(images, reference, extractor, metrics, options.seed, options.quiet, held_out)
    if isinstance(images, SampleSet):
        append(cards, images.run.workdir / "evaluations.jsonl")
        write_report(images.run.workdir)
    return cards


def _extractor_for(
    metrics: Sequence[str], reference: ImageSet | Moments, options: argparse.Namespace, source: Source | None
) -> Extractor:
    if all(METRICS[name].of_pixels for name in metrics):
        return Pixels()  # which is not asked for any features
    # Features beside spatial ones are kept apart from those without, so these are taken only where they are wanted.
    spatial = not isinstance(reference, Moments) and any("spatial" in METRICS[name].reads for name in metrics)
    return extractor_of(options.extractor, options.resize, source, options.quiet, spatial)


def _held_out(
    options: argparse.Namespace, source: Source | None, images: ImageSet, split: str | None
) -> ImageSet | None:
    """Images that were not trained on: `--held-out`, else the test split beside a source's split "train"."""
    if options.held_out:
        chosen = parse_source(options.held_out)
        has_splits = isinstance(chosen, (TFDS, Digits))
        return source_set(_with_split(chosen, options.held_out, split or ("test" if has_splits else None)))
    if not isinstance(source, (TFDS, Digits)) or "train" not in source.split or "test" in source.split:
        return None
    try:
        found = source_set(dataclasses.replace(source, split="test"))
    except (ValueError, FileNotFoundError):  # it has no such split
        return None
    return None if found.fingerprint == images.fingerprint else found


def _write_statistics(options: argparse.Namespace, modules: Sequence[str]) -> None:
    images, source = _set_of(options.targets[0], options, modules, _splits(options)[0])
    extractor = extractor_of(options.extractor, options.resize, source, options.quiet)
    features = features_of(images, extractor, options.quiet)["features"]
    Moments.of(features, fingerprint=extractor.fingerprint).save(options.statistics)
    print(f"mean and covariance of {len(images):,} images ({extractor.name}) in {options.statistics}")


# --- words to things -------------------------------------------------------------------------------------------------


def _splits(options: argparse.Namespace) -> list[str | None]:
    """The split of the first set, of the second and of the held-out one; one word is that of both sets."""
    given: list[str | None] = options.split.split(",") if options.split else []
    sets = 2 if len(options.targets) == 2 and not options.leaderboard else 1
    if len(given) > sets + bool(options.held_out):
        raise ValueError(f"--split {options.split}: one for each argument, at most {sets + bool(options.held_out)}")
    if sets == 2:
        given = given * 2 if len(given) == 1 else given
    elif options.held_out and not options.statistics:  # a run's own data has its split already
        given = [None, None, *given[-1:]]
    return [*given, None, None, None][:3]


def _is_run(folder: pathlib.Path) -> bool:
    return (folder / "experiment.json").is_file()


def _samples(folder: pathlib.Path, options: argparse.Namespace, modules: Sequence[str]) -> SampleSet:
    return SampleSet(
        load(folder, modules, step=options.step).with_average(options.average), options.samples, options.seed
    )


def _set_of(
    word: str, options: argparse.Namespace, modules: Sequence[str], split: str | None
) -> tuple[ImageSet, Source | None]:
    """The images that a word names, and their source where it is one."""
    if _is_run(pathlib.Path(word)):
        return _samples(pathlib.Path(word), options, modules), None
    source = _with_split(parse_source(word), word, split)
    return source_set(source), source


def _with_split(source: Source, word: str, split: str | None) -> Source:
    if split is None:
        return source
    if "split" not in {field.name for field in dataclasses.fields(source)}:  # type: ignore[arg-type]
        raise ValueError(f"--split {split}: {word} has no splits")
    return dataclasses.replace(source, split=split)  # type: ignore[type-var]


def _saved_statistics(word: str) -> Moments | None:
    path = pathlib.Path(word)
    if path.suffix != ".npz" or not path.is_file():
        return None
    with np.load(path) as arrays:
        is_statistics = {"mu", "sigma"} <= set(arrays.files)
    return Moments.load(path) if is_statistics else None
