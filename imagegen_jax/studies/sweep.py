"""Sweeps: one experiment with other values of some fields, each with several seeds, trained and compared as a study."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from imagegen_jax.core.config.override import override
from imagegen_jax.core.config.serial import fields_of, has_fields
from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.files.claim import RunFolderError
from imagegen_jax.core.reporting.curves import is_loss, read_curves
from imagegen_jax.core.reporting.trackers.tracker import Tracking
from imagegen_jax.core.run import Run, load
from imagegen_jax.studies.comparing import LAST, Comparison, compare
from imagegen_jax.studies.training import Member, train_all

Path = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True, repr=False)
class Study:
    """Runs that belong together, below one folder; `failed` says of each that ended early why it did."""

    workdir: pathlib.Path
    folders: Mapping[str, pathlib.Path]  # name -> run folder
    failed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    modules: tuple[str, ...] = ()  # that classes of users' own come from
    experiments: Mapping[str, Experiment] = dataclasses.field(default_factory=dict)  # where they are known

    @functools.cached_property
    def runs(self) -> dict[str, Run]:
        """The finished runs by name, opened when they are first asked for."""
        finished = {name: path for name, path in self.folders.items() if name not in self.failed}
        return {name: load(path, self.modules, self.experiments.get(name)) for name, path in finished.items()}

    def compare(self, *metrics: str, last: float = LAST, pairs: bool = False) -> Comparison:
        """Compares the runs: see `studies.comparing.compare`. In a notebook it draws curves, with bands over seeds."""
        return compare([path for name, path in self.folders.items() if name not in self.failed], metrics, last, pairs)

    def __repr__(self) -> str:
        lines = []
        for name, path in itertools.islice(self.folders.items(), 20):
            curves = read_curves(path)
            losses = [f"{n} {c.last:.4g}" for n, c in curves.items() if is_loss(n)][:2]
            lines.append(
                f"  {name}: {'failed, ' + self.failed[name] if name in self.failed else '  '.join(losses)}"[:150]
            )
        more = [f"  and {len(self.folders) - 20} more"] if len(self.folders) > 20 else []
        return "\n".join([f"study of {len(self.folders)} runs in {str(self.workdir)[-200:]}", *lines, *more])


def sweep(
    experiment: Experiment,
    over: Mapping[str, Sequence[Any]] | None = None,
    seeds: int | Sequence[int] = 1,
    workdir: Path | None = None,
    together: int | None = None,
    processes: int = 1,
    quiet: bool = False,
    track: Sequence[str | Tracking] = (),
) -> Study:
    """Trains an experiment with each combination of values, `over` = {"optim.network.lr": [1e-4, 1e-3]}, and each seed.

    `seeds` is their number, from the experiment's own on, or the seeds themselves. Each run has a folder below
    `workdir`, and goes on from where it was; finished ones are left as they are. Runs follow one another in this
    process, where equal programs are compiled once; `together` seeds of one combination are trained side by side by one
    program, as many as the memory holds (None: one on CPUs, all elsewhere). With `processes` each has a process of its
    own, so many at a time. A run that fails does not stop the others. Raises ValueError and TypeError, before anything
    is trained, for values that an experiment cannot have.
    """
    members = members_of(experiment, over or {}, seeds)
    place = pathlib.Path(tempfile.mkdtemp(prefix="imagegen_study_") if workdir is None else workdir)
    return train_study(members, place, together, processes, quiet, track)


def train_study(
    members: Sequence[Member],
    workdir: pathlib.Path,
    together: int | None = None,
    processes: int = 1,
    quiet: bool = False,
    track: Sequence[str | Tracking] = (),
) -> Study:
    """Trains members, each in its folder; see `sweep`. Raises ValueError where numbers are out of range."""
    for name, value in (("together", together), ("processes", processes)):
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}: must be at least 1")
    if processes > 1 and (together or 1) > 1:
        raise ValueError(f"together={together}, processes={processes}: seeds are side by side in one process alone")
    failed = train_all(members, workdir, together, processes, quiet, track)
    for name, why in failed.items():
        print(f"failed: {name}: {why}", file=sys.stderr)
    folders = {member.name: workdir / member.name for member in members}
    return Study(workdir, folders, failed, experiments={member.name: member.experiment for member in members})


def members_of(
    experiment: Experiment, over: Mapping[str, Sequence[Any]], seeds: int | Sequence[int]
) -> tuple[Member, ...]:
    """Returns the members of a sweep: all combinations of values, each with all seeds.

    Raises ValueError for a field without values and for seeds that are none, and what `override` raises.
    """
    for field, values in over.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ValueError(f"over[{field!r}]={values!r}: give a list of at least one value")
    variants = [
        Variant(dict(zip(over, values, strict=True))) for values in itertools.product(*over.values())
    ]  # fmt: skip
    return with_seeds([(v.name, override(experiment, v.changes)) for v in variants], seeds)


def with_seeds(variants: Sequence[tuple[str, Experiment]], seeds: int | Sequence[int]) -> tuple[Member, ...]:
    """Returns each variant, of a name and an experiment, with each seed. Raises ValueError where there are none."""
    if isinstance(seeds, int) and seeds < 1:
        raise ValueError(f"seeds={seeds}: at least 1, or a list of them")
    found = []
    for name, experiment in variants:
        chosen = range(experiment.seed, experiment.seed + seeds) if isinstance(seeds, int) else seeds
        if len(set(chosen)) != len(chosen) or not len(chosen):
            raise ValueError(f"seeds={list(chosen)}: give each once, and at least one")
        for seed in chosen:
            folder = f"{name}_seed{seed}" if name else f"seed{seed}"
            found.append(Member(folder, name, dataclasses.replace(experiment, seed=int(seed), name=folder)))
    names = [member.name for member in found]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two runs would have the folder {twice}: give values that can be told apart")
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class Variant:
    """Values of some fields, by dotted names."""

    changes: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of its folder: "lr=0.001_weighting=Uniform"."""
        ends = [field.rpartition(".")[2] for field in self.changes]
        shown = {f: e if ends.count(e) == 1 else f for f, e in zip(self.changes, ends, strict=True)}
        return "_".join(f"{shown[field]}={word_of(value)}" for field, value in self.changes.items())


def word_of(value: Any) -> str:
    """Writes a value so that it can be part of a file's name: 0.001, Uniform, 1-2-2."""
    if has_fields(value):
        kept = [
            f"{field.name}{word_of(getattr(value, field.name))}"
            for field in fields_of(value)
            if field.default is not dataclasses.MISSING and getattr(value, field.name) != field.default
        ]
        return "-".join([type(value).__name__, *kept])[:60]
    if isinstance(value, (tuple, list)):
        return "-".join(map(word_of, value))
    return re.sub(r"[^\w.+-]+", "-", f"{value:g}" if isinstance(value, float) else str(value))[:60]


def load_study(workdir: Path, modules: Sequence[str] = ()) -> Study:
    """Opens the runs below a folder as a study. Raises RunFolderError where there are none."""
    place = pathlib.Path(workdir)
    found = {path.parent.name: path.parent for path in sorted(place.glob("*/experiment.json"))}
    if not found:
        raise RunFolderError(f"{place} holds no runs: give the folder that a sweep has made")
    return Study(place, found, modules=tuple(modules))
