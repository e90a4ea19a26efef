"""Evaluation while a run trains: the same metrics and cards as `imagegen evaluate`, every so many steps."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Mapping
from typing import Annotated

import jax
import numpy as np

from imagegen_jax.core.arrays.space import sample_shape
from imagegen_jax.core.checkpoints.stored import Best
from imagegen_jax.core.config.bounds import Count, Range, Seed, check_integers
from imagegen_jax.core.config.given import LARGEST
from imagegen_jax.core.experiment import Draw, Experiment
from imagegen_jax.data.remedy import remedies_of
from imagegen_jax.metrics.card import append
from imagegen_jax.metrics.catalog import METRICS, check_names, printed
from imagegen_jax.metrics.evaluate import check_metrics, evaluate
from imagegen_jax.metrics.features.choose import extractor_of
from imagegen_jax.metrics.sets import ArraySet, balanced_labels, source_set


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Settings: what to measure of a run's samples against its training data, and which checkpoint to keep for it."""

    every: Count = 1_000  # steps between two evaluations; there is always one at the end
    metrics: tuple[str, ...] = ("fid", "prdc")  # of `metrics.catalog.METRICS`
    samples: Annotated[int, Range(2, LARGEST)] = 2_000  # images drawn each time, the same number of every class
    extractor: str = "auto"  # as for `imagegen evaluate --extractor`
    resize: str | None = None  # as for `imagegen evaluate --resize`
    best: str = ""  # the score, by its printed name, whose best checkpoint stays; "": the first one
    seed: Seed = 0  # of the samples

    def __post_init__(self) -> None:
        check_integers(self)
        check_names(self.metrics)
        if pixels := [name for name in self.metrics if "images" in METRICS[name].reads]:
            raise ValueError(
                f"metrics={self.metrics}: {pixels[0]} compares image by image, and samples have no partners"
            )

    def open(self, experiment: Experiment, workdir: pathlib.Path, quiet: bool) -> Measurement:
        """Opens an evaluation of a run: loads or trains the extractor, and checks the metrics.

        Raises ValueError where the metrics cannot be computed, or `best` is none of them, and what the extractor
        raises.
        """
        return Measurement(self, experiment, workdir, quiet)


class Measurement:
    """An evaluation of one run. Each process measures the same images; the first one writes the cards."""

    def __init__(self, settings: Evaluate, experiment: Experiment, workdir: pathlib.Path, quiet: bool) -> None:
        """Does what `Evaluate.open` says."""
        self._settings, self._classes, self._workdir = settings, experiment.num_classes, workdir
        self._reference = source_set(experiment.data)
        blank = np.zeros((settings.samples, *sample_shape(experiment.model)), np.uint8)
        check_metrics(settings.metrics, self._set(blank, 0), self._reference, None)
        spatial = any("spatial" in METRICS[name].reads for name in settings.metrics)
        with remedies_of(settings):
            self._extractor = extractor_of(settings.extractor, settings.resize, experiment.data, quiet, spatial)
        check_metrics(settings.metrics, self._set(blank, 0), self._reference, self._extractor)
        scales = printed(settings.metrics, self._extractor.name)
        best = settings.best or next(iter(scales))
        if best not in scales:
            raise ValueError(f"evaluation.best={best!r}: {', '.join(settings.metrics)} give {', '.join(scales)}")
        self.best = Best(best, scales[best].better == "higher")

    def _set(self, images: np.ndarray, step: int) -> ArraySet:
        name = f"{self._workdir} at step {step:,}"
        return ArraySet(name, images, self._labels, keep=False, class_names=self._reference.class_names)

    @property
    def _labels(self) -> np.ndarray | None:
        settings = self._settings
        return balanced_labels(settings.samples, self._classes, settings.seed) if self._classes else None

    def __call__(self, draw: Draw, step: int) -> Mapping[str, float]:
        """Measures samples; returns scores by their printed names, NaN where one failed.

        Cards are added to the run's evaluations.jsonl.
        """
        settings = self._settings
        images = self._set(draw(settings.samples, self._labels, settings.seed), step)
        cards = evaluate(images, self._reference, self._extractor, settings.metrics, settings.seed, quiet=True)
        if jax.process_index() == 0:
            append(cards, self._workdir / "evaluations.jsonl")
            for card in cards:
                if card.failed:
                    print(f"step {step:,}: {card.metric} failed: {card.failed}", file=sys.stderr)
        return {card.metric: card.value for card in cards}
