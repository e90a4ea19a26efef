"""What a training page shows of a run that is still training: curves, grids, health, read from the run's folder."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

from imagegen_jax.core.files.json_lines import read_object
from imagegen_jax.core.reporting.health import Watch
from imagegen_jax.pages import reading
from imagegen_jax.pages.play.places import Place


def state_of(place: Place) -> dict[str, Any]:
    """Returns the step, the steps in all, curves, the newest grids, the warnings so far and whether all is healthy now.

    Lines that are half written are left out until they are whole.
    """
    folder = place.folder
    if folder is None:
        return {"step": 0, "steps": 0, "curves": {}, "grids": [], "health": [], "healthy": True}
    rows = _metrics(folder / "metrics.jsonl").read()
    grids = sorted(path.name for path in folder.glob("samples/*.png") if path.stem.isdecimal())
    watch = Watch()
    warnings = [warning for step, row in rows.items() for warning in watch.look(step, _numbers(row))]
    return {
        "step": max(rows, default=0),
        "steps": read_object(folder / "experiment.json").get("steps"),
        "curves": {name: reading.thin(points) for name, points in reading.points_of(rows.values()).items()},
        "grids": grids[-12:],
        "health": warnings[-20:],
        "healthy": watch.healthy,
        "when": _changed(folder),
    }


@functools.lru_cache(64)
def _metrics(path: pathlib.Path) -> reading.Growing:
    return reading.Growing(path)


def _numbers(row: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: value for name, value in row.items() if value is None or isinstance(value, (int, float))}


def _changed(folder: pathlib.Path) -> float | None:
    """Returns when a line of metrics was last written, in seconds since 1970."""
    try:
        return (folder / "metrics.jsonl").stat().st_mtime
    except OSError:
        return None
