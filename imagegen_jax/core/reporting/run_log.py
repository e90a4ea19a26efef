"""The log of a live run: its lines of metrics in files, and warnings where they are beyond their limits."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from imagegen_jax.core.reporting.health import Watch
from imagegen_jax.core.reporting.metrics_log import MetricsLog, writing
from imagegen_jax.core.reporting.trackers.tracker import Followed, Guarded, Tracking
from imagegen_jax.core.reporting.training_progress import TrainingProgress


class RunLog:
    """Writes and warns of what is measured in a run; where it is never opened, as in other processes, it only warns."""

    def __init__(
        self,
        workdir: pathlib.Path,
        progress: TrainingProgress,
        kept: Callable[[], str],
        track: Mapping[str, Tracking],
        config: Mapping[str, Any],
    ) -> None:
        """Opens nothing yet; `kept` says which work is kept where something cannot be written.

        `track` are trackers beside the run's own files, by name, and `config` the experiment as they are told it.
        """
        self._workdir, self._progress, self._kept = workdir, progress, kept
        self._track, self._config = track, config
        self._trackers: list[Guarded] = []
        self._watch = Watch()
        self._metrics: MetricsLog | None = None

    @property
    def is_open(self) -> bool:
        """Tells whether anything is written."""
        return self._metrics is not None

    def open(self, step: int) -> None:
        """Opens the files at the step that a run goes on from; says which lines in them are damaged."""
        self._metrics = MetricsLog(self._workdir, step)
        if damaged := self._metrics.damaged:
            which = ", ".join(map(str, damaged[:10])) + (", ..." if len(damaged) > 10 else "")
            self._progress.say(f"metrics.jsonl: {len(damaged)} damaged lines were dropped (number {which})")
        for line in self._metrics.lines:
            self._watch.look(line["step"], line)  # a warning that was given is not given again
        for name, tracking in self._track.items():
            self._trackers.append(Guarded(name, self._progress.say))
            self._trackers[-1].open(tracking, Followed(self._workdir, step, self._metrics.lines, self._config))

    def writing(self, what: str, step: int) -> AbstractContextManager[None]:
        """Adds to an OSError what could not be written, and which work is kept."""
        return writing(self._workdir, what, step, self._kept)

    def write_line(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes a line of metrics, and a warning for each that is beyond its limit."""
        if self._metrics:
            with self.writing("its line of metrics", step):
                self._metrics.write(step, metrics)
        for tracker in self._trackers:
            tracker.write(step, metrics)
        for warning in self._watch.look(step, metrics):
            self._progress.say(f"warning: {warning}")

    def write_image(self, step: int, picture: np.ndarray) -> None:
        """Writes a picture of samples [H W c], for TensorBoard and other trackers."""
        if self._metrics:
            self._metrics.image(step, picture)
        for tracker in self._trackers:
            tracker.image(step, picture)

    def close(self) -> None:
        """Closes the files."""
        for tracker in self._trackers:
            tracker.close()
        if self._metrics:
            self._metrics.close()
