"""Runs sorted by what differs between them: those that differ in their seeds alone are one group."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from imagegen_jax.core.checkpoints.run_files import load_experiment_dict
from imagegen_jax.core.config.serial import flatten
from imagegen_jax.core.run_folder import load_contents
from imagegen_jax.core.training.side_by_side import FREE

_NOT_COMPARED = (
    "log_every", "sample_every", "samples", "checkpoint_every", "keep_checkpoints", "snapshots",
)  # fmt: skip
_ABSENT = "-"  # in the place of a field that a group's experiment does not have


@dataclasses.dataclass(frozen=True)
class Group:
    """Seeds of one experiment."""

    label: str  # what is different about it, in short
    fields: Mapping[str, Any]  # the fields in which groups differ, by dotted names
    folders: Mapping[int, pathlib.Path]  # seed -> run folder

    @property
    def seeds(self) -> tuple[int, ...]:
        """Its seeds in order."""
        return tuple(self.folders)


def groups_of(runs: Sequence[str | os.PathLike[str]]) -> tuple[Group, ...]:
    """Sorts run folders into groups, in the order in which they are given.

    What a run draws and how often it writes does not count. Raises RunFolderError where one is no run folder, and
    ValueError where two have the same seed and experiment, or there are none.
    """
    found: dict[str, dict[int, pathlib.Path]] = {}
    known: dict[str, dict[str, Any]] = {}
    for folder in map(pathlib.Path, runs):
        flat = dict(flatten(load_experiment_dict(folder)))
        seed = flat.get("seed", 0)
        fields = {name: value for name, value in flat.items() if name.split(".")[0] not in (*FREE, *_NOT_COMPARED)}
        fields |= {f"data.content.{name}": digest[:12] for name, digest in load_contents(folder).items()}
        key = json.dumps(fields, sort_keys=True)
        known[key] = fields
        seeds = found.setdefault(key, {})
        if seed in seeds:
            raise ValueError(f"{seeds[seed]} and {folder} are one experiment with one seed, {seed}: leave one out")
        seeds[seed] = folder
    if not found:
        raise ValueError("no runs to compare: give their folders")
    differing = _differing(list(known.values()))
    groups = [
        Group("", {name: known[key].get(name, _ABSENT) for name in differing}, dict(sorted(seeds.items())))
        for key, seeds in found.items()
    ]
    labels = _labels(groups)
    return tuple(dataclasses.replace(group, label=label) for group, label in zip(groups, labels, strict=True))


def _differing(experiments: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the names of fields that not all have the same."""
    names = dict.fromkeys(name for fields in experiments for name in fields)
    return [name for name in names if len({repr(fields.get(name, _ABSENT)) for fields in experiments}) > 1]


def _labels(groups: Sequence[Group]) -> list[str]:
    """Labels each group by its fields, as shortly as keeps them apart; a single one by its folder."""
    if len(groups) == 1:
        return [next(iter(groups[0].folders.values())).resolve().name]
    names = list(groups[0].fields)
    choosing = [name for name in names if name.endswith(".class")] or names
    for chosen in ([names[0]], choosing, names):
        labels = [", ".join(_said(name, group.fields[name]) for name in chosen) for group in groups]
        if len(set(labels)) == len(labels) and max(map(len, labels)) <= 60:
            return labels
    return [", ".join(sorted({path.resolve().name for path in group.folders.values()})) for group in groups]


def _said(name: str, value: Any) -> str:
    parts = [part for part in name.split(".") if part != "class"]
    if name.endswith(".class"):
        value = str(value).rpartition(":")[2]
    return f"{parts[-1] if parts else name}={value:.4g}" if isinstance(value, float) else f"{parts[-1]}={value}"
