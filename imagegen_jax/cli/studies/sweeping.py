"""`imagegen sweep`: an experiment with other values of some fields, each with several seeds."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import pathlib
import shlex
import sys
from collections.abc import Sequence

from imagegen_jax.cli import train
from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.data_options import add_module_option
from imagegen_jax.cli.common.options import integer
from imagegen_jax.cli.common.targets import import_modules
from imagegen_jax.cli.train_options import TrainRequest, add_config_option
from imagegen_jax.core.config.command_line import parse_overrides
from imagegen_jax.core.experiment import Experiment
from imagegen_jax.data.remedy import remedies_spelled, within
from imagegen_jax.pages.report import write_report
from imagegen_jax.studies.sweep import Study, Variant, train_study, with_seeds

EXAMPLES = """examples:
  imagegen sweep flow_digits --over optim.network.lr 1e-4 1e-3 --seeds 3
  imagegen sweep dcgan_mnist --over model.objective Hinge NonSaturating --seeds 0,1,2 --workdir runs/losses
  imagegen sweep ddpm_digits --seeds 8 --together 8 --steps 500      seeds side by side, by one program
  imagegen sweep --config run.yaml --over batch_size 32 64 --processes 2
  imagegen compare runs/losses                                     what came of it

--over may be given again: all combinations are trained. The same command goes on with a sweep that was stopped. A value
of several words is quoted: --over model.multipliers "1 2" "1 2 2". Other options change the experiment of all runs."""


@dataclasses.dataclass(frozen=True)
class SweepRequest:
    """Which experiment to sweep over which values, and how."""

    target: str | None = None  # a recipe, a module, a .py or .yaml file
    config: str | None = None  # a .yaml file, as `target` may be one
    over: tuple[tuple[str, ...], ...] = ()  # a field and its values, as words
    seeds: str = "1"  # their number, or the seeds themselves with commas
    workdir: pathlib.Path | None = None  # None: runs/NAME_sweep
    together: int | None = None
    processes: int = 1
    smoke: bool = False
    quiet: bool = False
    track: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()


def run(request: SweepRequest) -> Study:
    """Trains what a request asks for and returns the study.

    Raises ValueError before anything is trained for what cannot be, and ends with an error where a run failed.
    """
    target = request.target or request.config
    asked = TrainRequest(target, smoke=request.smoke, overrides=request.overrides)
    prog = f"imagegen sweep {target or ''}".strip()
    experiment, smoke = train.named(asked, import_modules(request.modules))
    experiment = train.changed(experiment, smoke, asked, prog)
    members = with_seeds(variants_of(experiment, request.over, prog), seeds_of(request.seeds))
    workdir = request.workdir or pathlib.Path("runs") / f"{experiment.name}_sweep"
    with remedies_spelled(within(data=experiment.data, evaluation=experiment.evaluation)):
        study = train_study(members, workdir, request.together, request.processes, request.quiet, request.track)
    for folder in study.folders.values():
        if (folder / "experiment.json").is_file():
            write_report(folder)
    done = len(study.folders) - len(study.failed)
    print(f"{done} of {len(study.folders)} runs in {workdir}: imagegen compare {workdir}")
    if study.failed:
        print("error: not all runs came to their end", file=sys.stderr)
        raise SystemExit(1)
    return study


def variants_of(
    experiment: Experiment, over: Sequence[Sequence[str]], prog: str = "imagegen sweep"
) -> list[tuple[str, Experiment]]:
    """Returns name and experiment of each combination of values. Raises ValueError for a field without a value."""
    fields = [words[0].removeprefix("--") for words in over]
    for field, words in zip(fields, over, strict=True):
        if len(words) < 2:
            raise ValueError(f"--over {field}: give at least one value after the field")
        if fields.count(field) > 1:
            raise ValueError(f"--over {field} is given twice: give all of its values at once")
    found = []
    for values in itertools.product(*(words[1:] for words in over)):
        options = [word for f, value in zip(fields, values, strict=True) for word in (f"--{f}", *shlex.split(value))]
        changed = parse_overrides(experiment, options, prog) if options else experiment
        found.append((Variant(dict(zip(fields, values, strict=True))).name, changed))
    return found


def seeds_of(text: str) -> int | list[int]:
    """Reads the number of seeds, or with commas the seeds themselves. Raises ValueError for anything else."""
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise ValueError(f"--seeds {text}: give their number, such as 3, or the seeds, such as 0,1,5")
    return int(text) if len(words) == 1 else [int(word) for word in words]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen sweep`, which are not those of its experiment."""
    parser.add_argument(
        "target", nargs="?", help="a recipe such as flow_digits, a module, the path of a .py or .yaml file"
    )
    add_config_option(parser)
    parser.add_argument(
        "--over", action="append", nargs="+", default=[], metavar="WORD",
        help="a field of the experiment, and the values that it is to have; may be given again",
    )  # fmt: skip
    parser.add_argument("--seeds", default="1", help="how many seeds, or the seeds themselves: 0,1,5 (default: 1)")
    parser.add_argument("--workdir", type=pathlib.Path, help="the folder of the runs (default: runs/NAME_sweep)")
    parser.add_argument(
        "--together", type=integer(1, 1_000), metavar="N",
        help="train N seeds side by side by one program (default: one on CPUs, elsewhere as many as memory holds)",
    )  # fmt: skip
    parser.add_argument(
        "--processes", type=integer(1, 1_000), default=1, metavar="N",
        help="train each run in a process of its own, N at a time (default: all in this one)",
    )  # fmt: skip
    parser.add_argument("--smoke", action="store_true", help="a tiny version that runs in seconds on a CPU")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_argument("--track", metavar="TRACKER", action="append", default=[], help="as for imagegen train")
    add_module_option(parser)


COMMAND = Command(
    "sweep", "train an experiment with other values of some fields, and several seeds of each", add_options,
    SweepRequest, run, EXAMPLES, takes_more=True,
)  # fmt: skip
