"""The files of a run's metrics: metrics.jsonl and TensorBoard events, written at once and by the loop itself.

Each line and each event is one write to an unbuffered file. Nothing waits in a queue or for a thread, so a full disk is
an error of the step that meets it.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from imagegen_jax.core.files.regular import whole, write_whole
from imagegen_jax.core.reporting.trackers.tensorboard import Events


class LogError(OSError):
    """Nothing more can be written to a run's folder beside its checkpoints."""


@contextlib.contextmanager
def writing(folder: pathlib.Path, what: str, step: int, kept: Callable[[], str]) -> Iterator[None]:
    """Turns an OSError into a LogError of two lines: file, step, place and reason; and what work is `kept`."""
    try:
        yield
    except OSError as error:
        try:
            free = f" ({shutil.disk_usage(folder).free / 2**20:.0f} MiB free)"
        except OSError:
            free = ""
        raise LogError(
            f"step {step:,}: {what} could not be written to {folder}{free}: {error.strerror or error}\n"
            f"{kept()}; make room or make the folder writable, then give the same command again"
        ) from error


class MetricsLog:
    """Writes metrics.jsonl and TensorBoard events of a run, from the step at which it resumes."""

    def __init__(self, folder: pathlib.Path, step: int) -> None:
        """Drops lines after `step`, of a stopped attempt whose steps will be done again, and damaged lines.

        The numbers of damaged lines are in `damaged`.
        """
        self.path = folder / "metrics.jsonl"
        self.lines: list[dict[str, Any]] = []  # of the steps up to the one that the run goes on from
        self.damaged: list[int] = []  # numbers of lines, from 1
        if self.path.exists():
            found, self.damaged = read_lines(self.path)
            self.lines = [line for line in found if line["step"] <= step]
            with whole(self.path) as partial:
                partial.write_text("".join(map(_text, self.lines)))
        self._file = self.path.open("ab", buffering=0)
        self._line: dict[str, Any] = self.lines[-1] if self.lines else {}
        self._events = Events(folder / "tensorboard", step)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes one line of metrics; a second call for the same step replaces it by both. Raises OSError."""
        # JSON has no NaN: a value that is not finite is written as null
        found = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        old = self._line if self._line.get("step") == step else {"step": step, "time": time.time()}
        before = _text(old).encode() if old is self._line else b""
        self._line = old | found
        self._replace(before, _text(self._line).encode())
        self._events.write(step, metrics)

    def _replace(self, before: bytes, after: bytes) -> None:
        """Puts `after` at the end of the file, in place of `before`, which stays there if that fails."""
        start = self._file.seek(0, io.SEEK_END) - len(before)
        try:
            if before:
                self._file.truncate(start)
            write_whole(self._file, after)
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(start)
                write_whole(self._file, before)
            raise

    def image(self, step: int, grid: np.ndarray) -> None:
        """Writes a grid of samples [H W c], for TensorBoard. Raises OSError."""
        self._events.image(step, grid)

    def close(self) -> None:
        """Closes both files; nothing is left to be written."""
        self._file.close()
        self._events.close()


def _text(line: Mapping[str, Any]) -> str:
    return json.dumps(line) + "\n"


def read_lines(path: pathlib.Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Reads a file of metrics: its good lines, and the numbers of lines that are half written or otherwise damaged."""
    lines, damaged = [], []
    for number, text in enumerate(path.read_bytes().split(b"\n"), start=1):
        line = _line(text)
        if line is not None:
            lines.append(line)
        elif text.strip():
            damaged.append(number)
    return lines, damaged


def _line(text: bytes) -> dict[str, Any] | None:
    """Parses an object with a step, and beside it nothing but numbers and null; returns None for anything else."""
    try:
        line = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or type(line.get("step")) is not int or line["step"] < 0:
        return None
    good = all(value is None or type(value) in (int, float) for value in line.values())
    return line if good else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
