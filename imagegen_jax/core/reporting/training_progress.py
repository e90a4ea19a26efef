"""How far a training is, and what is done beside it: the live line of a run, or plain lines."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from imagegen_jax.core.reporting.durations import duration
from imagegen_jax.core.reporting.progress import activity, how_far, speed, with_clock
from imagegen_jax.core.reporting.screen import screen_of


class TrainingProgress:
    """Shows how far a run is: a bar that is drawn anew each second on a terminal, and plain lines elsewhere.

    Any thread may use it. A stream that can no longer be written to, such as a closed terminal, ends nothing.
    """

    def __init__(self, steps: int, stream: Any = None, every: float = 10.0, quiet: bool = False) -> None:
        """Begins the live line on a terminal; elsewhere there are at least `every` seconds between two plain lines."""
        self._steps, self._every, self._quiet = steps, every, quiet
        self._screen = screen_of(stream)
        self._last = -math.inf
        self._begun, self._first, self._step = time.monotonic(), 0, 0
        self._measured: list[str] = []  # what the last line of metrics said
        self._training = False
        if not quiet:
            self._screen.show(self)

    @property
    def fraction(self) -> float | None:
        """How much of the training is done, from 0 to 1; None while it is not going on."""
        return self._step / self._steps if self._training else None

    def begin(self, step: int) -> None:
        """Begins the line of training, which goes on from `step`."""
        self._begun, self._first, self._step, self._training = time.monotonic(), step, step, True

    def at(self, step: int) -> None:
        """Notes a step that was just given to the devices."""
        self._step = step

    def update(
        self, step: int, images_per_second: float, steps_per_second: float, metrics: Mapping[str, float]
    ) -> None:
        """Shows where the run is, and the losses; other metrics are left to the files."""
        losses = [f"{name} {value:.4g}" for name, value in metrics.items() if name.endswith("/loss")]
        left = duration((self._steps - step) / max(steps_per_second, 1e-9))
        self._measured = [*speeds(images_per_second, steps_per_second), f"{left} left", *losses]
        last = step >= self._steps
        self._step, self._training = max(step, self._step), not last
        if last or (not self._screen.live and time.monotonic() - self._last >= self._every):
            self.say("  ".join(self._done(step)))
        elif not self._quiet:
            self._screen.draw()

    def _done(self, step: int) -> list[str]:
        done = f"step {how_far(step, self._steps)}"
        if self._measured:
            return [done, *self._measured]
        rate = (step - self._first) / max(time.monotonic() - self._begun, 1e-9)
        return [done, speed(rate, "steps")] if rate else [done]

    def line(self, width: int) -> str:
        """Says how far the training is, with a clock that runs; "" while it is not going on."""
        if not self._training:
            return ""
        return with_clock(self._done(self._step), time.monotonic() - self._begun, width)

    def activity(self, text: str, announce: bool = False) -> AbstractContextManager[None]:
        """Shows what is done beside training, as `progress.activity` does."""
        return activity(text, announce, self._quiet, self._screen.stream)

    def say(self, text: str) -> None:
        """Writes a line of its own, above the live one."""
        self._last = time.monotonic()
        if not self._quiet:
            self._screen.say(text)

    def close(self) -> None:
        """Ends the live line and wipes it."""
        if not self._quiet:
            self._screen.hide(self)


def speeds(images_per_second: float, steps_per_second: float) -> list[str]:
    """Returns images a second, from 1 on, and seconds a step, where that is more than 1."""
    parts = [speed(images_per_second, "images")] if images_per_second >= 1 else []
    return [*parts, speed(max(steps_per_second, 1e-9), "steps")] if steps_per_second < 1 else parts
