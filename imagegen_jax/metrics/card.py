"""Metric cards: a value, its interval and all that it takes to measure it again; tables and leaderboards of them."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

# The 97.5 % quantile of Student's t for 1 to 30 degrees of freedom, for means over seeds; beyond, the normal's.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip

HIGHER_IS_BETTER = {"IS", "precision", "recall", "density", "coverage"}
UNRANKED = {"AuthPct"}  # neither high nor low is good: it is compared with that of held-out data


@dataclasses.dataclass(frozen=True)
class Card:
    """One measured value. `low` and `high` are the ends of a 95 % interval; None where there is no honest one."""

    metric: str  # as it is printed: "FD-classifier", "KID x 1000 (FD-classifier)", "coverage"
    value: float
    low: float | None
    high: float | None
    interval: str  # how it was made; "none" with the reason
    samples: int
    images: str  # what was measured
    references: int | None  # None: saved statistics do not say
    reference: str  # what it was compared with, the split included
    extractor: str
    weights: str  # 16 digits of the SHA-256 over weights, resize, range and taps
    resize: str
    seed: int  # of the samples, the subsets and the bootstrap
    versions: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    time: str = ""  # UTC

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)


def append(cards: Sequence[Card], path: pathlib.Path) -> None:
    """Adds a line a card to a JSON lines file."""
    with path.open("a") as file:
        file.writelines(json.dumps(card.to_dict()) + "\n" for card in cards)


def text_table(cards: Sequence[Card]) -> str:
    """The values, and under them once what they share."""
    width = max(len(card.metric) for card in cards)
    lines = [f"{'metric':{width}}  {'value':>10}  {'95 % interval':>22}  samples"]
    lines += [f"{c.metric:{width}}  {c.value:10.4f}  {_interval(c):>22}  {c.samples:,}" for c in cards]
    first = cards[0]
    references = "" if first.references is None else f" ({first.references:,} images)"
    lines += [
        f"images:     {first.images}",
        f"reference:  {first.reference}{references}",
        f"features:   {first.extractor}, weights {first.weights}, resize {first.resize}, seed {first.seed}",
        f"intervals:  {'; '.join(dict.fromkeys(f'{c.metric}: {c.interval}' for c in cards))}",
        f"versions:   {', '.join(f'{name} {version}' for name, version in first.versions.items())}",
    ]
    return "\n".join(lines)


def _interval(card: Card) -> str:
    return "-" if card.low is None else f"[{card.low:.4f}, {card.high:.4f}]"


# --- leaderboards ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Score:
    value: float
    low: float | None
    high: float | None
    runs: int


def leaderboard(results: Mapping[str, Sequence[Sequence[Card]]]) -> str:
    """A Markdown table with a line an entry: entry -> the cards of each of its runs (seeds).

    Over several runs of an entry: their mean with Student's 95 % interval; of one, its card's own interval. Sorted by
    the first metric. The best of a column is bold where its interval lies apart from all others'.
    """
    metrics = list(dict.fromkeys(card.metric for runs in results.values() for cards in runs for card in cards))
    scores = {entry: {m: _over_runs(runs, m) for m in metrics} for entry, runs in results.items()}
    ordered = sorted(scores, key=lambda entry: _rank(scores[entry][metrics[0]], metrics[0]))
    bold = {metric: _apart({entry: scores[entry][metric] for entry in ordered}, metric) for metric in metrics}
    lines = ["| model | runs | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 2) + "|"]
    for entry in ordered:
        cells = [_cell(scores[entry][metric], bold[metric] == entry) for metric in metrics]
        lines.append(f"| {entry} | {len(results[entry])} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _over_runs(runs: Sequence[Sequence[Card]], metric: str) -> _Score | None:
    cards = [card for cards in runs for card in cards if card.metric == metric]
    if not cards:
        return None
    if len(cards) == 1:
        return _Score(cards[0].value, cards[0].low, cards[0].high, 1)
    values = [card.value for card in cards]
    mean, degrees = statistics.mean(values), len(values) - 1
    half = (_T[degrees - 1] if degrees <= len(_T) else 1.96) * statistics.stdev(values) / math.sqrt(len(values))
    return _Score(mean, mean - half, mean + half, len(values))


def _better(metric: str) -> int:
    """-1 where higher is better, 1 where lower is."""
    return -1 if metric.partition(" ")[0] in HIGHER_IS_BETTER else 1


def _rank(score: _Score | None, metric: str) -> float:
    return math.inf if score is None else _better(metric) * score.value


def _apart(scores: Mapping[str, _Score | None], metric: str) -> str | None:
    """The best entry, where its interval overlaps no other's; None where there is no such entry."""
    known = sorted(((_rank(s, metric), entry, s) for entry, s in scores.items() if s), key=lambda item: item[0])
    if metric in UNRANKED or len(known) < 2 or any(s.low is None or s.high is None for _, _, s in known):
        return None
    _, entry, best = known[0]
    apart = all(best.high < s.low or s.high < best.low for _, _, s in known[1:])  # type: ignore[operator]
    return entry if apart else None


def _cell(score: _Score | None, bold: bool) -> str:
    if score is None:
        return "-"
    value = f"**{score.value:.4g}**" if bold else f"{score.value:.4g}"
    return value if score.low is None else f"{value} [{score.low:.4g}, {score.high:.4g}]"
