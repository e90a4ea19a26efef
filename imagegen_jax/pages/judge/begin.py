"""Begins a study: opens both sets, draws what has to be drawn, pairs the pictures and writes the folder."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from imagegen_jax.core import run_folder
from imagegen_jax.data import Codes
from imagegen_jax.metrics.named import Drawing, Target, open_target, targets_of, with_like_channels
from imagegen_jax.pages.judge.pairs import pairs_of
from imagegen_jax.pages.judge.study import Question, Settings, Study, load_study, save_study


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a study is to be: the words of its sets, and the fields of its settings."""

    words: tuple[str, ...]  # of one run, or of two sets
    question: Question | None  # None: which is real where a run is judged alone, else which is better
    answers: int
    pairs: int
    catch: float
    milliseconds: int | None
    staircase: bool
    sources: Mapping[str, Any]  # settings of the sets' sources: size, channels, skip_damaged
    drawing: Drawing


def begin(plan: Plan, folder: pathlib.Path) -> Study:
    """Makes a study and keeps it in a folder, or returns the one that is there, if it is of the same plan.

    Raises ValueError for words that name no two sets of pictures of one size, and for a folder with another study.
    """
    targets = _targets(plan)
    question = plan.question or ("real" if len(plan.words) == 1 else "better")
    if plan.staircase and question != "real":
        raise ValueError("--staircase: it follows right and wrong answers, and no answer to which is better is wrong")
    asked = Settings(
        targets[0].word, targets[1].word, question, plan.answers, plan.catch, plan.milliseconds, plan.staircase,
        plan.drawing.seed, asked=_asked(plan),
    )  # fmt: skip
    if folder.exists() and any(folder.iterdir()):
        return _there(folder, asked)
    _make(folder)
    print(f"preparing {plan.pairs:,} pairs of pictures", file=sys.stderr)
    sides = with_like_channels([open_target(target, None, plan.drawing) for target in targets], None, fixed=False)
    a, b, labels, names = pairs_of(sides[0].images, sides[1].images, plan.pairs, plan.drawing.seed)
    run = targets[0].run
    settings = dataclasses.replace(
        asked, a=sides[0].images.name, b=sides[1].images.name, class_names=names,
        run=str(run.resolve()) if run is not None else None,
    )  # fmt: skip
    study = Study(settings, a, b, labels)
    save_study(study, folder)
    return study


def _targets(plan: Plan) -> Sequence[Target]:
    if len(plan.words) > 2:
        raise ValueError(f"{len(plan.words)} sets: give a run, or two sets")
    targets, _ = targets_of(plan.words, None, plan.sources)
    for target in targets:
        if target.saved is not None:
            raise ValueError(f"{target.word} holds statistics, no pictures: give a run, a folder, a .zip or an .npz")
    for option, value in (("--step", plan.drawing.step), ("--average", plan.drawing.average)):
        if value is not None and all(target.run is None for target in targets):
            raise ValueError(f"{option} {value}: there is no run among {' and '.join(plan.words)}: leave it out")
    if len(targets) == 2:
        return targets
    if targets[0].run is None:
        raise ValueError(f"{targets[0].word} is no run: say what to compare it with as a second argument")
    if plan.question == "better":
        raise ValueError("--question better: a run beside its own data is asked for which is real: name a second set")
    data = run_folder.load_experiment(targets[0].run, plan.drawing.modules).data
    if isinstance(data, Codes):
        raise ValueError(f"{targets[0].word} was trained on codes: name pictures to compare with as a second argument")
    return targets[0], Target(str(data), source=data)


def _make(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {folder}: cannot be written ({error}): give another folder") from error


def _asked(plan: Plan) -> str:
    """Writes what pictures were asked for, places by where they are, so that equal words for others are told apart."""
    places = [
        str(pathlib.Path(word).expanduser().resolve()) if pathlib.Path(word).exists() else word for word in plan.words
    ]
    drawing = plan.drawing
    return json.dumps([places, plan.pairs, dict(plan.sources), drawing.step, drawing.average], sort_keys=True)


def _there(folder: pathlib.Path, asked: Settings) -> Study:
    """Returns the study of a folder where it asks the same. Raises ValueError where it does not."""
    study = load_study(folder)
    for name in ("question", "answers", "catch", "milliseconds", "staircase", "seed"):
        old, new = getattr(study.settings, name), getattr(asked, name)
        if old != new:
            raise ValueError(
                f"{folder} holds a study with {name} {old}, not {new}: go on with `imagegen judge {folder}`, or give "
                "another folder with --out"
            )
    if study.settings.asked != asked.asked:
        raise ValueError(
            f"{folder} holds a study of other pictures ({study.settings.a} and {study.settings.b}, "
            f"{len(study)} pairs): give another folder with --out"
        )
    return study
