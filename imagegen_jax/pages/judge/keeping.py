"""Keeps a study's result beside the scores of the run that was judged, and in its report, and reads it from there."""

from __future__ import annotations

import pathlib
import sys

from imagegen_jax.core.files.json_lines import read_objects
from imagegen_jax.metrics.card import append
from imagegen_jax.metrics.scores.interval import ConfidenceInterval
from imagegen_jax.pages.judge.result import METRIC, Result, card_of, result_of, said, table
from imagegen_jax.pages.judge.study import load_study
from imagegen_jax.pages.judge.votes import read_votes
from imagegen_jax.pages.report import write_report


def finish(folder: pathlib.Path) -> Result | None:
    """Prints what a study's votes say, keeps it with the run that was judged, and returns it; None without votes."""
    study = load_study(folder)
    result = result_of(study, read_votes(folder))
    if result is None:
        print(f"nobody attentive has answered yet; `imagegen judge {folder}` goes on")
        return None
    print(table(result))
    run = pathlib.Path(study.settings.run) if study.settings.run else None
    if run is not None and run.is_dir():
        append([card_of(result)], run / "evaluations.jsonl")
        print(f"report: {write_report(run)}", file=sys.stderr)
    return result


def judgements_of(run: pathlib.Path) -> list[str]:
    """Returns what people said of a run, a line for each question and set that it was compared with, of newest votes.

    Damaged lines are passed over.
    """
    newest: dict[tuple[str, str], str] = {}
    for card in read_objects(run / "evaluations.jsonl"):
        metric, reference = card.get("metric"), str(card.get("reference"))
        try:
            share = ConfidenceInterval(float(card["value"]), float(card["low"]), float(card["high"]))
        except (KeyError, TypeError, ValueError):
            continue
        if isinstance(metric, str) and metric in METRIC.values():
            newest[metric, reference] = f"{said(share).strip()}, {card.get('samples')} answers, beside {reference}"
    return [f"{metric}: {words}" for (metric, _), words in newest.items()]
