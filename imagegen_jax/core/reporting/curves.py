"""The metrics of a run as curves, read from its folder: `run.metrics["loss"]` has steps and values."""

from __future__ import annotations

import difflib
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from imagegen_jax.core.reporting.metrics_log import read_lines


class Curve(NamedTuple):
    """Values of one metric, in the order of their steps; NaN where one was not finite."""

    steps: Int64[np.ndarray, " n"]
    values: Float64[np.ndarray, " n"]

    @property
    def last(self) -> float:
        """The newest value."""
        return float(self.values[-1])


class Curves(Mapping[str, Curve]):
    """Curves by the names of their metrics, such as "critic/loss"; the end of a name will do where one alone has it."""

    def __init__(self, curves: Mapping[str, Curve], of: str = "this run") -> None:
        self._curves, self._of = dict(curves), of

    def __getitem__(self, name: str) -> Curve:
        """Returns a curve. Raises KeyError, with the nearest names, where none or several have this one."""
        return self._curves[self.full_name(name)]

    def full_name(self, name: str) -> str:
        """Returns the whole name of the one metric that has this name or this end. Raises KeyError for others."""
        ends = [known for known in self._curves if known.endswith(f"/{name}")]
        if name in self._curves or len(ends) == 1:
            return name if name in self._curves else ends[0]
        near = ends or difflib.get_close_matches(name, self._curves, n=3, cutoff=0.4) or list(self._curves)
        which = f"several end so: {', '.join(near)}" if ends else f"it has {', '.join(near) or 'none yet'}"
        raise _NoMetric(f"{self._of} has no metric {name!r}; {which}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._curves)

    def __len__(self) -> int:
        return len(self._curves)

    def __repr__(self) -> str:
        width = max(map(len, self._curves), default=0)
        lines = [f"  {n:{width}}  {len(c.steps):5,} values, last {c.last:.4g}" for n, c in list(self.items())[:20]]
        more = [f"  and {len(self) - 20} more"] if len(self) > 20 else []
        return "\n".join([f"metrics of {self._of}:", *(lines or ["  none yet"]), *more])


class _NoMetric(KeyError):
    """A KeyError whose message is shown as it is."""

    def __str__(self) -> str:
        return str(self.args[0])


def read_curves(folder: str | os.PathLike[str]) -> Curves:
    """Reads the curves of the run in a folder; none where it has not written any."""
    path = pathlib.Path(folder) / "metrics.jsonl"
    lines = read_lines(path)[0] if path.is_file() else []
    return Curves(curves_of({line["step"]: line for line in lines}.values()), str(folder))


def is_loss(name: str) -> bool:
    """Tells whether a metric is a loss, by its whole name: "loss" or "critic/loss"."""
    return name.split("/")[-1] == "loss"


def curves_of(lines: Iterable[Mapping[str, Any]]) -> dict[str, Curve]:
    """Collects curves from lines of metrics, each with its "step"; what is null, since JSON has no NaN, is NaN."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in sorted(lines, key=lambda line: line["step"]):
        for name, value in line.items():
            if name not in ("step", "time"):
                found.setdefault(name, []).append((line["step"], np.nan if value is None else value))
    return {
        name: Curve(np.array([s for s, _ in points], np.int64), np.array([v for _, v in points], np.float64))
        for name, points in found.items()
    }
