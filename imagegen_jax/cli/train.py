"""`imagegen train` and `python -m experiments.NAME`: an experiment, changed by options, trained in a folder."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from imagegen_jax.cli.common.command import Command, from_options
from imagegen_jax.cli.common.data_options import add_module_option, add_set_options, add_source_options
from imagegen_jax.cli.common.errors import readable_errors
from imagegen_jax.cli.common.targets import experiment_of, import_modules, import_target
from imagegen_jax.core.arrays.space import sample_shape
from imagegen_jax.core.config.command_line import parse_overrides
from imagegen_jax.core.config.override import override
from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.run import Run
from imagegen_jax.core.run_folder import load_experiment
from imagegen_jax.data.remedy import remedies_spelled, within
from imagegen_jax.recipes.shipped import recipes

EXAMPLES = """examples:
  imagegen train ddpm_digits                  a recipe: `imagegen list` shows them all
  imagegen train dcgan_mnist --workdir runs/a --optim.generator.lr 1e-4
  imagegen train my_experiment.py --smoke
  imagegen train runs/a                       goes on with a run that was stopped
  imagegen train ddpm_cifar10 --help          every field as an option
  imagegen train photos/ --recipe stylegan2 --size 64     your own images: a folder, a .zip, an .npz
  imagegen train photos.zip --recipe edm --size 32 --steps 20000
  imagegen train edm_cifar10 --data photos/               a recipe on other data

Images of several classes are those in a folder for each: photos/cat/, photos/dog/; a model that knows classes then
learns them. --recipe is one of {families}."""


@dataclasses.dataclass(frozen=True)
class TrainRequest:
    """What to train, on which data, and where."""

    target: str | None = None  # a recipe, a module, a .py file, a run to go on with; with `recipe` the place of images
    _: dataclasses.KW_ONLY
    recipe: str | None = None  # a family, for images of one's own
    data: str | None = None  # other data than the experiment's, as `imagegen data` names them
    size: int | None = None
    channels: int | None = None
    skip_damaged: bool | None = None
    split: str | None = None
    data_dir: str | None = None
    workdir: str | pathlib.Path | None = None  # None: runs/NAME; resumes there
    smoke: bool = False  # a tiny version that runs in seconds
    resume_with_changes: bool = False
    distributed: bool = False
    modules: tuple[str, ...] = ()  # that classes of one's own come from
    overrides: tuple[str, ...] = ()  # options of the experiment, as words: ("--steps", "100")

    @property
    def wants_help(self) -> bool:
        """Tells whether help is asked for, or nothing is named to be trained."""
        return self.target in (None, "-h", "--help")

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the settings of the data that are given, by name."""
        found = dataclasses.asdict(self)
        names = ("size", "channels", "skip_damaged", "split", "data_dir")
        return {name: found[name] for name in names if found[name] is not None}


def run(request: TrainRequest) -> Run:
    """Trains what a request names, leaves a report and returns the run.

    Raises ValueError for what cannot be trained, before anything is compiled, and what `fit` raises.
    """
    if request.target is None:
        raise ValueError("nothing is named to be trained: give a module, a .py file, or images and a recipe")
    prog, modules = f"imagegen train {request.target}", import_modules(request.modules)
    if request.recipe is not None:
        return _trained(*_recipe_for_images(request), request, f"{prog} --recipe {request.recipe}")
    place = pathlib.Path(request.target)
    if request.target not in recipes() and (place / "experiment.json").is_file():
        return _resumed(place, modules, request, prog)
    _check_no_images(request.target)
    module = import_target(request.target)
    experiment, smoke = experiment_of(module), vars(module).get("smoke", {})
    if not isinstance(smoke, Mapping):
        raise ValueError(f"{request.target}: `smoke` is a {type(smoke).__name__}, not a mapping of fields to values")
    return _trained(experiment, smoke, request, prog)


def main(
    experiment: Experiment,
    smoke: Mapping[str, Any] | None = None,
    arguments: Sequence[str] | None = None,
    prog: str | None = None,
) -> None:
    """Trains `experiment` as the command line asks; `--help` lists every field as an option.

    `smoke` holds overrides that make it run in seconds, applied first with `--smoke`. Leaves with code 1 and a
    message for what a user can mend, and with 128 + the signal's number after a signal, its state saved.
    """
    prog = prog or f"python -m {_module_name()}"
    options, rest = _parser(prog).parse_known_args(arguments)
    request = from_options(TrainRequest, {**vars(options), "overrides": tuple(rest)})
    with readable_errors():
        _trained(experiment, smoke or {}, request, prog)


def _resumed(folder: pathlib.Path, modules: Sequence[str], request: TrainRequest, prog: str) -> Run:
    """Goes on with the run in a folder to its end, changed as a request asks."""
    if request.smoke:
        raise ValueError(f"--smoke: {folder} is a run, which goes on as what it is: leave it out")
    experiment = load_experiment(folder, modules)
    return _trained(experiment, {}, dataclasses.replace(request, workdir=request.workdir or folder), prog)


def _check_no_images(target: str) -> None:
    """Raises ValueError where a target is images, or a family of models for these, rather than an experiment."""
    place = pathlib.Path(target)
    here = place.is_dir() or pathlib.Path(f"{target}.py").is_file()
    if target in FAMILIES.split(", ") and not here and importlib.util.find_spec(target) is None:
        raise ValueError(f"{target} is a model for images of your own: imagegen train PHOTOS --recipe {target}")
    images = place.is_dir() and not (place / "__init__.py").exists() and target not in recipes()
    if images or target.lower().endswith((".zip", ".npz")):
        raise ValueError(
            f"{target} is no experiment. To train on images there, say by which model: --recipe, one of {FAMILIES}; "
            f"or put them in the place of a recipe's: imagegen train ddpm_cifar10 --data {target}"
        )


def _trained(experiment: Experiment, smoke: Mapping[str, Any], request: TrainRequest, prog: str) -> Run:
    """Trains an experiment after the changes that a request asks for: made tiny, on other data, then by options."""
    if request.distributed:
        initialize_distributed()
    if request.smoke:
        experiment = override(experiment, smoke)
    experiment = _on_other_data(experiment, request)
    experiment = parse_overrides(experiment, request.overrides, prog, _parser(prog).format_help())
    workdir = pathlib.Path(request.workdir or pathlib.Path("runs") / experiment.name)
    with remedies_spelled(within(data=experiment.data, evaluation=experiment.evaluation)):
        return train(experiment, workdir, request.resume_with_changes)


def train(experiment: Experiment, workdir: pathlib.Path, resume_with_changes: bool) -> Run:
    """Trains and writes a report, also of a run that was stopped, but not where the start was refused."""
    from imagegen_jax.core.run import fit
    from imagegen_jax.pages.report import write_report

    def report() -> None:
        try:
            print(f"report: {write_report(workdir)}", file=sys.stderr)
        except OSError as error:  # the error that ended the training, such as a full disk, is to be seen
            print(f"no report: {error}", file=sys.stderr)

    print(f"run folder: {workdir}", file=sys.stderr)
    return fit(experiment, workdir, resume_with_changes, at_end=report)


def initialize_distributed() -> None:
    """Joins the other processes of the run, before any device is used.

    Reads the variables of launchers like torchrun (MASTER_ADDR, MASTER_PORT, RANK, WORLD_SIZE); jax itself recognises
    TPU pods, Slurm, MPI and Kubernetes.
    """
    names = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")
    if all(name in os.environ for name in names):
        address, port, rank, size = (os.environ[name] for name in names)
        jax.distributed.initialize(f"{address}:{port}", int(size), int(rank))
    else:
        jax.distributed.initialize()


# --- other data ------------------------------------------------------------------------------------------------------


def _recipe_for_images(request: TrainRequest) -> tuple[Experiment, Mapping[str, Any]]:
    """Returns the recipe of a family for the size asked for, named after both, and its smoke."""
    from imagegen_jax.recipes.families import SIZE, recipe_of
    from imagegen_jax.recipes.own_data import own_size

    assert request.recipe is not None and request.target is not None
    if request.data is not None:
        raise ValueError(f"--data {request.data}: with --recipe the images are named first: {request.target}")
    found = recipe_of(request.recipe, request.size or own_size(request.target, SIZE))
    stem = re.sub(r"\W+", "_", pathlib.Path(request.target.rpartition(":")[2]).stem).strip("_")
    return dataclasses.replace(found.experiment, name=f"{request.recipe}_{stem or 'images'}"), found.smoke


def _on_other_data(experiment: Experiment, request: TrainRequest) -> Experiment:
    """Returns the experiment on the data that a request names, or as it is where it names none."""
    place = request.target if request.recipe is not None else request.data
    if place is None:
        if request.settings:
            name, value = next(iter(request.settings.items()))
            raise ValueError(
                f"--{name.replace('_', '-')} {value}: says how other data are read, but none are named: add --data, "
                f"or change the experiment's own, as with --data.{name}"
            )
        return experiment
    from imagegen_jax.data.parse import SETTINGS
    from imagegen_jax.data.remedy import as_options
    from imagegen_jax.recipes.fit import fitted
    from imagegen_jax.recipes.own_data import own_source

    with remedies_spelled(as_options(SETTINGS)):
        found = fitted(experiment, own_source(place, request.settings, sample_shape(experiment.model)))
    if request.recipe is None or request.smoke:
        return found
    classes = min(found.num_classes, 8)
    return dataclasses.replace(found, samples=8 * classes if classes else found.samples)  # a row a class, of eight


# --- options ---------------------------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen train`, which are not those of its experiment."""
    parser.add_argument(
        "target", nargs="?",
        help="a recipe such as ddpm_digits, a module, the path of a .py file, the folder of a run to go on with, or "
        "with --recipe the place of images",
    )  # fmt: skip
    parser.add_argument("--recipe", metavar="FAMILY", help="train a model of this family on your own images")
    add_module_option(parser)
    _add_run_options(parser)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workdir", type=pathlib.Path, help="the run's folder (default: runs/NAME); resumes there")
    parser.add_argument("--smoke", action="store_true", help="a tiny version that runs in seconds on a CPU")
    parser.add_argument(
        "--resume-with-changes", action="store_true", help="go on in an old folder with other values, such as steps"
    )
    parser.add_argument("--distributed", action="store_true", help="join the other processes of a run over many hosts")
    parser.add_argument(
        "--data", metavar="PLACE",
        help="train on other data: a folder, a .zip, an .npz, a TFDS name, ...; the model is fitted to their shape and "
        "classes",
    )  # fmt: skip
    add_source_options(parser, "that of the recipe, 64 of a family; smaller images stay as they are")
    add_set_options(parser)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, add_help=False, allow_abbrev=False)
    _add_run_options(parser)
    return parser


def _module_name() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else pathlib.Path(sys.argv[0]).stem


FAMILIES = "dcgan, cgan, wgan, sngan, stylegan2, r3gan, vae, ddpm, edm, flow"  # `recipes.families` takes long to import

COMMAND = Command(
    "train", "train a recipe, an experiment of your own, or on your own images", add_options, TrainRequest, run,
    EXAMPLES.replace("{families}", FAMILIES), takes_more=True, own_help=True,
)  # fmt: skip
