"""A trace of some training steps, for xprof and Perfetto, and from it the operations that take longest."""

from __future__ import annotations

import contextlib
import gzip
import json
import pathlib
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import jax

from imagegen_jax.core.reporting.log import write_json
from imagegen_jax.core.reporting.training_progress import TrainingProgress

FOLDER, FILE = "profile", "profile.json"
MOST = 20  # operations that are kept
_NUMBER = re.compile(r"\.\d+(\.\d+)*$")  # that XLA adds to the name of an operation


def parse_profile(text: str) -> tuple[int, int]:
    """Reads "FROM:TO", the first and the last step to trace, both counted from 1. Raises ValueError for others."""
    first, colon, last = text.partition(":")
    if not colon or not first.isdecimal() or not last.isdecimal() or not 1 <= int(first) <= int(last):
        raise ValueError(f"profile {text!r}: give the first and the last step to trace, such as 20:25")
    return int(first), int(last)


class Tracer:
    """Traces some steps of a run to its folder; does nothing where none are asked for."""

    def __init__(self, workdir: pathlib.Path, steps: tuple[int, int] | None, progress: TrainingProgress) -> None:
        """Waits for the first of `steps`, (first, last), both counted from 1."""
        self._folder, self._steps, self._progress = workdir, steps, progress
        self._traces = False

    def at(self, step: int, state: Any) -> None:
        """Begins or ends the trace where it is due, `step` steps having been taken; `state` is what they made."""
        if self._steps is None:
            return
        first, last = self._steps
        if not self._traces and first <= step + 1 <= last:
            jax.block_until_ready(state)
            shutil.rmtree(self._folder / FOLDER, ignore_errors=True)
            jax.profiler.start_trace(str(self._folder / FOLDER), create_perfetto_trace=True)
            self._traces, self._steps = True, (step + 1, last)
        elif step >= last and self._traces:
            jax.block_until_ready(state)
            self.close(step)
        elif step >= last:
            self._steps = None
            self._progress.say(f"warning: steps {first:,} to {last:,} lie behind step {step:,}: none is traced")

    def marked(self, step: int) -> AbstractContextManager[Any]:
        """Marks what is done for a step in the trace, so that xprof knows where it begins."""
        return jax.profiler.StepTraceAnnotation("train", step_num=step) if self._traces else contextlib.nullcontext()

    def close(self, step: int | None = None) -> None:
        """Ends a trace; after its last step, keeps the largest operations for the report."""
        if not self._traces:
            return
        assert self._steps is not None
        steps, self._traces, self._steps = self._steps, False, None
        try:
            with self._progress.activity("writing the trace"):
                jax.profiler.stop_trace()
                if step is not None:
                    self._keep_operations(*steps)
        except Exception as error:  # a full disk, a trace of another form: no reason to end a training
            self._progress.say(f"warning: the trace in {self._folder / FOLDER} could not be written or read: {error}")

    def _keep_operations(self, first: int, last: int) -> None:
        found = operations(self._folder, last - first + 1)
        write_json(self._folder / FILE, {"from": first, "to": last, **found})
        self._progress.say(
            f"traced steps {first:,} to {last:,}: {self._folder / FOLDER} (xprof --logdir, or "
            "perfetto_trace.json.gz in https://ui.perfetto.dev)"
        )


def operations(folder: pathlib.Path, steps: int) -> dict[str, Any]:
    """Sums the times of the operations in a run's trace by name: the largest, in milliseconds a step.

    Operations that run at the same time on several threads or devices count each.
    """
    sums: dict[str, list[float]] = {}
    for event in _device_events(folder / FOLDER):
        name = _NUMBER.sub("", event["name"])
        of_name = sums.setdefault(name, [0.0, 0.0])
        of_name[0] += event["dur"] / 1_000
        of_name[1] += 1
    total = sum(time for time, _ in sums.values())
    largest = sorted(sums.items(), key=lambda item: -item[1][0])[:MOST]
    return {
        "total_ms": round(total / steps, 4),
        "operations": [
            {"name": name, "ms": round(time / steps, 4), "share": round(time / total, 4), "calls": calls / steps}
            for name, (time, calls) in largest
        ],
    }


def _device_events(folder: pathlib.Path) -> Iterator[Mapping[str, Any]]:
    """Yields the events of operations: those with an `hlo_op`, on the threads of XLA or the lines of a device."""
    traces = sorted(folder.glob("**/*.trace.json.gz"))
    if not traces:
        return
    with gzip.open(traces[-1], "rt", encoding="utf-8", errors="replace") as file:
        events = json.load(file).get("traceEvents", [])
    for event in events:
        if event.get("ph") == "X" and "hlo_op" in event.get("args", {}) and not _contains_others(event["name"]):
            yield event


def _contains_others(name: str) -> bool:
    """Tells whether an operation is one that others run within, whose time would count twice."""
    return _NUMBER.sub("", name) in ("while", "conditional", "call", "async-start", "async-done")
