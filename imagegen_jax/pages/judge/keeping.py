"""Ends a study, for now: its result in words, beside the scores of the run that was judged, and in the run's report."""

from __future__ import annotations

import pathlib
import sys

from imagegen_jax.metrics.card import append
from imagegen_jax.pages.judge.result import Result, card_of, result_of, table
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
