"""Entries of the ledger: one measured run each, a line of JSON, written as the run is done."""

from __future__ import annotations

import json
import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from imagegen_jax import Experiment
from imagegen_jax.core.files.regular import whole
from imagegen_jax.metrics.student import t_quantile

from .experiments import changed, fingerprint, values_of

Entry = Mapping[str, Any]
FOLDER = pathlib.Path(__file__).resolve().parent.parent / "results"
RUNS = "ledger_runs.jsonl"  # entries
EXPERIMENTS = "ledger_experiments.json"  # what they were measured of, by fingerprint


class Interval(NamedTuple):
    """Where a score of one more run is expected, in 95 of 100 cases; and how that is known."""

    low: float
    high: float
    how: str

    def judged(self, value: float) -> str:
        """Says "within", or "outside, by so much"."""
        if self.low <= value <= self.high:
            return "within"
        return f"outside, by {max(self.low - value, value - self.high):.3g}"


def read(folder: pathlib.Path = FOLDER) -> list[Entry]:
    """Returns all entries, the oldest first; [] where there are none yet."""
    path = folder / RUNS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def experiments(folder: pathlib.Path = FOLDER) -> dict[str, Any]:
    """Returns what entries and figures were measured of: fingerprint -> values."""
    path = folder / EXPERIMENTS
    return json.loads(path.read_text()) if path.exists() else {}


def keep(values: Mapping[str, Any], name: str, folder: pathlib.Path = FOLDER) -> None:
    """Keeps what something was measured of, under its fingerprint."""
    found = experiments(folder)
    if name not in found:
        with whole(folder / EXPERIMENTS) as partial:
            lines = [f" {json.dumps(key)}: {json.dumps(of)}" for key, of in sorted({**found, name: values}.items())]
            partial.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def append(entry: Entry, folder: pathlib.Path = FOLDER) -> None:
    """Adds an entry, in the place of an older one of the same recipe, experiment and seed."""
    kept = [old for old in read(folder) if _key(old) != _key(entry)]
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / RUNS) as partial:
        partial.write_text("".join(json.dumps(of) + "\n" for of in [*kept, entry]))


def _key(entry: Entry) -> tuple[Any, ...]:
    return entry["recipe"], entry["experiment"], entry["seed"]


def of_experiment(name: str, experiment: Experiment | None = None, folder: pathlib.Path = FOLDER) -> list[Entry]:
    """Returns the newest entry of each seed that was measured of a recipe as it is now, or of a changed one.

    Fields that came since, at their defaults, are no change.
    """
    found = [entry for entry in read(folder) if entry["recipe"] == name]
    stored, now = experiments(folder), fingerprint(values_of(name, experiment))
    same = {now} | {of for of, values in stored.items() if name in values and not changed(values, name, experiment)}
    return list({entry["seed"]: entry for entry in found if entry["experiment"] in same}.values())


def expected(entries: Sequence[Entry], score: str) -> Interval | None:
    """Returns where a score of one more seed is expected; None where no entry has it.

    Of several seeds it is Student's prediction interval, mean +- t s sqrt(1 + 1/n), which a new run of the same
    experiment leaves in 5 of 100 cases; of one seed it is the interval of that run's own score, which knows nothing of
    what other seeds do, and is therefore too narrow.
    """
    found = [entry["scores"][score] for entry in entries if score in entry["scores"]]
    if not found:
        return None
    values = [of["value"] for of in found]
    if len(values) == 1:
        (only,) = found
        if only.get("low") is None:
            return Interval(values[0], values[0], "one seed, whose score has no interval")
        return Interval(only["low"], only["high"], "the interval of one seed's own score")
    half = t_quantile(len(values) - 1, 0.975) * statistics.stdev(values) * math.sqrt(1 + 1 / len(values))
    mean = statistics.mean(values)
    return Interval(mean - half, mean + half, f"prediction interval of {len(values)} seeds")
