"""What a run writes while it goes on: a live line, metrics.jsonl, TensorBoard events, facts about the machine."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.replace(path)


class MetricsLog:
    """metrics.jsonl and TensorBoard events of a run, from the step on that it resumes at."""

    def __init__(self, folder: pathlib.Path, step: int) -> None:
        """Lines after `step`, of a stopped attempt whose steps will be done again, are dropped."""
        from tensorboardX import SummaryWriter

        self.path = folder / "metrics.jsonl"
        self.lines: list[dict[str, Any]] = []  # of the steps up to the one that the run goes on from
        if self.path.exists():
            self.lines = [line for line in _whole_lines(self.path) if line["step"] <= step]
            partial = self.path.with_suffix(".partial")
            partial.write_text("".join(map(self._text, self.lines)))
            partial.replace(self.path)
        self._file = self.path.open("a")
        self._line: dict[str, Any] = self.lines[-1] if self.lines else {}
        self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line of metrics; what a step adds to its line later replaces it."""
        # JSON has no NaN: a value that is not finite is written as null
        found = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        if self._line.get("step") == step:
            self._file.truncate(self._file.tell() - len(self._text(self._line).encode()))
            self._file.seek(0, os.SEEK_END)
            self._line |= found
        else:
            self._line = {"step": step, "time": time.time(), **found}
        self._file.write(self._text(self._line))
        self._file.flush()
        for name, value in metrics.items():
            self._events.add_scalar(name, value, step)

    @staticmethod
    def _text(line: Mapping[str, Any]) -> str:
        return json.dumps(line) + "\n"

    def image(self, step: int, grid: np.ndarray) -> None:
        """A grid of samples [H W c], for TensorBoard."""
        self._events.add_image("samples", grid, step, dataformats="HWC")

    def close(self) -> None:
        """Ends both files."""
        self._file.close()
        self._events.close()


def _whole_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of a JSON lines file; what a killed run left half written is dropped."""
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


class Progress:
    """A line that is redrawn on a terminal, and plain lines elsewhere."""

    def __init__(self, steps: int, stream: Any = None, every: float = 10.0) -> None:
        """`every`: seconds between two plain lines at least."""
        self._steps, self._stream, self._every = steps, stream or sys.stderr, every
        self._live = self._stream.isatty()
        self._last, self._width = -math.inf, 0

    def update(
        self, step: int, images_per_second: float, steps_per_second: float, metrics: Mapping[str, float]
    ) -> None:
        """Shows where the run is; the losses are shown, other metrics are left to the files."""
        losses = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name.endswith("/loss"))
        left = duration((self._steps - step) / max(steps_per_second, 1e-9))
        done = f"step {step:,} of {self._steps:,} ({100 * step / self._steps:3.0f} %)"
        text = f"{done}  {images_per_second:,.0f} images/s  {left} left  {losses}"
        self._show(text, last=step >= self._steps)

    def _show(self, text: str, last: bool) -> None:
        if self._live:
            self._stream.write("\r" + text.ljust(self._width) + ("\n" if last else ""))
            self._width = len(text)
        elif last or time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self._stream.write(text + "\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """A line of its own, above the live one."""
        self._stream.write(("\r" + text.ljust(self._width) if self._live else text) + "\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """1 h 02 min, 3 min 20 s or 15 s."""
    seconds = int(min(seconds, 10**8))
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds // 60 % 60:02d} min"
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"


def environment() -> dict[str, Any]:
    """Versions, devices and the git commit that a run is made with."""
    packages = ("imagegen_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")
    kinds: dict[str, int] = {}
    for device in jax.devices():
        kinds[device.device_kind] = kinds.get(device.device_kind, 0) + 1
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "versions": {name: version(name) for name in packages},
        "backend": jax.default_backend(),
        "devices": kinds,
        "processes": jax.process_count(),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changed_files": (_git("status", "--porcelain", "--untracked-files=no") or "").splitlines(),
    }


def version(package: str) -> str | None:
    """The installed version of a package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """What git says of the folder that this package lies in; None where that is no checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(pathlib.Path(__file__).parent), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
