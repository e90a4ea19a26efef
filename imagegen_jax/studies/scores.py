"""Scores that runs keep of their evaluations, told apart by how they were measured."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from imagegen_jax.core.files.json_lines import read_objects
from imagegen_jax.metrics.card import MEASUREMENT

_OF_A_RUN = ("metric", "images", "seed")  # parts of a measurement that comparable scores need not share
_CONDITIONS = tuple(name for name in MEASUREMENT if name not in _OF_A_RUN)

Key = tuple[str, ...]  # the metric, then the conditions of its measurement in words


def scores_of(folders: Iterable[pathlib.Path]) -> dict[pathlib.Path, dict[str, float]]:
    """Reads the newest score of each measurement of each run, by the metric's name.

    Where runs were measured in several ways, such as with other numbers of samples, the name says which of them it is:
    "FID [samples 2000]". Damaged lines are passed over.
    """
    found = {folder: _newest(folder) for folder in folders}
    names = _names({key for scores in found.values() for key in scores})
    return {folder: {names[key]: value for key, value in scores.items()} for folder, scores in found.items()}


def _newest(folder: pathlib.Path) -> dict[Key, float]:
    newest: dict[Key, tuple[str, float]] = {}
    for card in read_objects(folder / "evaluations.jsonl"):
        try:
            key = (str(card["metric"]), *(str(card.get(name)) for name in _CONDITIONS))
            time, value = str(card["time"]), float(card["value"])
        except (ValueError, TypeError, KeyError):
            continue
        if key not in newest or time >= newest[key][0]:
            newest[key] = (time, value)
    return {key: value for key, (_, value) in newest.items()}


def _names(keys: Iterable[Key]) -> Mapping[Key, str]:
    """Names each measurement: by its metric, and by the conditions in which those of one metric differ."""
    of_metric: dict[str, list[Key]] = {}
    for key in sorted(keys):
        of_metric.setdefault(key[0], []).append(key)
    names: dict[Any, str] = {}
    for metric, alike in of_metric.items():
        differ = [i for i in range(len(_CONDITIONS)) if len({key[i + 1] for key in alike}) > 1]
        for key in alike:
            said = ", ".join(f"{_CONDITIONS[i]} {key[i + 1]}" for i in differ)
            names[key] = f"{metric} [{said}]" if said else metric
    return names
