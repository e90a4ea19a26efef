"""`imagegen evaluate`: words of the command line to sets of images, extractors and cards."""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence

from imagegen_jax.cli.data import SETTINGS
from imagegen_jax.cli.evaluate_options import (
    ALL,
    DEFAULT,
    Pair,
    check_options,
    check_outputs,
    labelled,
    names_of,
    say_what_is_not_kept,
)
from imagegen_jax.cli.train import EXPECTED_ERRORS
from imagegen_jax.core import folder
from imagegen_jax.core.files import whole
from imagegen_jax.data import Source
from imagegen_jax.data.remedy import as_options, remedies_spelled
from imagegen_jax.metrics.card import Card, append, leaderboard, text_table
from imagegen_jax.metrics.catalog import METRICS, check_names
from imagegen_jax.metrics.choose import extractor_of, kind_of
from imagegen_jax.metrics.evaluate import applicable, check_metrics, check_shapes, evaluate
from imagegen_jax.metrics.extractor import Extractor, Pixels
from imagegen_jax.metrics.features import features_of
from imagegen_jax.metrics.moments import Moments
from imagegen_jax.metrics.named import (
    Target,
    held_out_of,
    open_target,
    targets_of,
    with_like_channels,
)
from imagegen_jax.metrics.seeds import entries_of, seed_and_identity
from imagegen_jax.metrics.sets import ImageSet, SampleSet
from imagegen_jax.report import write_report


def run_command(options: argparse.Namespace, modules: Sequence[str]) -> None:
    """Evaluates what the command line names; prints, and then stores with a run what was measured of it."""
    metrics = [name.strip() for name in (options.metrics or DEFAULT).split(",")]
    if metrics != [ALL]:
        check_names(metrics)
    check_outputs(options)
    targets, held_out = targets_of(options)
    stored = any(target.source for target in targets) or held_out is not None
    with remedies_spelled(as_options({"extractor", "resize", *(SETTINGS if stored else ())})):
        pairs = _pairs(options, targets, modules)
        check_options(options, targets, pairs, metrics)
        if options.statistics:
            _write_statistics(options, targets[0], modules)
            return
        # Before anything is drawn, of all runs: weights that are missing are said.
        extractors = [_extractor_before(names_of(metrics), pair, options) for pair in pairs]
        say_what_is_not_kept(targets)
        results: dict[str, list[Card]] = {}
        unkept: list[str] = []
        for pair, extractor in zip(pairs, extractors, strict=True):
            try:
                images, cards = _cards(pair, held_out, extractor, metrics, options, modules)
            except EXPECTED_ERRORS as error:
                if len(pairs) == 1:
                    raise
                print(f"error: {pair[0].word}: {error}", file=sys.stderr)
                continue
            results[pair[0].word] = cards
            if not options.leaderboard:
                _print(cards, options.json)
            unkept += _keep(cards, images)
        _finish(results, unkept, len(pairs), options.leaderboard, modules)


def _finish(
    results: Mapping[str, list[Card]], unkept: Sequence[str], asked: int, table: str | None, modules: Sequence[str]
) -> None:
    """Writes the leaderboard, and ends with an error where something failed, which costs nothing else."""
    if table and results:
        _write_leaderboard(results, table, modules)
    if unkept:
        raise OSError(f"the scores above are not kept: {'; '.join(unkept)}")
    if len(results) < asked or any(card.failed for cards in results.values() for card in cards):
        raise SystemExit(1)


def _print(cards: Sequence[Card], as_json: bool) -> None:
    print("\n".join(json.dumps(card.to_dict()) for card in cards) if as_json else text_table(cards))


def _keep(cards: Sequence[Card], images: ImageSet) -> list[str]:
    """Adds cards of a run to its folder, and a report of it; returns what went wrong, in words."""
    if not isinstance(images, SampleSet):
        return []
    workdir = images.run.workdir
    try:
        append(cards, workdir / "evaluations.jsonl")
        print(f"report: {write_report(workdir)}", file=sys.stderr)
    except OSError as error:
        return [f"{workdir} cannot be written ({error.strerror or error})"]
    return []


def _write_leaderboard(results: Mapping[str, list[Card]], path: str, modules: Sequence[str]) -> None:
    table = leaderboard(entries_of(results, modules))
    print(table, end="")
    with whole(path) as partial:
        partial.write_text(table)


def _write_statistics(options: argparse.Namespace, target: Target, modules: Sequence[str]) -> None:
    word = options.extractor or "auto"
    early = None if kind_of(word, target.source) == "classifier" else extractor_of(word, options.resize, target.source)
    side = open_target(target, early, options, modules)
    (side,) = with_like_channels([side], early, fixed=options.channels is not None)
    extractor = early or extractor_of(word, options.resize, side.target.source, options.quiet)
    features = features_of(side.images, extractor, options.quiet)["features"]
    with whole(options.statistics) as partial:
        Moments.of(features, fingerprint=extractor.fingerprint).save(partial)
    print(f"mean and covariance of {len(side.images):,} images ({extractor.name}) in {options.statistics}")


# --- one comparison --------------------------------------------------------------------------------------------------


def _pairs(options: argparse.Namespace, targets: Sequence[Target], modules: Sequence[str]) -> list[Pair]:
    """What is compared with what: two arguments, or runs each with the data that it was trained on."""
    if options.statistics:
        if len(targets) > 1:
            raise ValueError(f"--statistics: {len(targets)} arguments: give the one whose statistics are to be written")
        return []
    if not options.leaderboard and len(targets) > 2:
        raise ValueError(f"{len(targets)} arguments: give one or two, or runs with --leaderboard")
    if not options.leaderboard and targets[0].saved:
        raise ValueError(f"{targets[0].word} holds statistics, no images: give it as the second of two arguments")
    if not options.leaderboard and len(targets) == 2:
        return [(targets[0], targets[1])]
    pairs = []
    for target in targets:
        if target.run is None:
            raise ValueError(f"{target.word} is no run folder: {_remedy(options)}")
        if options.leaderboard:
            seed_and_identity(target.run, modules)  # what the table is grouped by: read before anything is measured
        data = folder.load_experiment(target.run, modules).data
        _warn_of_other_data(target.run, data)
        pairs.append((target, Target(str(data), source=data)))
    return pairs


def _warn_of_other_data(run: pathlib.Path, data: Source) -> None:
    changed: folder.Changes = {}
    with contextlib.suppress(ValueError, OSError):  # which is said where they are opened to be compared
        changed = folder.data_changes(run, data.open())
    if changed:
        print(
            f"warning: the data are not those that {run} was trained on: {', '.join(changed)} differ", file=sys.stderr
        )


def _remedy(options: argparse.Namespace) -> str:
    return "give runs alone" if options.leaderboard else "say what to compare it with as a second argument"


def _extractor_before(names: Sequence[str], pair: Pair, options: argparse.Namespace) -> Extractor | None:
    """The extractor, before any image is read or drawn; None for a classifier, which is trained when all else is known.

    Features beside spatial ones are kept apart from those without, so these are taken only where they are wanted.
    """
    if all(METRICS[name].of_pixels for name in names):
        return Pixels()  # which is not asked for any features
    word, source = options.extractor or "auto", labelled(pair)
    if kind_of(word, source) == "classifier" and source is not None:
        return None
    spatial = not pair[1].saved and any("spatial" in METRICS[name].reads for name in names)
    return extractor_of(word, options.resize, source, options.quiet, spatial)


def _cards(
    pair: Pair,
    held_out: Target | None,
    extractor: Extractor | None,
    metrics: Sequence[str],
    options: argparse.Namespace,
    modules: Sequence[str],
) -> tuple[ImageSet, list[Card]]:
    """The images that were measured, and their cards."""
    fixed = options.channels is not None
    sides = [open_target(target, extractor, options, modules) for target in pair if not target.saved]
    sides = with_like_channels(sides, extractor, fixed)
    images, reference, source = sides[0].images, pair[1].saved or sides[-1].images, sides[-1].target.source
    held = None
    if not isinstance(reference, Moments) and any(METRICS[name].wants_held_out for name in names_of(metrics)):
        if (target := held_out_of(held_out, images, source)) is not None:
            side = open_target(target, extractor, options, modules)
            held = with_like_channels([side, sides[-1]], extractor, fixed)[0].images
    if metrics != [ALL]:
        check_metrics(metrics, images, reference, extractor, held)  # before a classifier is trained
    if extractor is None and not isinstance(reference, Moments):
        check_shapes([images, reference, *([held] if held is not None else [])], reference.image_shape, None)
    extractor = extractor or extractor_of(options.extractor or "auto", None, source, options.quiet)
    if metrics == [ALL]:
        metrics, skipped = applicable(images, reference, extractor, held)
        for name, reason in skipped.items():
            print(f"without {name}: {reason}", file=sys.stderr)
    if not options.quiet:
        print(_plan(images, reference, extractor, metrics), file=sys.stderr)
    return images, evaluate(images, reference, extractor, metrics, options.seed or 0, options.quiet, held)


def _plan(images: ImageSet, reference: ImageSet | Moments, extractor: Extractor, metrics: Sequence[str]) -> str:
    """What is going to be done, in words."""
    how = "drawn from" if isinstance(images, SampleSet) else "of"
    against = "saved statistics" if isinstance(reference, Moments) else f"{len(reference):,} of {reference.name}"
    return f"{', '.join(metrics)} by {extractor.name}: {len(images):,} images {how} {images.name} against {against}"
