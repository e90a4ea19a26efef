"""Metrics of the last steps, left on the devices until a line of them is due, and then all checked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from imagegen_jax.core.reporting.curves import is_loss
from imagegen_jax.core.reporting.not_finite import NonFiniteError

STEPS_AHEAD = 2  # steps given to the device before the oldest is waited for: it is never idle, and stops soon


class PendingMetrics:
    """Metrics of the last steps, left on the device until they are written."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, Mapping[str, Any]]] = []
        self.due: set[int] = set()  # steps whose line is to be written
        self.restart(0)

    def restart(self, step: int) -> None:
        """Begins to measure the speed anew, so that time that was not training is left out of it."""
        self.since, self.since_step = time.perf_counter(), step

    def add(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Adds the metrics of a step just given to the device; waits where the device is far behind."""
        self.rows.append((step, metrics))
        if len(self.rows) > STEPS_AHEAD:
            jax.block_until_ready(self.rows[-1 - STEPS_AHEAD][1])

    def take(self, step: int, batch_size: int) -> dict[str, float]:
        """Returns means over the steps up to `step` since the last call, each of them checked; {} if there were none.

        Raises NonFiniteError for a loss or a gradient that is not finite.
        """
        rows = jax.device_get([row for row in self.rows if row[0] <= step])
        self.rows = [row for row in self.rows if row[0] > step]
        self.due = {due for due in self.due if due > step}
        if not rows:
            return {}
        names = dict.fromkeys(name for _, metrics in rows for name in metrics)
        for name in sorted(names, key=lambda name: not is_loss(name)):  # a loss is named before its gradient
            _check_finite(name, [(at, metrics[name]) for at, metrics in rows if name in metrics])
        now = time.perf_counter()
        rate = batch_size * (step - self.since_step) / max(now - self.since, 1e-9)
        self.since, self.since_step = now, step
        means = {name: float(np.mean([metrics[name] for _, metrics in rows if name in metrics])) for name in names}
        return {"images_per_second": rate, **means}


def _check_finite(name: str, values: list[tuple[int, Any]]) -> None:
    """Raises NonFiniteError for a loss or a gradient's norm that is not finite; other metrics may be anything."""
    phase, _, metric = name.partition("/")
    bad = [step for step, value in values if not np.isfinite(value)]
    if bad and metric in ("loss", "grad_norm"):
        raise NonFiniteError(
            f"{metric} of phase {phase!r} is {values[0][1] if len(values) == 1 else 'not finite'} at step {bad[0]:,}, "
            f"first seen in steps {values[0][0]:,} to {values[-1][0]:,}. The last good checkpoint was kept; a lower "
            "rate, clip_norm or a longer warm-up may help"
        )
