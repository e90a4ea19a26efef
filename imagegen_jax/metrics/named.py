"""Finds what the words of an evaluation name, and opens it as images of one shape that an extractor takes."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from imagegen_jax.core.run import load
from imagegen_jax.data import TFDS, Digits, Source, parse_source
from imagegen_jax.data.decode import Whole
from imagegen_jax.data.remedy import Remedy, SettingError, has_setting, option_words
from imagegen_jax.metrics.features.extractor import Extractor, Network
from imagegen_jax.metrics.features.moments import Moments
from imagegen_jax.metrics.sets import ImageSet, ReconstructionSet, SampleSet, reconstructs, source_set

SAMPLES = 10_000  # drawn from a run by default


class Target(NamedTuple):
    """A run, a source or saved statistics, named by a word."""

    word: str
    run: pathlib.Path | None = None
    source: Source | None = None
    saved: Moments | None = None


class Side(NamedTuple):
    """One side of a comparison, opened."""

    target: Target
    images: ImageSet


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Settings of how images are drawn from runs."""

    samples: int = SAMPLES
    seed: int = 0
    step: int | Literal["best"] | None = None  # None: the newest checkpoint
    average: str | None = None  # None: the first that a run keeps
    modules: tuple[str, ...] = ()  # with classes of users' own that runs need


def targets_of(
    words: Sequence[str],
    held_out_word: str | None = None,
    settings: Mapping[str, Any] | None = None,
    split: str | None = None,
    alone: bool = False,
) -> tuple[list[Target], Target | None]:
    """Finds what the words name, and what the word for data not trained on names, with `settings` of their sources.

    `split` names splits, with commas between them, in the order of the words; with `alone` each run is compared with
    the data that it was trained on.

    Nothing but saved statistics is read. Raises ValueError for a word that names nothing, and for settings and splits
    that nothing would read.
    """
    targets = [_target(word) for word in words]
    held_out = _target(held_out_word) if held_out_word else None
    if held_out is not None and isinstance(held_out.source, (TFDS, Digits)):
        held_out = _replaced(held_out, "split", "test")
    elif held_out is not None and held_out.source is None:
        raise ValueError(f"--held-out {held_out_word}: no images: give a folder, a .zip, an .npz or a TFDS name")
    chosen = _with_settings([*targets, *([held_out] if held_out else [])], settings or {})
    chosen = _with_splits(chosen, len(targets), split, alone or len(targets) == 1)
    return chosen[: len(targets)], chosen[-1] if held_out else None


def _target(word: str) -> Target:
    if (pathlib.Path(word) / "experiment.json").is_file():
        return Target(word, run=pathlib.Path(word))
    if saved := _saved_statistics(word):
        return Target(word, saved=saved)
    try:
        return Target(word, source=parse_source(word))
    except ValueError as error:
        raise ValueError(f"{error}; or a run's folder, which holds an experiment.json") from error


def _saved_statistics(word: str) -> Moments | None:
    """Returns the statistics in an .npz that has mu and sigma; None for other words and damaged files."""
    path = pathlib.Path(word).expanduser()
    if path.suffix.lower() != ".npz" or not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError):  # the reader of images will say what is wrong with it
        return None
    return Moments.load(path) if {"mu", "sigma"} <= names else None


def _with_settings(targets: Sequence[Target], settings: Mapping[str, Any]) -> list[Target]:
    """Sets --size, --channels and --skip-damaged in the targets that have them."""
    found = list(targets)
    for name, value in settings.items():
        if not any(has_setting(target.source, name) for target in found):
            words = ", ".join(target.word for target in found)
            raise ValueError(f"{option_words('--', name, value)}: nothing in {words} is read by it: leave it out")
        found = [_replaced(t, name, value) if has_setting(t.source, name) else t for t in found]
    return found


def _with_splits(targets: Sequence[Target], count: int, split: str | None, drawn: bool) -> list[Target]:
    """Sets splits in the targets; the first `count` of these are arguments, and a single word serves both arguments.

    `drawn`: a run among them is compared with the split that it was trained on.
    """
    if split is None:
        return list(targets)
    places = [t for i, t in enumerate(targets) if i >= count or not drawn or t.run is None]
    words = split.split(",")
    if len(words) > len(places):
        extra = "a run is compared with the split that it was trained on" if not places else "give one an argument"
        raise ValueError(f"--split {split}: {len(words)} for {len(places)} sets: {extra}")
    if len(words) == 1 and count == 2:
        both = [t for t in targets[:2] if has_setting(t.source, "split")]
        if not both:
            raise ValueError(f"--split {split}: neither {targets[0].word} nor {targets[1].word} has splits")
        chosen = {id(t): words[0] for t in both}
    else:
        chosen = {id(t): word for t, word in zip(places, words, strict=False) if word}
        for t in places:
            if id(t) in chosen and not has_setting(t.source, "split"):
                raise ValueError(f"--split {split}: {t.word} has no splits: leave its place empty")
    return [_replaced(t, "split", chosen[id(t)]) if id(t) in chosen else t for t in targets]


def _replaced(target: Target, name: str, value: Any) -> Target:
    return target._replace(source=dataclasses.replace(target.source, **{name: value}))  # type: ignore[type-var]


# --- to images -------------------------------------------------------------------------------------------------------


def open_target(target: Target, extractor: Extractor | None, drawing: Drawing) -> Side:
    """Opens a run or a source; brings images of several sizes to the extractor's by its own rule, and says so.

    `extractor` None is a classifier that is yet to be trained. Raises ValueError where images differ in size and the
    extractor takes only one.
    """
    if target.run is not None:
        run = load(target.run, drawing.modules, step=drawing.step).with_average(drawing.average)
        if reconstructs(run.experiment.model):
            return Side(target, ReconstructionSet(run, drawing.samples))
        return Side(target, SampleSet(run, drawing.samples, drawing.seed))
    if target.source is None:
        raise ValueError(f"{target.word} holds statistics, no images: give it as the second of two arguments")
    try:
        return Side(target, source_set(target.source))
    except SettingError as error:
        if "channels" in error.settings:
            _say(
                f"{target.word}: grey, colour or transparent images among others: all as RGB, a grey value in each "
                "channel, what is transparent on white"
            )
            return open_target(_replaced(target, "channels", 3), extractor, drawing)
        if "size" not in error.settings or not isinstance(extractor, Network) or extractor.resize == "none":
            raise
        if extractor.resize != "clean":
            clean = Remedy("have each resized to the extractor's size with {}", {"resize": "clean"})
            raise SettingError(error.owner, error.problem, [*error.remedies, clean]) from error
        _say(
            f"{target.word}: images of several sizes: each is resized to {extractor.size}x{extractor.size} for "
            f"{extractor.name}, as --resize {extractor.resize} does; --size would cut out squares"
        )
        return open_target(_replaced(target, "size", Whole(extractor.size)), extractor, drawing)


def with_like_channels(sides: Sequence[Side], extractor: Extractor | None, fixed: bool) -> list[Side]:
    """Brings stored images to RGB where the extractor could not compare them otherwise, and says so.

    Transparent images are composed on white, and grey ones repeated. A network repeats grey images by itself; a
    classifier that is yet to be trained (`extractor` None) takes what the last side has. With `fixed` all stay as they
    are.
    """
    if fixed:
        return list(sides)
    if isinstance(extractor, Network):
        return [_in_colour(side) if side.images.image_shape[2] == 4 else side for side in sides]
    channels = [side.images.image_shape[2] for side in sides]
    drawn = [c for c, side in zip(channels, sides, strict=True) if side.target.source is None]
    if len(set(channels)) == 1 or any(c != 3 for c in drawn) or (extractor is None and channels[-1] == 1):
        return list(sides)
    return [_in_colour(side) if c != 3 else side for c, side in zip(channels, sides, strict=True)]


def _in_colour(side: Side) -> Side:
    """Brings a side's images to RGB; a side that cannot be converted stays as it is."""
    if not has_setting(side.target.source, "channels"):
        return side
    how = "transparent images are composed on white" if side.images.image_shape[2] == 4 else "grey images are repeated"
    _say(f"{side.target.word}: {how} to RGB")
    target = _replaced(side.target, "channels", 3)
    assert target.source is not None
    return Side(target, source_set(target.source))


def held_out_of(named: Target | None, images: ImageSet, source: Source | None) -> Target | None:
    """Returns data not trained on: what --held-out names, else the test split beside a source's split "train"."""
    if named is not None:
        return named
    if not isinstance(source, (TFDS, Digits)) or "train" not in source.split or "test" in source.split:
        return None
    test = dataclasses.replace(source, split="test")
    try:
        found = source_set(test)
    except (ValueError, FileNotFoundError):  # it has no such split
        return None
    return None if found.fingerprint == images.fingerprint else Target(str(test), source=test)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
