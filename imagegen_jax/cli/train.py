"""`imagegen train` and `python -m experiments.NAME`: an experiment, changed by options, trained in a folder."""

from __future__ import annotations

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
from imagegen_jax.cli.common.errors import readable_errors
from imagegen_jax.cli.common.targets import experiment_of, import_modules, import_target
from imagegen_jax.cli.train_options import EXAMPLES, FAMILIES, TrainRequest, add_options, options_of
from imagegen_jax.core.arrays.space import sample_shape
from imagegen_jax.core.config.command_line import parse_overrides
from imagegen_jax.core.config.override import override
from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.run import Run
from imagegen_jax.core.run_folder import load_experiment
from imagegen_jax.data.remedy import remedies_spelled, within
from imagegen_jax.recipes.configs import load_config, save_config
from imagegen_jax.recipes.shipped import recipes


def run(request: TrainRequest) -> Run | None:
    """Trains what a request names, leaves a report and returns the run; None where it only writes a configuration.

    Raises ValueError for what cannot be trained, before anything is compiled, and what `fit` raises.
    """
    if request.target is None:
        request = dataclasses.replace(request, target=request.config)
    prog, modules = f"imagegen train {request.target or ''}".strip(), import_modules(request.modules)
    if request.target is not None and request.recipe is None:
        place = pathlib.Path(request.target)
        if request.target not in recipes() and (place / "experiment.json").is_file():
            return (_resumed if request.few is None else _with_few)(place, modules, request, prog)
    if request.few is not None:
        raise ValueError(f"--few {request.few}: which run is to learn them? Name its folder: imagegen train runs/a")
    return _trained(*named(request, modules), request, prog)


def named(request: TrainRequest, modules: Sequence[str]) -> tuple[Experiment, Mapping[str, Any]]:
    """Returns the experiment that a request names, before any change, and the changes that make it tiny.

    Raises ValueError where it names none.
    """
    if request.target is None:
        raise ValueError("nothing is named to be trained: give a module, a .py file, or images and a recipe")
    if request.recipe is not None:
        return _recipe_for_images(request)
    if request.target.endswith((".yaml", ".yml")):
        if request.smoke:
            raise ValueError(f"--smoke: {request.target} says what is trained: leave it out")
        return load_config(request.target, modules), {}
    _check_no_images(request.target)
    module = import_target(request.target)
    experiment, smoke = experiment_of(module), vars(module).get("smoke", {})
    if not isinstance(smoke, Mapping):
        raise ValueError(f"{request.target}: `smoke` is a {type(smoke).__name__}, not a mapping of fields to values")
    return experiment, smoke


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
    options, rest = options_of(prog).parse_known_args(arguments)
    request = from_options(TrainRequest, {**vars(options), "overrides": tuple(rest)})
    with readable_errors():
        _trained(experiment, smoke or {}, request, prog)


def _resumed(folder: pathlib.Path, modules: Sequence[str], request: TrainRequest, prog: str) -> Run | None:
    """Goes on with the run in a folder to its end, changed as a request asks."""
    if request.smoke:
        raise ValueError(f"--smoke: {folder} is a run, which goes on as what it is: leave it out")
    experiment = load_experiment(folder, modules)
    return _trained(experiment, {}, dataclasses.replace(request, workdir=request.workdir or folder), prog)


def _with_few(folder: pathlib.Path, modules: Sequence[str], request: TrainRequest, prog: str) -> Run | None:
    """Teaches a run the classes of a few images, as a run of its own, changed as a request asks."""
    from imagegen_jax.data.parse import settings_of
    from imagegen_jax.recipes.few import with_few
    from imagegen_jax.recipes.own_data import own_source

    assert request.few is not None
    if request.smoke or request.data is not None:
        word = "--smoke" if request.smoke else f"--data {request.data}"
        raise ValueError(f"{word}: with --few the run {folder} says what is trained, and on what beside: leave it out")
    experiment = load_experiment(folder, modules)
    height, width, channels = sample_shape(experiment.model)
    own = {"channels": channels} | ({"size": height} if height == width else {})
    settings = {name: value for name, value in own.items() if name in settings_of(request.few)} | request.settings
    source = own_source(request.few, settings, (height, width, channels))
    found = with_few(experiment, folder, source, pathlib.Path(request.few).stem)
    read = dataclasses.replace(request, size=None, channels=None, skip_damaged=None, split=None, data_dir=None)
    return _trained(found, {}, read, prog)


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


def _trained(experiment: Experiment, smoke: Mapping[str, Any], request: TrainRequest, prog: str) -> Run | None:
    """Trains an experiment after the changes that a request asks for, or writes what would be trained."""
    if request.distributed:
        initialize_distributed()
    experiment = changed(experiment, smoke, request, prog)
    if request.write_config is not None:
        print(save_config(experiment, request.write_config))
        return None
    workdir = pathlib.Path(request.workdir or pathlib.Path("runs") / experiment.name)
    with remedies_spelled(within(data=experiment.data, evaluation=experiment.evaluation)):
        return train(experiment, workdir, request.resume_with_changes, request.track, request.profile, request.metadata)


def changed(experiment: Experiment, smoke: Mapping[str, Any], request: TrainRequest, prog: str) -> Experiment:
    """Returns an experiment as a request asks for it: made tiny, on other data, then changed by options."""
    if request.smoke:
        experiment = override(experiment, smoke)
    experiment = _on_other_data(experiment, request)
    named_so = f"{prog} --recipe {request.recipe}" if request.recipe is not None else prog
    return parse_overrides(experiment, request.overrides, named_so, options_of(prog).format_help())


def train(
    experiment: Experiment,
    workdir: pathlib.Path,
    resume_with_changes: bool,
    track: Sequence[str] = (),
    profile: tuple[int, int] | None = None,
    metadata: bool = True,
) -> Run:
    """Trains and writes a report and a card, also of a run that was stopped, but not where the start was refused."""
    from imagegen_jax.core.run import fit
    from imagegen_jax.interop.exports.card import write_run_card
    from imagegen_jax.pages.report import write_report

    def report() -> None:
        try:
            print(f"report: {write_report(workdir)}", file=sys.stderr)
        except OSError as error:  # the error that ended the training, such as a full disk, is to be seen
            print(f"no report: {error}", file=sys.stderr)
        try:
            print(f"card: {write_run_card(workdir, experiment=experiment)}", file=sys.stderr)
        except (OSError, ValueError) as error:  # likewise; or a card of the user's own
            print(f"no card: {error}", file=sys.stderr)

    print(f"run folder: {workdir}", file=sys.stderr)
    return fit(experiment, workdir, resume_with_changes, at_end=report, track=track, profile=profile, metadata=metadata)


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


def _module_name() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else pathlib.Path(sys.argv[0]).stem


COMMAND = Command(
    "train", "train a recipe, an experiment of your own, or on your own images", add_options, TrainRequest, run,
    EXAMPLES.replace("{families}", FAMILIES), takes_more=True, own_help=True,
)  # fmt: skip
