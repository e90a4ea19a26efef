"""Metric cards: a value, its interval and all that one needs to measure it again; tables and leaderboards of cards."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from imagegen_jax.core.files.regular import whole
from imagegen_jax.core.reporting.tables import Table
from imagegen_jax.metrics.scale import DISTANCE, Scale
from imagegen_jax.metrics.student import t_quantile


@dataclasses.dataclass(frozen=True)
class Card:
    """One measured value. `low` and `high` are the ends of a 95 % interval; None where there is no honest one."""

    metric: str  # as printed: "FD-classifier", "KID x 1000 (FD-classifier)", "coverage"
    value: float
    low: float | None
    high: float | None
    interval: str  # how the interval was made; "none" with the reason
    samples: int  # that the value was computed from
    images: str  # what was measured
    references: int | None  # likewise; None: saved statistics do not say
    reference: str  # what they were compared with, the split included
    extractor: str
    weights: str  # 16 digits of the SHA-256 over weights, resize, range and taps
    resize: str
    seed: int  # of the samples, the subsets and the bootstrap
    versions: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    time: str = ""  # UTC
    held_out: str | None = None  # data that it was also compared with; None: nothing
    note: str = ""  # what else a reader has to know, such as rows that were left out
    failed: str = ""  # why there is no value, which is then NaN
    scale: Scale = DISTANCE  # the metric's: which values are good, and which are possible

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, which has no infinity and no NaN: such a value is None, as in a run's metrics.

        The scale is reduced to which way is better.
        """
        found = dataclasses.asdict(self) | ({} if math.isfinite(self.value) else {"value": None})
        del found["scale"]
        return found | {"better": self.scale.better}


def append(cards: Sequence[Card], path: pathlib.Path) -> None:
    """Adds a line for each card to a JSON lines file, except for failed ones.

    A new line replaces older ones of the same measurement.
    """
    new = [json.dumps(card.to_dict()) for card in cards if not card.failed]
    measured = {_measurement(json.loads(line)) for line in new}
    old = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in old if line.endswith("}") and _measurement(json.loads(line)) not in measured]
    with whole(path) as partial:
        partial.write_text("".join(line + "\n" for line in kept + new))


MEASUREMENT = ("metric", "samples", "images", "references", "reference", "extractor", "weights", "resize", "seed")


def _measurement(line: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns what cards of one measurement share; a run that was stopped and resumed makes it twice."""
    return tuple(line.get(name) for name in MEASUREMENT)


def text_table(cards: Sequence[Card]) -> str:
    """Makes a table of the values; what they share is written once below it."""
    width = max(len(card.metric) for card in cards)
    head = f"{'metric':{width}}  {'value':>10}  {'95 % interval':>22}  samples"
    return "\n".join([head, *(_row(card, width) for card in cards), *shared_lines(cards)])


def print_table(cards: Sequence[Card]) -> None:
    """Prints a table of the values, drawn for a terminal where it goes to one, and what they share below it."""
    if not sys.stdout.isatty():
        print(text_table(cards))
        return
    rows = [
        (card.metric, "-", f"failed: {card.failed}", "-")
        if card.failed
        else (card.metric, f"{card.value:.4f}", _interval(card), f"{card.samples:,}")
        for card in cards
    ]
    Table("", ("metric", "value", "95 % interval", "samples"), rows).print()
    print("\n".join(shared_lines(cards)))


def shared_lines(cards: Sequence[Card]) -> list[str]:
    """Says what cards were made of, each once."""
    first = next((card for card in cards if card.weights), cards[0])
    counts = [card.references for card in cards if card.references is not None]
    references = f" ({max(counts):,} images)" if counts else ""
    return [
        f"images:     {first.images}",
        f"reference:  {first.reference}{references}",
        *dict.fromkeys(f"held out:   {card.held_out}" for card in cards if card.held_out),
        f"features:   {first.extractor}, weights {first.weights or '-'}, resize {first.resize}, seed {first.seed}",
        *_grouped("intervals:", cards, lambda card: "" if card.failed else card.interval),
        *_grouped("notes:", cards, lambda card: card.note),
        f"versions:   {', '.join(f'{name} {version}' for name, version in first.versions.items() if version)}",
    ]


def _row(card: Card, width: int) -> str:
    if card.failed:
        return f"{card.metric:{width}}  failed: {card.failed}"
    return f"{card.metric:{width}}  {card.value:10.4f}  {_interval(card):>22}  {card.samples:,}"


def _grouped(title: str, cards: Sequence[Card], text_of: Callable[[Card], str]) -> list[str]:
    """Makes a line for each text, after the names of its metrics."""
    metrics: dict[str, list[str]] = {}
    for card in cards:
        if text := text_of(card):
            metrics.setdefault(text, []).append(card.metric)
    return [f"{'' if i else title:11} {_listed(of)}: {text}" for i, (text, of) in enumerate(metrics.items())]


def _listed(names: Sequence[str], most: int = 5) -> str:
    return "; ".join(names) if len(names) <= most else f"{names[0]} to {names[-1]}"


def _interval(card: Card) -> str:
    return "-" if card.low is None else f"[{card.low:.4f}, {card.high:.4f}]"


# --- leaderboards ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Score:
    value: float
    low: float | None
    high: float | None
    runs: int  # whose mean it is


def leaderboard(results: Mapping[str, Sequence[Sequence[Card]]]) -> str:
    """Makes a Markdown table with a line for each entry, from the cards of each of its runs (seeds).

    For several runs of an entry it gives their mean with Student's 95 % interval, cut to the score's possible values;
    for one run, its card's own interval. It is sorted by the first metric. The best of a column is bold where its
    interval overlaps no other's and all were measured against the same data by the same features; where they were not,
    a line below says so.
    """
    scales = {card.metric: card.scale for runs in results.values() for cards in runs for card in cards}
    metrics = list(scales)
    scores = {entry: {m: _over_runs(runs, m) for m in metrics} for entry, runs in results.items()}
    ordered = sorted(scores, key=lambda entry: _rank(scores[entry][metrics[0]], scales[metrics[0]]))
    bold = {metric: _apart({entry: scores[entry][metric] for entry in ordered}, scales[metric]) for metric in metrics}
    notes = {metric: note for metric in metrics if (note := _unlike(results, metric))}
    lines = ["| model | runs | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 2) + "|"]
    for entry in ordered:
        runs = len(results[entry])
        cells = [_cell(scores[entry][m], bold[m] == entry and m not in notes, runs) for m in metrics]
        lines.append(f"| {entry} | {runs} | " + " | ".join(cells) + " |")
    said = list(dict.fromkeys([*notes.values(), *_failures(results)]))
    return "\n".join([*lines, *([""] if said else []), *said]) + "\n"


def _unlike(results: Mapping[str, Sequence[Sequence[Card]]], metric: str) -> str | None:
    """Returns what to say where the values of a column cannot be compared, else None."""
    cards = [card for runs in results.values() for cards in runs for card in cards if card.metric == metric]
    against = dict.fromkeys((card.reference, card.weights, card.resize) for card in cards)
    if len(against) < 2:
        return None
    named = dict.fromkeys(f"{reference} (features {weights or '-'})" for reference, weights, _ in against)
    return f"Not to be ranked: measured against different data or by different features, {'; '.join(named)}"


def _failures(results: Mapping[str, Sequence[Sequence[Card]]]) -> list[str]:
    cards = (card for runs in results.values() for cards in runs for card in cards)
    return [f"{card.metric} of {card.images} failed: {card.failed}" for card in cards if card.failed]


def _over_runs(runs: Sequence[Sequence[Card]], metric: str) -> _Score | None:
    cards = [card for cards in runs for card in cards if card.metric == metric and not card.failed]
    if not cards:
        return None
    if len(cards) == 1:
        return _Score(cards[0].value, cards[0].low, cards[0].high, 1)
    values = [card.value for card in cards]
    if not all(map(math.isfinite, values)):
        return _Score(max(values), None, None, len(values))
    mean, degrees = statistics.mean(values), len(values) - 1
    half = t_quantile(degrees, 0.975) * statistics.stdev(values) / math.sqrt(len(values))
    scale = cards[0].scale
    return _Score(mean, max(mean - half, scale.least), min(mean + half, scale.greatest), len(values))


def _rank(score: _Score | None, scale: Scale) -> float:
    return math.inf if score is None else scale.loss(score.value)


def _apart(scores: Mapping[str, _Score | None], scale: Scale) -> str | None:
    """Returns the best entry where its interval overlaps no other's, else None."""
    known = sorted(((_rank(s, scale), entry, s) for entry, s in scores.items() if s), key=lambda item: item[0])
    if scale.better == "neither" or len(known) < 2 or any(s.low is None or s.high is None for _, _, s in known):
        return None
    _, entry, best = known[0]
    apart = all(best.high < s.low or s.high < best.low for _, _, s in known[1:])  # type: ignore[operator]
    return entry if apart else None


def _cell(score: _Score | None, bold: bool, runs: int) -> str:
    if score is None:
        return "-"
    value = f"**{score.value:.4g}**" if bold else f"{score.value:.4g}"
    interval = "" if score.low is None else f" [{score.low:.4g}, {score.high:.4g}]"
    return value + interval + (f" ({score.runs} of {runs} runs)" if score.runs < runs else "")
