"""`imagegen info`: parameter counts and memory of an experiment or a run, without taking that memory."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.data_options import add_module_option
from imagegen_jax.cli.common.targets import experiment_of, import_modules, import_target
from imagegen_jax.cli.common.unused import without_each
from imagegen_jax.core import program
from imagegen_jax.core import run_folder as folder
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.config.command_line import parse_overrides
from imagegen_jax.core.experiment import Experiment, Rows, model_row_shapes
from imagegen_jax.core.reporting import summary
from imagegen_jax.core.state import State

EXAMPLES = """examples:
  imagegen info ddpm_cifar10
  imagegen info ddpm_cifar10 --model.network.width 256 --arrays
  imagegen info runs/demo --json"""


@dataclasses.dataclass(frozen=True)
class InfoRequest:
    """The experiment or the run to show, and how."""

    target: str  # a module, the path of a .py file, or a run folder
    json: bool = False
    arrays: bool = False  # every array
    modules: tuple[str, ...] = ()  # where the run's own classes come from
    overrides: tuple[str, ...] = ()  # options of the experiment, as words


def run(request: InfoRequest) -> None:
    """Prints a table, or JSON, of the networks and the memory of an experiment or a run.

    Raises ValueError for options of the experiment that change neither, and RunFolderError where there is no run.
    """
    path, modules = pathlib.Path(request.target), import_modules(request.modules)
    if path.is_dir():
        if request.overrides:
            words = " ".join(request.overrides)
            raise ValueError(f"{words}: {path} is a run, whose experiment is as it is: leave it out")
        show(folder.load_experiment(path, modules), folder.load_rows(path), request)
    else:
        experiment = experiment_of(import_target(request.target))
        experiment = overridden(experiment, request.overrides, f"imagegen info {request.target}")
        show(experiment, model_row_shapes(experiment), request)


def overridden(experiment: Experiment, overrides: Sequence[str], prog: str) -> Experiment:
    """Returns the experiment that options make. Raises ValueError for one that nothing shown here depends on."""

    def parse(words: Sequence[str]) -> Experiment:
        return parse_overrides(experiment, words, prog)

    changed = parse(overrides)
    for words, other in without_each(parse, changed, overrides):
        if _shown(other) == _shown(changed):
            raise ValueError(f"{words}: changes neither parameters nor memory, all that is shown: leave it out")
    return changed


def show(experiment: Experiment, rows: Rows, request: InfoRequest) -> None:
    """Prints a table, or JSON; with `request.arrays`, every array."""
    state = _state(experiment, rows)
    networks, memory = summary.parameter_summary(state), summary.memory_of(state)
    if request.json and request.arrays:
        raise ValueError("--arrays: with --json every array is listed anyway: leave it out")
    if request.json:
        print(json.dumps({"name": experiment.name, "networks": networks, "state_bytes": memory}, indent=1))
        return
    for name, found in networks.items():
        trained = "" if name in experiment.optim else "  (frozen)"
        print(f"{name:16}{found['count']:>16,} parameters {found['bytes'] / 2**20:>10,.1f} MiB{trained}")
    print("state:          " + ", ".join(f"{part} {size / 2**20:,.1f} MiB" for part, size in memory.items()))
    if request.arrays:
        from clu import parameter_overview

        for name in networks:
            print(f"\n{name}\n{parameter_overview.get_parameter_overview(state.params[name], include_stats=False)}")


def _state(experiment: Experiment, rows: Rows) -> State:
    return program.abstract_state(experiment, rows, MeshShape(data=1).build(), 0)


def _shown(experiment: Experiment) -> tuple[Any, ...]:
    """Returns the shown values that an option may change."""
    state = _state(experiment, model_row_shapes(experiment))
    return experiment.name, summary.parameter_summary(state), summary.memory_of(state), sorted(experiment.optim)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen info`."""
    parser.add_argument(
        "target", help="a recipe such as ddpm_cifar10, a module, the path of a .py file, or a run folder"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument("--arrays", action="store_true", help="every array")
    add_module_option(parser)


COMMAND = Command(
    "info", "parameter counts and memory of an experiment or a run", add_options, InfoRequest, run, EXAMPLES,
    takes_more=True,
)  # fmt: skip
