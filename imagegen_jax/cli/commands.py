"""The command `imagegen`: train, sample, edit, evaluate, report, info, import, data."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from imagegen_jax import importing
from imagegen_jax.cli import data as data_command
from imagegen_jax.cli import evaluate_options as evaluation_options
from imagegen_jax.cli import info
from imagegen_jax.cli import sample as sampling
from imagegen_jax.cli.edit import latents as editing
from imagegen_jax.cli.targets import experiment_of, import_target
from imagegen_jax.cli.train import main as train_main
from imagegen_jax.cli.train import readable_errors
from imagegen_jax.core import folder
from imagegen_jax.core.experiment import rows_of_model
from imagegen_jax.data.remedy import nowhere, remedies_spelled

EXAMPLES = {
    "train": """examples:
  imagegen train experiments.ddpm_digits
  imagegen train experiments.dcgan_mnist --workdir runs/a --optim.generator.lr 1e-4
  imagegen train my_experiment.py --smoke
  imagegen train experiments.ddpm_cifar10 --help      every field as an option""",
    "sample": sampling.EXAMPLES,
    "edit": editing.EXAMPLES,
    "evaluate": evaluation_options.EXAMPLES,
    "report": """examples:
  imagegen report runs/demo
  imagegen report /mnt/archive/demo --out demo.html""",
    "info": """examples:
  imagegen info experiments.ddpm_cifar10
  imagegen info experiments.ddpm_cifar10 --model.network.width 256 --arrays
  imagegen info runs/demo --json""",
    "import": importing.EXAMPLES,
    "data": data_command.EXAMPLES,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    options, rest = main_parser().parse_known_args(arguments)
    with readable_errors(), remedies_spelled(nowhere):
        options.run_command(options, rest)


def main_parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line, with a parser below it for each command."""
    parser = argparse.ArgumentParser(
        prog="imagegen", description="Image generation in JAX and Flax.", allow_abbrev=False,
        epilog="imagegen COMMAND --help shows a command's options and examples.",
    )  # fmt: skip
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_train, _add_sample, _add_edit, _add_evaluate, _add_report, _add_info, _add_import, _add_data):
        add(commands)
    return parser


def _add_train(commands: Any) -> None:
    train = _command(commands, "train", "train an experiment, from where its folder is", _train, add_help=False)
    train.add_argument("target", nargs="?", help="a module such as experiments.ddpm_digits, or the path of a .py file")


def _add_sample(commands: Any) -> None:
    sample = _command(commands, "sample", "draw images from a run", _sample)
    sampling.add_options(sample)
    _module_option(sample)


def _add_edit(commands: Any) -> None:
    edit = _command(
        commands, "edit", "edit what a model makes: mix, truncate, ...; inpaint, redraw, enlarge, ...", _edit
    )
    for parser in editing.add_edits(edit):
        _module_option(parser)


def _add_evaluate(commands: Any) -> None:
    parser = _command(commands, "evaluate", "compare images with a data set, by the metrics of the field", _evaluate)
    evaluation_options.add_options(parser)
    _module_option(parser)


def _add_report(commands: Any) -> None:
    report = _command(commands, "report", "write a run's report.html", _report)
    report.add_argument("run", type=pathlib.Path)
    report.add_argument("--out", type=pathlib.Path, help="the page to write (default: report.html in the run's folder)")


def _add_info(commands: Any) -> None:
    parser = _command(commands, "info", "parameter counts and memory of an experiment or a run", _info)
    parser.add_argument(
        "target", help="a module such as experiments.ddpm_cifar10, the path of a .py file, or a run folder"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument("--arrays", action="store_true", help="every array")
    _module_option(parser)


def _add_import(commands: Any) -> None:
    importing.add_options(_command(commands, "import", "make a run of a model trained with another library", _import))


def _add_data(commands: Any) -> None:
    data = _command(commands, "data", "look at a data set, or prepare it", _data)
    data_command.add_options(data)


def _command(commands: Any, name: str, what: str, function: Any, **settings: Any) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=what, description=f"{what[0].upper()}{what[1:]}.", epilog=EXAMPLES[name], allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter, **settings,
    )  # fmt: skip
    command.set_defaults(run_command=function, parser=command)
    return command


def _module_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--module", action="append", default=[], help="a module or .py file that the run's own classes come from"
    )


def _modules(options: argparse.Namespace) -> list[str]:
    return [import_target(name).__name__ for name in options.module]


def _no_more(options: argparse.Namespace, rest: Sequence[str]) -> None:
    if rest:
        options.parser.error(f"unrecognized arguments: {' '.join(rest)}")


# --- commands --------------------------------------------------------------------------------------------------------


def _train(options: argparse.Namespace, rest: list[str]) -> None:
    if options.target in (None, "-h", "--help"):
        options.parser.print_help()
        raise SystemExit(0 if {"-h", "--help"} & set(rest) else 2)
    module = import_target(options.target)
    smoke = getattr(module, "smoke", {})
    if not isinstance(smoke, Mapping):
        raise ValueError(f"{options.target}: `smoke` is a {type(smoke).__name__}, not a mapping of fields to values")
    train_main(experiment_of(module), smoke, rest, prog=f"imagegen train {options.target}")


def _sample(options: argparse.Namespace, rest: list[str]) -> None:
    sampling.run_command(options, rest, _modules(options))


def _edit(options: argparse.Namespace, rest: list[str]) -> None:
    editing.run_command(options, rest, _modules(options))


def _evaluate(options: argparse.Namespace, rest: list[str]) -> None:
    from imagegen_jax.cli.evaluate import run_command

    _no_more(options, rest)
    run_command(options, _modules(options))


def _report(options: argparse.Namespace, rest: list[str]) -> None:
    from imagegen_jax.report import write_report

    _no_more(options, rest)
    folder.load_experiment_dict(options.run)
    try:
        print(write_report(options.run, options.out))
    except OSError as error:
        raise ValueError(f"the report cannot be written ({error}): name another place with --out") from error


def _info(options: argparse.Namespace, rest: list[str]) -> None:
    path, modules = pathlib.Path(options.target), _modules(options)
    if path.is_dir():
        if rest:
            options.parser.error(f"{' '.join(rest)}: {path} is a run, whose experiment is as it is: leave it out")
        info.show(folder.load_experiment(path, modules), folder.load_rows(path), options)
    else:
        experiment = experiment_of(import_target(options.target))
        experiment = info.overridden(experiment, rest, f"imagegen info {options.target}")
        info.show(experiment, rows_of_model(experiment), options)


def _import(options: argparse.Namespace, rest: list[str]) -> None:
    _no_more(options, rest)
    importing.run_command(options)


def _data(options: argparse.Namespace, rest: list[str]) -> None:
    _no_more(options, rest)
    data_command.run_command(options)
