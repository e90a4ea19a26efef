"""Seconds of a step, and what part of a device's peak its operations are."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

BLOCKS = 5  # of steps, whose median is told, so that one that is disturbed does not count


def mfu(flops: float, seconds: float, peak: float, devices: int = 1) -> float:
    """The share (0 to 1) of the `peak` FLOP/s of each of so many devices that `flops` on all in `seconds` are."""
    return flops / (seconds * peak * devices)


def timed(take: Callable[[int], Any], budget: float) -> dict[str, Any]:
    """Seconds a step where `take(n)` takes n steps and waits for them: of some blocks within about `budget` seconds."""
    take(1)  # the first allocates
    begun = time.perf_counter()
    take(1)
    one = time.perf_counter() - begun
    steps = max(1, int(budget / BLOCKS / max(one, 1e-6)))
    seconds = []
    for _ in range(BLOCKS):
        begun = time.perf_counter()
        take(steps)
        seconds.append((time.perf_counter() - begun) / steps)
    return {
        "seconds": statistics.median(seconds),
        "fastest_seconds": min(seconds),
        "slowest_seconds": max(seconds),
        "steps": BLOCKS * steps,
    }
