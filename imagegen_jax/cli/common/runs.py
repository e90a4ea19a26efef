"""What commands that draw from a run share: its weights, classes and seed; options of its model, used or refused."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax

from imagegen_jax.cli.common.data_options import add_module_option
from imagegen_jax.cli.common.options import add_metadata_option, integer, number, seed, step
from imagegen_jax.cli.common.targets import import_modules
from imagegen_jax.cli.common.unused import Variant, check_used, without_each
from imagegen_jax.core import compile as compiling
from imagegen_jax.core import program
from imagegen_jax.core.arrays.shard import mesh_of
from imagegen_jax.core.capabilities import Denoising, SetsGuidance
from imagegen_jax.core.config.command_line import parse_overrides
from imagegen_jax.core.config.given import check_labels
from imagegen_jax.core.drawing.draw import GUIDANCE
from imagegen_jax.core.experiment import Experiment, model_row_shapes
from imagegen_jax.core.model import Model, optional_conditions
from imagegen_jax.core.provenance.origin import Origin, fields_of, origin_of
from imagegen_jax.core.run import Run, load

SCALARS = {  # numbers that some models read: the type of the option of each name, and its help
    "truncation": (number(0, 1), "0 (all alike) to 1 (default)"),
    "guidance": (
        number(-GUIDANCE, GUIDANCE),
        "how strongly labels and texts guide: 1 (default) follows them, above 1 exaggerates, 0 ignores them",
    ),
    "temperature": (number(0), "below 1 what is likely is likelier still, 1 (default) draws as the model is"),
    "top_k": (integer(), "draw codes from so many of the likeliest alone"),
    "top_p": (number(0, 1, above=True), "draw codes from the likeliest alone, which make up so much of the whole"),
}


@dataclasses.dataclass(frozen=True)
class RunRequest:
    """The run that a command draws from, its weights and its classes; commands add fields of their own."""

    run: str | pathlib.Path  # its folder
    _: dataclasses.KW_ONLY
    labels: str | None = None  # classes, by number or name, with commas between them; None: all
    seed: int | None = 0
    step: int | Literal["best"] | None = None  # of the checkpoint; None: the newest
    average: str | None = None  # None: the first that the run keeps; "none": the last weights
    std: float | None = None  # width of the post-hoc average
    modules: tuple[str, ...] = ()  # where the run's own classes come from, by name or file
    overrides: tuple[str, ...] = ()  # options of the model, as words: ("--model.levels.steps", "32")
    lora: str | pathlib.Path | None = None  # a file of low-rank pairs
    lora_scale: float | None = None  # how much of them is added; None: all
    metadata: bool = True  # whether pictures say in their metadata that they are generated, and how

    @property
    def begins_with_images(self) -> bool:
        """Tells whether the pictures are made of images that the request gives."""
        return False


@dataclasses.dataclass(frozen=True)
class Opened:
    """A run, opened as a request asks; `variants` are its models with one option of the request left out."""

    run: Run
    variants: tuple[Variant, ...] = ()
    origin: Origin | None = None  # what pictures say of themselves; None: nothing

    @property
    def model(self) -> Any:
        """Returns the model that is drawn from."""
        return self.run.experiment.model

    def said(self, prompts: Sequence[str]) -> Origin | None:
        """Returns the origin of a picture of images with these prompts; None where it is to say nothing."""
        return None if self.origin is None else self.origin.with_prompts(prompts)

    def check_used(self, text_of: Callable[[Any], str]) -> None:
        """Raises ValueError for an option of the model without which the program, `text_of(model)`, is the same."""
        check_used(self.variants, self.model, text_of)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of every command that draws from a run: which run, which weights, which images."""
    parser.add_argument("run", type=pathlib.Path, help="the folder of a run")
    parser.add_argument("--labels", help="classes to draw, e.g. 3,7 or cat,dog (default: all), each as often")
    parser.add_argument("--seed", type=seed, default=0, help="another seed, other images (default: 0)")
    add_weight_options(parser)
    parser.add_argument(
        "--lora", type=pathlib.Path, metavar="FILE",
        help="add the low-rank pairs of a file of diffusers, peft or kohya's scripts to the weights",
    )  # fmt: skip
    parser.add_argument("--lora-scale", type=number(-100, 100), help="how much of them to add (default: 1, 0 for none)")
    add_metadata_option(parser)


def add_weight_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which weights of a run are taken."""
    parser.add_argument("--step", type=step, help="which checkpoint, or 'best' (default: the newest)")
    parser.add_argument("--average", help="which moving average; 'none' for the last weights (default: the first)")
    parser.add_argument(
        "--std", type=number(0, 12**-0.5, above=True), help="take the post-hoc average of this width (0 to 0.28)"
    )
    add_module_option(parser)


def add_scalar(parser: argparse.ArgumentParser, name: str) -> None:
    """Adds the option for one of `SCALARS`."""
    kind, says = SCALARS[name]
    parser.add_argument(f"--{name}", type=kind, help=f"{says}, for models that have it")


def add_guide(parser: argparse.ArgumentParser) -> None:
    """Adds the option for a second run, which guides the first."""
    parser.add_argument(
        "--guide", type=pathlib.Path, metavar="RUN",
        help="a run that guides this one, as --guidance says: of a classifier of noisy images (0: not at all), or of a "
        "weaker denoiser (1: not at all)",
    )  # fmt: skip


def scalars_of(model: Model, **given: float | None) -> dict[str, Any]:
    """Returns the conditions that numbers such as `guidance` make; None is left out.

    Raises ValueError for one that `model` does not read.
    """
    found = {name: value for name, value in given.items() if value is not None}
    for name, value in found.items():
        if name not in optional_conditions(model):
            could = name == "guidance" and isinstance(model, Denoising)
            hint = " of its own; a second run could guide it: --guide" if could else ""
            raise ValueError(f"--{name} {value}: a {type(model).__name__} has none{hint}")
    return found


# --- classes ---------------------------------------------------------------------------------------------------------


def classes_of(text: str | None, run: Run, at_most: int | None = None, option: str = "--labels") -> list[int]:
    """Returns the classes that an option names, by number or by name, with commas between them; [] without it.

    Raises ValueError, naming `option`, for a class that the model does not know, and for more than `at_most` classes,
    the number of images.
    """
    if text is None:
        return []
    names = run.class_names
    words = [text] if text in names else [word.strip() for word in text.split(",")]
    given = [int(word) if re.fullmatch(r"[+-]?[0-9]{1,30}", word) else word for word in words]
    found: list[int] = check_labels(given, run.experiment.num_classes, names, option).tolist()
    if at_most is not None and len(found) > at_most:
        raise ValueError(f"{option} {text}: {len(found)} classes for {at_most} images: name fewer, or ask for more")
    return found


# --- the run ---------------------------------------------------------------------------------------------------------


def open_run(
    request: RunRequest, prog: str, guidance: float | None = None, guide: str | pathlib.Path | None = None
) -> Opened:
    """Opens the run that a request names, with the average and the options of its model that it asks for.

    `prog` is the command's name, for messages; `guide` is a second run that guides it, as strongly as `guidance` says.
    Raises ValueError for options of the model's guidance that nothing would read, and for options that need other
    weights than the run has.
    """
    compiling.use_persistent_cache()
    modules = import_modules(request.modules)
    run = load(pathlib.Path(request.run), modules, step=request.step)
    guiding = load(pathlib.Path(guide), modules) if guide else None
    if request.std is not None and request.average:
        raise ValueError(f"--std {request.std}, --average {request.average}: give one of the two")
    stored = run.experiment

    def parse(words: Sequence[str]) -> Experiment:
        return parse_overrides(stored, words, f"{prog} {request.run}", prefix=("model",))

    changed = parse(request.overrides)
    _check_guidance(stored.model, changed.model, guidance)
    _check_fits(run, changed, request.overrides)
    run = run.with_average(request.average) if request.std is None else run.reconstruct(request.std)
    run = _with_pairs(run, request)

    def of_model(model: Model) -> Run:
        found = dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, model=model))
        return found.guided_by(guiding) if guiding else found

    variants = without_each(parse, changed, request.overrides)
    return Opened(
        of_model(changed.model),
        tuple(Variant(words, of_model(other.model).experiment.model) for words, other in variants),
        _origin(request, prog, run) if request.metadata else None,
    )


def _origin(request: RunRequest, prog: str, run: Run) -> Origin:
    """Returns the origin of the pictures that a request asks for."""
    return origin_of(
        request.run, run.experiment.name, run.step, request.seed, command=prog, request=fields_of(request),
        edited=request.begins_with_images,
    )  # fmt: skip


def _with_pairs(run: Run, request: RunRequest) -> Run:
    """Adds the pairs of --lora to the weights. Raises ValueError for a file that does not fit, and a scale of none."""
    if request.lora is None:
        if request.lora_scale is not None:
            raise ValueError(f"--lora-scale {request.lora_scale}: of which pairs? Name their file, --lora FILE")
        return run
    from imagegen_jax.interop.lora import with_lora  # most runs are drawn without, and need none of its networks

    return with_lora(run, request.lora, 1.0 if request.lora_scale is None else request.lora_scale)


def _check_guidance(stored: Model, changed: Model, guidance: float | None) -> None:
    """Raises ValueError where the options change what a guidance scale does, but give none."""
    if not (isinstance(stored, SetsGuidance) and isinstance(changed, SetsGuidance)):
        return
    was, now = stored.guidance_settings, changed.guidance_settings
    idle = next((name for name in now if now[name] != was.get(name)), None)
    if idle and guidance is None:
        raise ValueError(
            f"--model.{idle} says what a guidance scale does, but none is given: add one, such as --guidance 2"
        )


def _check_fits(run: Run, experiment: Experiment, overrides: Sequence[str]) -> None:
    """Raises ValueError where the networks of `experiment` have arrays of other shapes than the weights of `run`."""
    if experiment == run.experiment:
        return
    rows = {**model_row_shapes(run.experiment), **model_row_shapes(experiment)}  # the other direction has other sources
    wanted = program.abstract_state(experiment, rows, mesh_of(run.nets), run.step)
    have, want = (_shapes((state.params, state.stats)) for state in (run.state, wanted))
    wrong = sorted(name for name in have.keys() | want.keys() if have.get(name) != want.get(name))
    if wrong:
        there, asked = (shapes.get(wrong[0], "none") for shapes in (have, want))
        raise ValueError(
            f"{' '.join(overrides)}: such a network has other weights than the run was trained with ({wrong[0]}: "
            f"{there} there, {asked} wanted): leave it out here; `imagegen train` takes it"
        )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path[1:], simple=True, separator="/"): leaf.shape for path, leaf in leaves}
