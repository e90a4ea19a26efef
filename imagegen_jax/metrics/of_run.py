"""Scores of a run from Python: `run.evaluate("fid", n=2_000)`, against the data that it was trained on or others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imagegen_jax.data import Codes, Source, parse_source
from imagegen_jax.metrics.card import Card, append, text_table
from imagegen_jax.metrics.catalog import METRICS, check_names
from imagegen_jax.metrics.evaluate import check_metrics, evaluate
from imagegen_jax.metrics.features.choose import extractor_of
from imagegen_jax.metrics.features.extractor import Extractor, Pixels
from imagegen_jax.metrics.sets import ReconstructionSet, SampleSet, TrainedRun, reconstructs, source_set


class Cards(tuple[Card, ...]):
    """Cards of one evaluation, by their places or by the names of their metrics; shown as a table."""

    def __getitem__(self, key: Any) -> Any:
        """Returns the card of a metric by its printed name, or what a tuple has at a place."""
        if not isinstance(key, str):
            return super().__getitem__(key)
        for card in self:
            if card.metric == key:
                return card
        raise KeyError(f"no card of {key!r}: there are {', '.join(card.metric for card in self)}")

    def __repr__(self) -> str:
        return text_table(self) if self else "no cards"


def evaluate_run(
    run: TrainedRun,
    metrics: Sequence[str],
    n: int,
    against: str | Source | None,
    extractor: str | Extractor,
    resize: str | None,
    seed: int,
    quiet: bool,
) -> Cards:
    """Measures images drawn from a run, keeps the cards in its evaluations.jsonl and returns them.

    Raises ValueError for metrics that cannot be computed, before anything is drawn.
    """
    check_names(metrics)
    source = run.experiment.data if against is None else parse_source(against) if isinstance(against, str) else against
    if isinstance(source, Codes):
        raise ValueError(f"{run.workdir} was trained on {source}, and no metric compares with codes: give `against`")
    reference = source_set(source)
    images = ReconstructionSet(run, n) if reconstructs(run.experiment.model) else SampleSet(run, n, seed)
    check_metrics(metrics, images, reference, None)
    features = extractor
    if isinstance(features, str):
        spatial = any("spatial" in METRICS[name].reads for name in metrics)
        of_pixels = all(METRICS[name].of_pixels for name in metrics)
        features = Pixels() if of_pixels else extractor_of(features, resize, source, quiet, spatial)
    cards = Cards(evaluate(images, reference, features, metrics, seed, quiet))
    append(cards, run.workdir / "evaluations.jsonl")
    return cards
