"""The origin of a generated picture: the run and the command that made it, as the picture itself says it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

Path = str | os.PathLike[str]

_PATHS = frozenset(  # fields of requests
    {"run", "guide", "lora", "mask", "prompts", "classifier", "styles"}
    | {"content", "style", "exemplar", "mobilenet", "video"}
)
_PLACES = frozenset({"images", "source"})  # likewise, of several paths
_LEFT_OUT = frozenset({"out", "overwrite", "metadata", "step"})  # the step is the origin's, also where none was asked


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a picture comes from. A path from the root is its last part alone: folders of a disk are nobody's business.

    `request` are the fields of the command's request that are not the defaults, as JSON has them.
    """

    run: str = ""  # its folder, as the command was given it
    experiment: str = ""  # its name
    digest: str = ""  # of its experiment.json, as `digest_of` makes it
    step: int | None = None  # of the checkpoint
    seed: int | None = None
    row: int | None = None  # among the images of the command; None: a picture of all of them
    prompts: tuple[str, ...] = ()  # of its images, row by row
    command: str = ""  # such as "imagegen sample"
    request: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    edited: bool = False  # whether the model began with images that a user gave
    untrained: bool = False  # whether an algorithm made it of a picture, without a trained model

    def of_row(self, row: int, prompts: Sequence[str] = ()) -> Origin:
        """Returns the origin of one image among those of the command."""
        return dataclasses.replace(self, row=row, prompts=tuple(prompts), request={**self.request, "row": row})

    def with_prompts(self, prompts: Sequence[str]) -> Origin:
        """Returns the origin of a picture whose images have these prompts."""
        return dataclasses.replace(self, prompts=tuple(prompts))


def origin_of(
    workdir: Path, experiment: str, step: int, seed: int | None = None, prompts: Sequence[str] = (), **more: Any
) -> Origin:
    """Returns the origin of pictures that the run in a folder makes at a step; `more` are further fields."""
    return Origin(portable(workdir), experiment, digest_of(workdir), step, seed, prompts=tuple(prompts), **more)


def origin_without_run(command: str, request: Any, seed: int, untrained: bool = False) -> Origin:
    """Returns the origin of a picture that a command made of pictures that it was given, without a run."""
    return Origin(seed=seed, command=command, request=fields_of(request), edited=True, untrained=untrained)


def published(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an experiment, as experiment.json has it, for others to see: of a private run, without the seed.

    Whoever knows that knows the noise.
    """
    private = experiment.get("private") is not None
    return {name: value for name, value in experiment.items() if not (private and name == "seed")}


def digest_of(workdir: Path) -> str:
    """Returns a digest of a run's experiment.json, from which all of the run follows; "" where there is none.

    Of a private run it does not cover the seed, which could be guessed by it.
    """
    try:
        tree = json.loads((pathlib.Path(workdir) / "experiment.json").read_text())
    except (OSError, ValueError, RecursionError):
        return ""
    tree = published(tree) if isinstance(tree, dict) else tree
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def portable(path: Path) -> str:
    """Returns a path as it may be published: from the working folder on, or else its last part."""
    place = pathlib.Path(path)
    if not place.is_absolute():
        return place.as_posix()
    try:
        return place.relative_to(pathlib.Path.cwd()).as_posix()
    except (ValueError, OSError):
        return place.name


def fields_of(request: Any) -> dict[str, Any]:
    """Returns the fields of a command's request that are not the defaults, with portable paths, for JSON."""
    found = {}
    for field in dataclasses.fields(request):
        value = getattr(request, field.name)
        if field.name in _LEFT_OUT or value == field.default:
            continue
        if field.name in _PATHS and isinstance(value, (str, os.PathLike)):
            value = portable(value)
        elif field.name in _PLACES and isinstance(value, tuple):
            value = [portable(place) for place in value]
        found[field.name] = value
    return found
