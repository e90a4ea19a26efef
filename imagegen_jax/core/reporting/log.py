"""What a run says while it goes on, on a live line or in plain ones, and facts about the machine."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from tqdm import tqdm

from imagegen_jax.core.files.regular import whole
from imagegen_jax.core.platform.packages import version
from imagegen_jax.core.platform.signals import let_go
from imagegen_jax.core.platform.target import platform_here

LONG = 5.0  # seconds: of what took longer it is said how long
CLEAR = "\x1b[K"  # wipes the rest of a terminal's line


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a JSON file whole or not at all. Raises OSError, naming it."""
    try:
        with whole(path) as partial:
            partial.write_text(json.dumps(value, indent=1) + "\n")
    except OSError as error:
        raise OSError(
            error.errno, f"{path} could not be written: {error.strerror}; make room or make it writable"
        ) from error


class Progress:
    """Shows how far a run is: a line that is redrawn each second on a terminal, and plain lines elsewhere.

    Any thread may use it. A stream that can no longer be written to, such as a closed terminal, ends nothing.
    """

    def __init__(self, steps: int, stream: Any = None, every: float = 10.0, quiet: bool = False) -> None:
        """Begins the live line on a terminal; elsewhere there are at least `every` seconds between two plain lines."""
        self._steps, self._stream, self._every, self._quiet = steps, stream or sys.stderr, every, quiet
        self._live = not quiet and self._stream.isatty()
        self._last, self._lock, self._closed = -math.inf, threading.RLock(), threading.Event()
        self._activities: dict[object, tuple[str, float]] = {}  # what is done now, and since when
        self._begun, self._first, self._step = time.monotonic(), 0, 0
        self._measured = ""  # what the last line of metrics said
        self._training = False
        if self._live:
            threading.Thread(target=self._tick, daemon=True, name="progress").start()

    def _tick(self) -> None:
        while not self._closed.wait(1.0):
            self._draw()

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
        losses = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name.endswith("/loss"))
        left = duration((self._steps - step) / max(steps_per_second, 1e-9))
        self._measured = f"{speed(images_per_second, steps_per_second)}  {left} left  {losses}"
        last = step >= self._steps
        self._step, self._training = max(step, self._step), not last
        if last or (not self._live and time.monotonic() - self._last >= self._every):
            self.say(self._done(step))
        else:
            self._draw()

    def _done(self, step: int) -> str:
        done = f"step {step:,} of {self._steps:,} ({100 * step / self._steps:3.0f} %)"
        if self._measured:
            return f"{done}  {self._measured}"
        rate = (step - self._first) / max(time.monotonic() - self._begun, 1e-9)
        return f"{done}  {rate:.0f} steps/s" if rate >= 1 else f"{done}  {1 / rate:.1f} s/step" if rate else done

    @contextlib.contextmanager
    def activity(self, text: str, announce: bool = False) -> Iterator[None]:
        """Shows what is done beside training, with a running clock; afterwards says how long it took, if that was long.

        With `announce`, a plain line says it when it begins, too.
        """
        key, since = object(), time.monotonic()
        with self._lock:
            self._activities[key] = text, since
        if announce and not self._live:
            self.say(text)
        self._draw()
        try:
            yield
        finally:
            with self._lock:
                del self._activities[key]
            took = time.monotonic() - since
            if took >= LONG:
                self.say(f"{text}: {duration(took)}")
            self._draw()

    def say(self, text: str) -> None:
        """Writes a line of its own, above the live one."""
        self._last = time.monotonic()
        below = f"\r{self.line()}" if self._live else ""
        self._write(f"\r{text}{CLEAR}\n{below.rstrip()}" if self._live else text + "\n")

    def _draw(self) -> None:
        if self._live and not self._closed.is_set():
            self._write(f"\r{self.line()}{CLEAR}")

    def line(self) -> str:
        """Returns the live line as it is now, of at most the terminal's width; its clocks change each second."""
        with contextlib.suppress(OSError, ValueError):
            columns = os.get_terminal_size(self._stream.fileno()).columns or 80
            return self._line(columns - 1)
        return self._line(200)

    def _line(self, width: int) -> str:
        now = time.monotonic()
        with self._lock:
            doing = [(text, clock(now - since)) for text, since in reversed(self._activities.values())]
        parts = [f"{text[: width - len(time) - 1]} {time}" for text, time in doing]
        if not self._training:
            return " | ".join(parts)[:width]
        training, running = self._done(self._step), clock(now - self._begun)
        if parts:
            return " | ".join([*parts, training])[:width]
        return f"{training[: width - len(running) - 2]}  {running}"

    def _write(self, text: str) -> None:
        """Writes text around progress bars that a part of the work may show meanwhile, so that these run on too."""
        if self._quiet:
            return
        try:
            with self._lock, tqdm.external_write_mode(self._stream):
                self._stream.write(text)
                self._stream.flush()
        except (OSError, ValueError):
            self._quiet = True
            let_go(self._stream)

    def close(self) -> None:
        """Ends the live line and wipes it."""
        self._closed.set()
        if self._live:
            self._write(f"\r{CLEAR}")


def speed(images_per_second: float, steps_per_second: float) -> str:
    """Returns images a second, from 1 on, and seconds a step, where that is more than 1."""
    parts = [f"{images_per_second:,.0f} images/s"] if images_per_second >= 1 else []
    return "  ".join(parts + ([f"{1 / max(steps_per_second, 1e-9):.1f} s/step"] if steps_per_second < 1 else []))


def clock(seconds: float) -> str:
    """Returns a time as 0:34, 12:05 or 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def duration(seconds: float) -> str:
    """Returns a time as 1 h 02 min, 3 min 20 s or 15 s."""
    seconds = int(min(seconds, 10**8))
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds // 60 % 60:02d} min"
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"


def environment() -> dict[str, Any]:
    """Returns the versions, devices and git commit that a run is made with."""
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
        "backend": platform_here(),
        "devices": kinds,
        "processes": jax.process_count(),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changed_files": (_git("status", "--porcelain", "--untracked-files=no") or "").splitlines(),
    }


def _git(*arguments: str) -> str | None:
    """Returns what git says of the folder that this package lies in; None where that is no checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(pathlib.Path(__file__).parent), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
