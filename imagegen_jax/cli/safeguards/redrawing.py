"""Draws a picture again from its metadata: by the command, the training or the playground that made it.

A picture may come from anyone. So nothing that it says is run as code: classes of modules are refused, and each value
has to be of the type that the command's request has for it.
"""

from __future__ import annotations

import dataclasses
import pathlib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from imagegen_jax.cli import edit, sample
from imagegen_jax.cli.common.command import Command
from imagegen_jax.core.config.override import hints_of
from imagegen_jax.core.drawing.grid import write_png
from imagegen_jax.core.program import Program
from imagegen_jax.core.provenance.origin import Origin, origin_of
from imagegen_jax.core.run import load
from imagegen_jax.core.samples import draw_grid

_NEVER = frozenset({"out", "overwrite", "metadata", "step", "run", "modules", "styles"})  # fields that are not taken


def redraw(origin: Origin, picture: pathlib.Path, run: pathlib.Path, out: pathlib.Path, modules: Sequence[str]) -> None:
    """Writes the picture that an origin describes to `out`, by the run in a folder.

    Raises ValueError for commands that are not known and values that are not theirs, and CheckpointError where the run
    has no checkpoint of that step.
    """
    words = origin.command.split()
    if words == ["imagegen", "train"]:
        return _redraw_training(origin, run, out, modules)
    if words == ["imagegen", "play"]:
        from imagegen_jax.cli.safeguards.replaying import redraw_played  # the playground's parts are seldom needed

        return redraw_played(picture.read_bytes(), origin, run, out, modules)
    command = _commands().get(origin.command)
    if command is None:
        raise ValueError(f"{picture}: made by {origin.command!r}, which no picture can be drawn again by")
    given = _checked(command.request, origin.request)
    more = {"run": run, "step": origin.step, "out": out, "modules": tuple(modules)}
    command.run(command.request(**given, **more))
    return None


def _commands() -> dict[str, Command]:
    return {
        "imagegen sample": sample.COMMAND,
        **{f"imagegen edit {command.name}": command for command in edit.EDITS},
    }


def _redraw_training(origin: Origin, folder: pathlib.Path, out: pathlib.Path, modules: Sequence[str]) -> None:
    """Draws the grid of samples that a training wrote at a step."""
    run = load(folder, modules, step=origin.step)
    picture, _, prompts = draw_grid(Program(run.experiment), run.state)
    found = origin_of(folder, run.experiment.name, run.step, origin.seed, prompts, command=origin.command)
    write_png(out, picture, found)


def _checked(request: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a request that a picture gives. Raises ValueError for those that are not its own."""
    hints, found = hints_of(request), {}
    names = {field.name for field in dataclasses.fields(request)}
    for name, value in given.items():
        if name in _NEVER:
            continue
        if name not in names or not _fits(value, hints[name]):
            raise ValueError(f"the picture says {name}={str(value)[:60]!r}, which is no setting of its command")
        found[name] = _as_tuple(value)
    words = [str(word) for word in found.get("overrides", ())]
    if strange := [word for word in words if ":" in word and not word.startswith("imagegen_jax.")]:
        raise ValueError(
            f"the picture says {' '.join(words)!r}, and {strange[0]!r} would be run as code: if you trust it, give the "
            "command yourself"
        )
    return found


def _fits(value: Any, hint: Any) -> bool:
    """Tells whether a value out of JSON is one of an annotation."""
    parts, kind = typing.get_args(hint), typing.get_origin(hint)
    if kind is Literal:
        return value in parts
    if kind in (types.UnionType, typing.Union):
        return any(_fits(value, part) for part in parts)
    if kind is tuple:
        if not isinstance(value, list) or (parts[-1] is not Ellipsis and len(value) != len(parts)):
            return False
        return all(_fits(item, parts[0] if parts[-1] is Ellipsis else parts[i]) for i, item in enumerate(value))
    if hint is pathlib.Path:
        return isinstance(value, str)
    return type(value) in ((int, float) if hint is float else (hint,))


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
