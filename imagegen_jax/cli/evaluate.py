"""`imagegen evaluate`: images compared with a data set, by the metrics of the field."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.errors import EXPECTED_ERRORS, words_of
from imagegen_jax.cli.common.targets import import_modules
from imagegen_jax.cli.evaluate_options import (
    ALL,
    EXAMPLES,
    EvaluateRequest,
    Pair,
    add_options,
    check_options,
    check_outputs,
    labelled,
    names_of,
    say_what_is_not_kept,
)
from imagegen_jax.core import run_folder as folder
from imagegen_jax.core.files.regular import whole
from imagegen_jax.data import Codes, Source
from imagegen_jax.data.parse import SETTINGS
from imagegen_jax.data.remedy import as_options, remedies_spelled
from imagegen_jax.metrics.card import Card, append, leaderboard, print_table
from imagegen_jax.metrics.catalog import METRICS, check_names
from imagegen_jax.metrics.evaluate import applicable, check_metrics, check_shapes, evaluate
from imagegen_jax.metrics.extraction import features_of
from imagegen_jax.metrics.features.choose import extractor_of, kind_of
from imagegen_jax.metrics.features.extractor import Extractor, Pixels
from imagegen_jax.metrics.features.moments import Moments
from imagegen_jax.metrics.named import (
    Drawing,
    Target,
    held_out_of,
    open_target,
    targets_of,
    with_like_channels,
)
from imagegen_jax.metrics.seeds import entries_of, seed_and_identity
from imagegen_jax.metrics.sets import ArraySet, ImageSet, ReconstructionSet, SampleSet
from imagegen_jax.pages.judge.keeping import judgements_of
from imagegen_jax.pages.report import write_report


def run(request: EvaluateRequest) -> dict[str, list[Card]]:
    """Evaluates what a request names; prints the scores, and stores those of a run with it.

    Returns the cards by the word that named the images. Raises ValueError, before any image is read, for what cannot be
    measured or written and for options that would change nothing, and SystemExit where one of several metrics failed.
    """
    modules = import_modules(request.modules)
    if request.names != [ALL]:
        check_names(request.names)
    check_outputs(request)
    targets, held_out = targets_of(
        request.targets, request.held_out, request.settings, request.split, bool(request.leaderboard)
    )
    stored = any(target.source for target in targets) or held_out is not None
    with remedies_spelled(as_options({"extractor", "resize", *(SETTINGS if stored else ())})):
        pairs = _pairs(request, targets, modules)
        check_options(request, targets, pairs)
        if request.statistics:
            _write_statistics(request, targets[0], request.drawing(modules))
            return {}
        return _measured(request, pairs, held_out, targets, modules)


def _measured(
    request: EvaluateRequest,
    pairs: Sequence[Pair],
    held_out: Target | None,
    targets: Sequence[Target],
    modules: Sequence[str],
) -> dict[str, list[Card]]:
    """Measures each pair, prints and keeps its cards, and returns all; a pair that fails does not stop the others."""
    # For all pairs before anything is drawn, so that an extractor without weights is an error now.
    extractors = [_extractor_before(names_of(request.names), pair, request) for pair in pairs]
    say_what_is_not_kept(targets)
    results: dict[str, list[Card]] = {}
    unkept: list[str] = []
    for pair, extractor in zip(pairs, extractors, strict=True):
        try:
            images, cards = _cards(pair, held_out, extractor, request, request.drawing(modules))
        except EXPECTED_ERRORS as error:
            if len(pairs) == 1:
                raise
            print(f"error: {pair[0].word}: {words_of(error)}", file=sys.stderr)
            continue
        results[pair[0].word] = cards
        if not request.leaderboard:
            _print(cards, request.json, pair[0].run)
        unkept += _keep(cards, images)
    _finish(results, unkept, len(pairs), request.leaderboard, modules)
    return results


def _finish(
    results: Mapping[str, list[Card]],
    unkept: Sequence[str],
    asked: int,
    table: str | pathlib.Path | None,
    modules: Sequence[str],
) -> None:
    """Writes the leaderboard, and then ends with an error where something failed."""
    if table and results:
        _write_leaderboard(results, table, modules)
    if unkept:
        raise OSError(f"the scores above are not kept: {'; '.join(unkept)}")
    if len(results) < asked or any(card.failed for cards in results.values() for card in cards):
        raise SystemExit(1)


def _print(cards: Sequence[Card], as_json: bool, run: pathlib.Path | None) -> None:
    """Prints cards, and beside those of a run what people have said of it."""
    if as_json:
        print("\n".join(json.dumps(card.to_dict()) for card in cards))
        return
    print_table(cards)
    for line in judgements_of(run) if run is not None else ():
        print(f"people:     {line}")


def _keep(cards: Sequence[Card], images: ImageSet) -> list[str]:
    """Adds cards of a run to its folder, and writes its report; returns what went wrong, in words."""
    if not isinstance(images, SampleSet | ReconstructionSet):
        return []
    workdir = images.run.workdir
    try:
        append(cards, workdir / "evaluations.jsonl")
        print(f"report: {write_report(workdir)}", file=sys.stderr)
    except OSError as error:
        return [f"{workdir} cannot be written ({error.strerror or error})"]
    return []


def _write_leaderboard(results: Mapping[str, list[Card]], path: str | pathlib.Path, modules: Sequence[str]) -> None:
    table = leaderboard(entries_of(results, modules))
    print(table, end="")
    with whole(path) as partial:
        partial.write_text(table)


def _write_statistics(request: EvaluateRequest, target: Target, drawing: Drawing) -> None:
    word, path = request.extractor or "auto", request.statistics
    assert path is not None
    early = None if kind_of(word, target.source) == "classifier" else extractor_of(word, request.resize, target.source)
    side = open_target(target, early, drawing)
    (side,) = with_like_channels([side], early, fixed=request.channels is not None)
    extractor = early or extractor_of(word, request.resize, side.target.source, request.quiet)
    features = features_of(side.images, extractor, request.quiet)["features"]
    with whole(path) as partial:
        Moments.of(features, fingerprint=extractor.fingerprint).save(partial)
    print(f"mean and covariance of {len(side.images):,} images ({extractor.name}) in {path}")


# --- one comparison --------------------------------------------------------------------------------------------------


def _pairs(request: EvaluateRequest, targets: Sequence[Target], modules: Sequence[str]) -> list[Pair]:
    """Pairs the targets to compare: two arguments, or each run and its training data."""
    if request.statistics:
        if len(targets) > 1:
            raise ValueError(f"--statistics: {len(targets)} arguments: give the one whose statistics are to be written")
        return []
    if not request.leaderboard and len(targets) > 2:
        raise ValueError(f"{len(targets)} arguments: give one or two, or runs with --leaderboard")
    if not request.leaderboard and targets[0].saved:
        raise ValueError(f"{targets[0].word} holds statistics, no images: give it as the second of two arguments")
    if not request.leaderboard and len(targets) == 2:
        return [(targets[0], targets[1])]
    pairs = []
    for target in targets:
        if target.run is None:
            raise ValueError(f"{target.word} is no run folder: {_remedy(request)}")
        if request.leaderboard:
            seed_and_identity(target.run, modules)  # the table is grouped by these: an error now, before any measuring
        data = folder.load_experiment(target.run, modules).data
        if isinstance(data, Codes):
            raise ValueError(
                f"{target.word} was trained on {data}, and no metric compares with codes: {_images(request)}"
            )
        _warn_of_other_data(target.run, data)
        pairs.append((target, Target(str(data), source=data)))
    return pairs


def _warn_of_other_data(run: pathlib.Path, data: Source) -> None:
    changed: folder.Changes = {}
    with contextlib.suppress(ValueError, OSError):  # raised again where the data are opened to be compared
        changed = folder.data_changes(run, data.open())
    if changed:
        print(
            f"warning: the data are not those that {run} was trained on: {', '.join(changed)} differ", file=sys.stderr
        )


def _remedy(request: EvaluateRequest) -> str:
    return "give runs alone" if request.leaderboard else "say what to compare it with as a second argument"


def _images(request: EvaluateRequest) -> str:
    return "leave it out" if request.leaderboard else "name images as a second argument"


def _extractor_before(names: Sequence[str], pair: Pair, request: EvaluateRequest) -> Extractor | None:
    """Opens the extractor before any image is read or drawn; None for a classifier, which is trained last.

    The cache keeps features with spatial ones apart from those without, so spatial ones are taken only where wanted.
    """
    if all(METRICS[name].of_pixels for name in names):
        return Pixels()  # which is not asked for any features
    word, source = request.extractor or "auto", labelled(pair)
    if kind_of(word, source) == "classifier" and source is not None:
        return None
    spatial = not pair[1].saved and any("spatial" in METRICS[name].reads for name in names)
    return extractor_of(word, request.resize, source, request.quiet, spatial)


def _cards(
    pair: Pair,
    held_out: Target | None,
    extractor: Extractor | None,
    request: EvaluateRequest,
    drawing: Drawing,
) -> tuple[ImageSet, list[Card]]:
    """Measures one pair; returns its images and their cards."""
    metrics: Sequence[str] = request.names
    fixed = request.channels is not None
    sides = [open_target(target, extractor, drawing) for target in pair if not target.saved]
    sides = with_like_channels(sides, extractor, fixed)
    images, reference, source = sides[0].images, pair[1].saved or sides[-1].images, sides[-1].target.source
    if isinstance(images, ReconstructionSet) and isinstance(reference, ArraySet):  # row by row, the same rows
        reference = reference.first(images.n)
        images = dataclasses.replace(images, given=reference)
    held = None
    if not isinstance(reference, Moments) and any(METRICS[name].wants_held_out for name in names_of(metrics)):
        if (target := held_out_of(held_out, images, source)) is not None:
            side = open_target(target, extractor, drawing)
            held = with_like_channels([side, sides[-1]], extractor, fixed)[0].images
    if metrics != [ALL]:
        check_metrics(metrics, images, reference, extractor, held)  # before a classifier is trained
    if extractor is None and not isinstance(reference, Moments):
        check_shapes([images, reference, *([held] if held is not None else [])], reference.image_shape, None)
    extractor = extractor or extractor_of(request.extractor or "auto", None, source, request.quiet)
    if metrics == [ALL]:
        metrics, skipped = applicable(images, reference, extractor, held)
        for name, reason in skipped.items():
            print(f"without {name}: {reason}", file=sys.stderr)
    if not request.quiet:
        print(_plan(images, reference, extractor, metrics), file=sys.stderr)
    return images, evaluate(images, reference, extractor, metrics, request.seed or 0, request.quiet, held)


def _plan(images: ImageSet, reference: ImageSet | Moments, extractor: Extractor, metrics: Sequence[str]) -> str:
    """Says what is going to be measured."""
    if all("losses" in METRICS[metric].reads for metric in metrics):
        return f"{', '.join(metrics)}: losses of {images.name} for training images and for held-out ones; draws none"
    how = "drawn from" if isinstance(images, SampleSet) else "of"
    against = "saved statistics" if isinstance(reference, Moments) else f"{len(reference):,} of {reference.name}"
    return f"{', '.join(metrics)} by {extractor.name}: {len(images):,} images {how} {images.name} against {against}"


COMMAND = Command(
    "evaluate", "compare images with a data set, by the metrics of the field", add_options, EvaluateRequest, run,
    EXAMPLES,
)  # fmt: skip
