"""What the votes of a study say: the share with its interval, by class and by time, attention, agreement."""

from __future__ import annotations

import collections
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

from imagegen_jax.metrics.card import Card
from imagegen_jax.metrics.scale import Scale
from imagegen_jax.metrics.scores.interval import ConfidenceInterval
from imagegen_jax.pages.judge.counts import agreement, clustered, wilson
from imagegen_jax.pages.judge.study import Settings, Study
from imagegen_jax.pages.judge.votes import Vote

INATTENTIVE = 0.25  # a larger share of wrong answers to catch trials, and a person's votes are left out
WORDS = {
    "real": "error rate: how often the generated picture was taken for the real one (50 %: nobody can tell)",
    "better": "preference: how often A was chosen (50 %: neither)",
}
METRIC = {"real": "human error rate", "better": "human preference"}


class Row(NamedTuple):
    """One share of a table."""

    name: str
    share: ConfidenceInterval
    answers: int


class Result(NamedTuple):
    """The result of a study so far."""

    settings: Settings
    overall: Row
    by_class: tuple[Row, ...]
    by_time: tuple[Row, ...]
    voters: int
    left_out: tuple[tuple[str, int, int], ...]  # a person, their wrong catch trials, and how many they had
    caught: tuple[int, int]  # catch trials that were right, and all
    agreement: tuple[float, float, int] | None  # share, kappa, pairs
    threshold: float | None  # of the staircase: the median of people's last times, in milliseconds


def result_of(study: Study, votes: Sequence[Vote]) -> Result | None:
    """Counts the votes of a study; None where nobody attentive has answered yet."""
    by_voter: dict[str, list[Vote]] = collections.defaultdict(list)
    for vote in votes:
        by_voter[vote.voter].append(vote)
    left_out = tuple(found for name, given in by_voter.items() if (found := _inattentive(name, given)))
    out = {name for name, *_ in left_out}
    counted = [vote for vote in votes if not vote.catch and vote.voter not in out]
    if not counted:
        return None
    catches = [vote for vote in votes if vote.catch and vote.voter not in out]
    of_pairs: dict[int, dict[str, bool]] = collections.defaultdict(dict)
    for vote in counted:
        of_pairs[vote.pair].setdefault(vote.voter, vote.chose_a)  # a pair may come to one person again
    return Result(
        study.settings, _row("all", counted), tuple(_by_class(study, counted)), tuple(_by_time(counted)),
        len(by_voter) - len(out), left_out, (sum(not vote.chose_a for vote in catches), len(catches)),
        agreement({pair: list(of.values()) for pair, of in of_pairs.items()}), _threshold(study.settings, counted),
    )  # fmt: skip


def _inattentive(name: str, votes: Sequence[Vote]) -> tuple[str, int, int] | None:
    catches = [vote.chose_a for vote in votes if vote.catch]
    return (name, sum(catches), len(catches)) if catches and sum(catches) > INATTENTIVE * len(catches) else None


def _row(name: str, votes: Sequence[Vote]) -> Row:
    share = clustered([v.chose_a for v in votes], [v.voter for v in votes], [v.pair for v in votes])
    return Row(name, share, len(votes))


def _by_class(study: Study, votes: Sequence[Vote]) -> list[Row]:
    if study.labels is None:
        return []
    names, found = study.settings.class_names, collections.defaultdict(list)
    for vote in votes:
        found[int(study.labels[vote.pair])].append(vote)
    return [_row(names[label] if label < len(names) else str(label), found[label]) for label in sorted(found)]


def _by_time(votes: Sequence[Vote]) -> list[Row]:
    """Splits votes at the median of the time that they took."""
    middle = statistics.median(vote.seconds for vote in votes)
    quick = [vote for vote in votes if vote.seconds <= middle]
    slow = [vote for vote in votes if vote.seconds > middle]
    named = ((f"within {middle:.1f} s", quick), ("later", slow))
    return [_row(name, part) for name, part in named if part]


def _threshold(settings: Settings, votes: Sequence[Vote]) -> float | None:
    if not settings.staircase:
        return None
    last = {vote.voter: vote.milliseconds for vote in votes if vote.milliseconds is not None}
    return statistics.median(last.values()) if last else None


# --- in words --------------------------------------------------------------------------------------------------------


def table(result: Result) -> str:
    """Writes a result as lines of text."""
    settings = result.settings
    lines = [f"A: {settings.a}", f"B: {settings.b}", f"{WORDS[settings.question]}", ""]
    parts = [[result.overall], result.by_class, result.by_time]
    width = max(len(row.name) for part in parts for row in part)
    for part in parts:
        lines += [f"{row.name:{width}}  {said(row.share)}  {row.answers:5,} answers" for row in part]
    lines += ["", *notes(result)]
    return "\n".join(lines)


def said(share: ConfidenceInterval) -> str:
    """Writes a share with its interval."""
    return f"{share.value:6.1%} [{share.low:.1%}, {share.high:.1%}]"


def notes(result: Result) -> list[str]:
    """Says what else one has to know of a result, a line each."""
    right, catches = result.caught
    people = "1 person" if result.voters == 1 else f"{result.voters} people"
    lines = [f"{people}; intervals by Wilson at 95 %, for as many answers as are independent"]
    if result.voters == 1:
        lines.append("one person's eye: others may see otherwise")
    if catches:
        lines.append(f"catch trials: {right} of {catches} right, {said(wilson(right, catches)).strip()}")
    for name, wrong, of in result.left_out:
        lines.append(f"left out: {name[:6]}, {wrong} of {of} catch trials wrong")
    if result.agreement:
        share, kappa, pairs = result.agreement
        lines.append(
            f"agreement: {share:.0%} of two people's votes on one pair, kappa {kappa:.2f}, of {pairs} "
            f"pair{'s' * (pairs != 1)}"
        )
    if result.threshold is not None:
        lines.append(f"time at which three of four answers are right: {result.threshold:.0f} ms")
    return lines


def card_of(result: Result) -> Card:
    """Makes a card of a result, to stand beside the scores of a run."""
    share, settings = result.overall.share, result.settings
    return Card(
        METRIC[settings.question], share.value, share.low, share.high, "Wilson's, of independent answers",
        result.overall.answers, settings.a, None, settings.b, "people", "", "none", settings.seed,
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), note="; ".join(notes(result)),
        scale=Scale("higher", 0.0, 1.0),
    )  # fmt: skip
