"""What commands that draw from a run share: its weights, classes and seed; options of its model, used or refused."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from imagegen_jax.cli.options import number, seed, step
from imagegen_jax.core import compile as compiling
from imagegen_jax.core import program
from imagegen_jax.core.draw import GUIDANCE
from imagegen_jax.core.experiment import Experiment, rows_of_model
from imagegen_jax.core.given import check_labels
from imagegen_jax.core.model import Denoising, Model, SetsGuidance, optional_conditions
from imagegen_jax.core.override import parse_overrides
from imagegen_jax.core.shard import mesh_of
from imagegen_jax.run import Run, load

SCALARS = {  # numbers that some models read: the type of the options of these names, and what they say of themselves
    "truncation": (number(0, 1), "0 (all alike) to 1 (default)"),
    "guidance": (
        number(-GUIDANCE, GUIDANCE),
        "how strongly labels guide: 1 (default) follows them, above 1 exaggerates, 0 ignores them",
    ),
}


class Variant(NamedTuple):
    """The model as it would be without some of the command line's words."""

    words: str
    model: Model


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of every command that draws from a run: which run, which weights, which images."""
    parser.add_argument("run", type=pathlib.Path, help="the folder of a run")
    parser.add_argument("--labels", help="classes to draw, e.g. 3,7 or cat,dog (default: all), each as often")
    parser.add_argument("--seed", type=seed, default=0, help="another seed, other images (default: 0)")
    parser.add_argument("--step", type=step, help="which checkpoint, or 'best' (default: the newest)")
    parser.add_argument("--average", help="which moving average; 'none' for the last weights (default: the first)")
    parser.add_argument(
        "--std", type=number(0, 12**-0.5, above=True), help="draw from the post-hoc average of this width (0 to 0.28)"
    )


def add_scalar(parser: argparse.ArgumentParser, name: str) -> None:
    """Adds the option for one of `SCALARS`."""
    kind, says = SCALARS[name]
    parser.add_argument(f"--{name}", type=kind, help=f"{says}, for models that have it")


def add_guide(parser: argparse.ArgumentParser) -> None:
    """Adds the option for a second run, by which what the first one draws is guided."""
    parser.add_argument(
        "--guide", type=pathlib.Path, metavar="RUN",
        help="a run that guides this one, as --guidance says: of a classifier of noisy images (0: not at all), or of a "
        "weaker denoiser (1: not at all)",
    )  # fmt: skip


def scalars_of(options: argparse.Namespace, model: Model) -> dict[str, Any]:
    """Returns the conditions that the options of `SCALARS` make. Raises ValueError for one that `model` has not."""
    given = {name: getattr(options, name, None) for name in SCALARS}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if name not in optional_conditions(model):
            could = name == "guidance" and isinstance(model, Denoising)
            hint = " of its own; a second run could guide it: --guide" if could else ""
            raise ValueError(f"--{name} {value}: a {type(model).__name__} has none{hint}")
    return given


def with_progress(chunks: Iterable[np.ndarray], n: int, done: int = 0) -> Iterator[np.ndarray]:
    """Gives chunks of images on, and shows on a terminal how many of `n` there are, of which `done` were before."""
    with tqdm(total=n, initial=done, desc="images", unit=" images", disable=None) as bar:
        for images in chunks:
            yield images
            bar.update(len(images))


# --- classes ---------------------------------------------------------------------------------------------------------


def classes_of(text: str | None, run: Run, at_most: int | None = None, option: str = "--labels") -> list[int]:
    """Returns the classes that an option names, by number or by name, with commas between them; [] without it.

    Raises ValueError, naming `option`, for a class that the model does not know, and where there are more classes than
    the `at_most` images that they are for.
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


def open_run(options: argparse.Namespace, modules: Sequence[str], overrides: Sequence[str] = ()) -> Run:
    """Opens the run that the options name, with the average that they choose; `overrides` are options of its model.

    Sets `options.variants`, for `check_used`. Raises ValueError for options of the model's guidance where nothing would
    read them, and for such as need other weights than the run has.
    """
    compiling.use_persistent_cache()
    run = load(options.run, modules, step=options.step)
    guide = load(options.guide, modules) if getattr(options, "guide", None) else None
    if options.std is not None and options.average:
        raise ValueError(f"--std {options.std}, --average {options.average}: give one of the two")
    stored = run.experiment

    def parse(words: Sequence[str]) -> Experiment:
        return parse_overrides(stored, words, f"{options.parser.prog} {options.run}", prefix=("model",))

    changed = parse(overrides)
    _check_guidance(options, stored.model, changed.model)
    _check_fits(run, changed, overrides)

    run = run.with_average(options.average) if options.std is None else run.reconstruct(options.std)

    def of_model(model: Model) -> Run:
        found = dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, model=model))
        return found.guided_by(guide) if guide else found

    options.variants = [
        Variant(words, of_model(experiment.model).experiment.model)
        for words, experiment in without_each(parse, changed, overrides)
    ]
    return of_model(changed.model)


def _check_guidance(options: argparse.Namespace, stored: Model, changed: Model) -> None:
    """Raises ValueError where the options change what a guidance scale does, but give none."""
    if not (isinstance(stored, SetsGuidance) and isinstance(changed, SetsGuidance)):
        return
    was, now = stored.guidance_settings, changed.guidance_settings
    idle = next((name for name in now if now[name] != was.get(name)), None)
    if idle and getattr(options, "guidance", None) is None:
        raise ValueError(
            f"--model.{idle} says what a guidance scale does, but none is given: add one, such as --guidance 2"
        )


def _check_fits(run: Run, experiment: Experiment, overrides: Sequence[str]) -> None:
    """Raises ValueError where the networks of `experiment` have arrays of other shapes than the weights of `run`."""
    if experiment == run.experiment:
        return
    rows = {**rows_of_model(run.experiment), **rows_of_model(experiment)}  # the other direction has other sources
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


# --- options that nothing reads --------------------------------------------------------------------------------------


def groups_of(overrides: Sequence[str]) -> list[list[str]]:
    """Returns the options among the words of a command line, each with its values."""
    groups: list[list[str]] = []
    for word in overrides:
        if word.startswith("--") or not groups:
            groups.append([])
        groups[-1].append(word)
    return groups


def without_each(
    parse: Callable[[list[str]], Experiment], changed: Experiment, overrides: Sequence[str]
) -> list[tuple[str, Experiment]]:
    """Returns each option that makes `parse` give the `changed` experiment, and what it gives without this one.

    Options that others build on, so that `parse` refuses these alone, are left out: they are read.
    """
    groups, found = groups_of(overrides), []
    for i, words in enumerate(groups):
        rest = [word for j, others in enumerate(groups) if j != i for word in others]
        with contextlib.suppress(ValueError, TypeError, SystemExit), contextlib.redirect_stderr(io.StringIO()):
            experiment = parse(rest)
            if experiment != changed:
                found.append((" ".join(words), experiment))
    return found


def check_used(options: argparse.Namespace, model: Model, text_of: Callable[[Any], str]) -> None:
    """Raises ValueError for an option of the model without which the program, `text_of(model)`, is the same."""
    if not options.variants:
        return
    text = text_of(model)
    idle = next((words for words, other in options.variants if _same(text, text_of, other)), None)
    if idle:
        raise ValueError(f"{idle}: changes nothing of what is drawn here: leave it out")


def _same(text: str, text_of: Callable[[Any], str], other: Model) -> bool:
    try:
        return text_of(other) == text
    except (ValueError, TypeError):  # of a model that cannot be drawn from so: then the option does change something
        return False
