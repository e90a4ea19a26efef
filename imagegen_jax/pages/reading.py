"""What pages read of a run's folder, whole or not: metrics as curves, and files that a killed run left in half."""

from __future__ import annotations

import math
import pathlib
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from imagegen_jax.core.files.json_lines import objects_of, read_objects
from imagegen_jax.core.reporting.curves import is_loss

POINTS = 1_000  # points of a curve at most
TAIL = 256  # bytes by which a file that was added to is told from one that was written anew

Point = tuple[int, float]  # step, value


def read_metrics(path: pathlib.Path) -> dict[int, dict[str, Any]]:
    """Reads the line of metrics of each step, in the order of steps."""
    return dict(sorted(_by_step(read_objects(path)).items()))


def _by_step(lines: Iterable[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {line["step"]: line for line in lines if isinstance(line.get("step"), int)}


class Growing:
    """The metrics of a file that is still written: each look reads what was added, or all where it was written anew."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._end, self._tail, self._rows = 0, b"", dict[int, dict[str, Any]]()

    def read(self) -> dict[int, dict[str, Any]]:
        """Returns the line of metrics of each step, in the order of steps, of all lines that are whole."""
        with self._lock:
            try:
                with self._path.open("rb") as file:
                    file.seek(self._end - len(self._tail))
                    if file.read(len(self._tail)) != self._tail:
                        self._forget()
                        file.seek(0)
                    added = file.read()
            except OSError:
                self._forget()
                added = b""
            whole = added[: added.rfind(b"\n") + 1]
            self._end, self._tail = self._end + len(whole), (self._tail + whole)[-TAIL:]
            self._rows |= _by_step(objects_of(whole.decode("utf-8", "replace")))
            return dict(sorted(self._rows.items()))


def points_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Point]]:
    """Collects the finite values of each metric by step: losses first, then other metrics, the speed last."""
    curves: dict[str, list[Point]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in ("step", "time") and isinstance(value, (int, float)) and abs(value) < math.inf:
                curves.setdefault(name, []).append((row["step"], value))
    return dict(sorted(curves.items(), key=lambda item: (item[0] == "images_per_second", not is_loss(item[0]))))


def thin(points: list[Point], most: int = POINTS) -> list[Point]:
    """Keeps at most `most` points: both ends, and the lowest and highest of each stretch, so that no spike is lost."""
    if len(points) <= most:
        return points
    n = (most - 2) // 2
    stretches = [points[i * len(points) // n : (i + 1) * len(points) // n] for i in range(n)]
    extremes = {choose(stretch, key=lambda point: point[1]) for stretch in stretches for choose in (min, max)}
    return sorted(extremes | {points[0], points[-1]})
