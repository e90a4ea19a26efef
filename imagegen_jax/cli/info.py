"""`imagegen info`: parameter counts and memory of an experiment or a run, without memory of its own."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from imagegen_jax.cli.runs import without_each
from imagegen_jax.core import program, summary
from imagegen_jax.core.experiment import Experiment, Rows, rows_of_model
from imagegen_jax.core.override import parse_overrides
from imagegen_jax.core.shard import MeshShape
from imagegen_jax.core.state import State


def overridden(experiment: Experiment, overrides: Sequence[str], prog: str) -> Experiment:
    """Returns the experiment that options make. Raises ValueError for one that nothing shown here depends on."""

    def parse(words: Sequence[str]) -> Experiment:
        return parse_overrides(experiment, words, prog)

    changed = parse(overrides)
    for words, other in without_each(parse, changed, overrides):
        if _shown(other) == _shown(changed):
            raise ValueError(f"{words}: changes neither parameters nor memory, all that is shown: leave it out")
    return changed


def show(experiment: Experiment, rows: Rows, options: argparse.Namespace) -> None:
    """Prints a table, or JSON; with `options.arrays`, every array."""
    state = _state(experiment, rows)
    networks, memory = summary.parameter_summary(state), summary.memory_of(state)
    if options.json and options.arrays:
        raise ValueError("--arrays: with --json every array is listed anyway: leave it out")
    if options.json:
        print(json.dumps({"name": experiment.name, "networks": networks, "state_bytes": memory}, indent=1))
        return
    for name, found in networks.items():
        trained = "" if name in experiment.optim else "  (frozen)"
        print(f"{name:16}{found['count']:>16,} parameters {found['bytes'] / 2**20:>10,.1f} MiB{trained}")
    print("state:          " + ", ".join(f"{part} {size / 2**20:,.1f} MiB" for part, size in memory.items()))
    if options.arrays:
        from clu import parameter_overview

        for name in networks:
            print(f"\n{name}\n{parameter_overview.get_parameter_overview(state.params[name], include_stats=False)}")


def _state(experiment: Experiment, rows: Rows) -> State:
    return program.abstract_state(experiment, rows, MeshShape(data=1).build(), 0)


def _shown(experiment: Experiment) -> tuple[Any, ...]:
    """All that an option may change of what is shown."""
    state = _state(experiment, rows_of_model(experiment))
    return experiment.name, summary.parameter_summary(state), summary.memory_of(state), sorted(experiment.optim)
