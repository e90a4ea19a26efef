"""`imagegen info`: parameter counts and memory of an experiment or a run, without taking that memory.

With `--machine`, what it would take on TPUs or GPUs that are not here.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import pathlib
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.data_options import add_module_option
from imagegen_jax.cli.common.targets import experiment_of, import_modules, import_target
from imagegen_jax.cli.common.unused import without_each
from imagegen_jax.core import program
from imagegen_jax.core import run_folder as folder
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.capabilities import Tokenizing
from imagegen_jax.core.config.command_line import parse_overrides
from imagegen_jax.core.experiment import Experiment, Rows, model_row_shapes
from imagegen_jax.core.reporting import summary
from imagegen_jax.core.reporting.tables import Table
from imagegen_jax.core.state import State

if TYPE_CHECKING:  # a run loads none of the machines
    from imagegen_jax.machines.machines import Machine

EXAMPLES = """examples:
  imagegen info ddpm_cifar10
  imagegen info ddpm_cifar10 --model.network.width 256 --arrays
  imagegen info runs/demo --json
  imagegen info ddpm_cifar10 --machine v5e:2x2                         on four TPUs that are not here
  imagegen info dit_xl2_imagenet256 --machine h200:8 --mesh.fsdp 8     on eight GPUs
  imagegen info runs/demo --machine a100:4 --mesh.fsdp 4               a run, if it went on there"""


@dataclasses.dataclass(frozen=True)
class InfoRequest:
    """The experiment or the run to show, and how."""

    target: str  # a module, the path of a .py file, or a run folder
    json: bool = False
    arrays: bool = False  # every array
    machine: str | None = None  # such as "v5p:2x2x2" or "h200:8": programs are compiled for it
    modules: tuple[str, ...] = ()  # where the run's own classes come from
    overrides: tuple[str, ...] = ()  # options of the experiment, as words


def run(request: InfoRequest) -> None:
    """Prints the networks and the memory of an experiment or a run, or what it would take on `machine`.

    Raises ValueError for options of the experiment that change neither, and for what is no machine, RunFolderError
    where there is no run, and CompilerMissing where the compiler of `machine` is not installed. After a report on a
    machine where training does not fit it ends with SystemExit.
    """
    machine = None if request.machine is None else machine_of(request.machine, request.arrays)
    path, modules = pathlib.Path(request.target), import_modules(request.modules)
    prog = f"imagegen info {request.target}"
    if path.is_dir():
        if request.overrides and machine is None:
            words = " ".join(request.overrides)
            raise ValueError(f"{words}: {path} is a run, whose experiment is as it is: leave it out")
        experiment, rows = folder.load_experiment(path, modules), folder.load_rows(path)
        experiment = overridden(experiment, request.overrides, prog, machine) if request.overrides else experiment
    else:
        experiment = overridden(experiment_of(import_target(request.target)), request.overrides, prog, machine)
        rows = model_row_shapes(experiment)
    if machine is None:
        show(experiment, rows, request)
    else:
        show_machine(experiment, machine, request.json)


def machine_of(text: str, arrays: bool) -> Machine:
    """Reads a machine that need not be here, and leaves alone any accelerator that is.

    Raises ValueError for what is none, and where `arrays` are asked for, and CompilerMissing where its compiler is not
    installed.
    """
    import jax

    from imagegen_jax.machines.described import check_compiler
    from imagegen_jax.machines.machines import parse_machine

    machine = parse_machine(text)
    if arrays:
        raise ValueError("--arrays: with --machine no arrays are shown: leave one of them out")
    check_compiler(machine)
    jax.config.update("jax_platforms", "cpu")
    return machine


def overridden(
    experiment: Experiment, overrides: Sequence[str], prog: str, machine: Machine | None = None
) -> Experiment:
    """Returns the experiment that options make. Raises ValueError for one that nothing shown here depends on."""
    shown, what = (_shown, "neither parameters nor memory") if machine is None else (_compiled, "no program")

    def parse(words: Sequence[str]) -> Experiment:
        return parse_overrides(experiment, words, prog)

    changed = parse(overrides)
    for words, other in without_each(parse, changed, overrides):
        if shown(other) == shown(changed):
            raise ValueError(f"{words}: changes {what}, all that is shown: leave it out")
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
    _print_networks(networks, experiment.optim)
    if isinstance(experiment.model, Tokenizing):
        print(f"codes:          {_of_codes(experiment.model)}")
    print("state:          " + ", ".join(f"{part} {size / 2**20:,.1f} MiB" for part, size in memory.items()))
    if request.arrays:
        from clu import parameter_overview

        for name in networks:
            print(f"\n{name}\n{parameter_overview.get_parameter_overview(state.params[name], include_stats=False)}")


def _print_networks(networks: Mapping[str, Any], trained: Collection[str]) -> None:
    """Prints a line for each network, as a table where it goes to a terminal."""
    sizes = {name: (f"{found['count']:,}", f"{found['bytes'] / 2**20:,.1f}") for name, found in networks.items()}
    frozen = {name: "" if name in trained else "(frozen)" for name in networks}
    if sys.stdout.isatty():
        rows = [(name, *of, frozen[name]) for name, of in sizes.items()]
        Table("", ("network", "parameters", "MiB", ""), rows).print()
        return
    for name, (count, size) in sizes.items():
        print(f"{name:16}{count:>16} parameters {size:>10} MiB{'  ' if frozen[name] else ''}{frozen[name]}")


def _of_codes(model: Tokenizing) -> str:
    """Says what an image becomes, such as "4x4 out of 64, 96 bits an image"."""
    bits = math.prod(model.code_shape) * math.log2(model.codebook_size)
    return f"{'x'.join(map(str, model.code_shape))} out of {model.codebook_size:,}, {bits:,.0f} bits an image"


def show_machine(experiment: Experiment, machine: Machine, as_json: bool) -> None:
    """Prints what the programs of an experiment take on a machine that is not here; says meanwhile what is compiled.

    Raises SystemExit where training does not fit there, or a program does not compile, for scripts to go by.
    """
    from imagegen_jax.machines.examine import examine
    from imagegen_jax.machines.words import text_of

    report = examine(experiment, machine, show=lambda text: print(f"{text} ...", file=sys.stderr))
    print(json.dumps(report.as_json(), indent=1) if as_json else text_of(report))
    if not report.fits:
        raise SystemExit(1)


def _state(experiment: Experiment, rows: Rows) -> State:
    return program.abstract_state(experiment, rows, MeshShape(data=1).build(), 0)


def _shown(experiment: Experiment) -> tuple[Any, ...]:
    """Returns the shown values that an option may change."""
    state = _state(experiment, model_row_shapes(experiment))
    return experiment.name, summary.parameter_summary(state), summary.memory_of(state), sorted(experiment.optim)


def _compiled(experiment: Experiment) -> tuple[Any, ...]:
    """Returns what the programs for a machine, and how long they run, depend on."""
    return experiment.name, experiment.step_spec, experiment.mesh, experiment.batch_size, experiment.steps


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen info`."""
    parser.add_argument(
        "target", help="a recipe such as ddpm_cifar10, a module, the path of a .py file, or a run folder"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument("--arrays", action="store_true", help="every array")
    parser.add_argument(
        "--machine",
        help="compile for a machine that is not here, and say what memory and time training and sampling take there "
        "at least: v4:2x2x2, v5e:2x4, v5p:2x2x2, v6e:2x4, a100:8, h100:8, h200:8, b200:8, or fewer or more of them; "
        "the exit code is 1 where training does not fit",
    )
    add_module_option(parser)


COMMAND = Command(
    "info", "parameter counts and memory of an experiment or a run; what a machine that is not here would take",
    add_options, InfoRequest, run, EXAMPLES, takes_more=True,
)  # fmt: skip
