"""Changes to an experiment by dotted name, from Python; `command_line` has those of the command line.

Names and types are checked against the dataclasses' own annotations; an unknown name is answered with the nearest.
What a number may be is part of its annotation too (`core.config.bounds`), and checked as the changed experiment is
made.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from imagegen_jax.core.config import old_names
from imagegen_jax.core.config.choices import lacking, options_of
from imagegen_jax.core.config.frozen_map import FrozenMap
from imagegen_jax.core.config.serial import fields_of, has_fields

T = TypeVar("T")


class Change(NamedTuple):
    """A new value at the end of a path below a node."""

    parts: Sequence[str]
    value: Any
    path: str  # the whole of it, as it was given


def override(node: T, changes: Mapping[str, Any]) -> T:
    """Returns `node` with other values at some dotted paths, e.g. {"steps": 10, "optim.generator.lr": 1e-4}.

    A dataclass may be replaced whole ("data": Digits()) and then changed further. Each is made anew once, with all of
    its changes, so that values that go together need no order. A name of an earlier version stands for what has taken
    its place (`core.config.old_names`). Raises ValueError for a name that does not exist and TypeError for a value of
    the wrong type.
    """
    return _changed(node, [Change(path.split("."), value, path) for path, value in changes.items()])


def _changed(node: Any, changes: Sequence[Change]) -> Any:
    if not changes:
        return node
    if isinstance(node, Mapping):
        return FrozenMap({**node, **{head: _member(node[head], of) for head, of in _by_head(changes, node).items()}})
    if not dataclasses.is_dataclass(node):
        parts, _, path = changes[0]
        raise ValueError(f"{path}: {type(node).__name__} {node!r} has no fields, so no {parts[0]!r}")
    names = [field.name for field in fields_of(node)]
    found = _by_head([now for change in changes for now in _today(node, change, names)], names)
    for head, of in found.items():
        for parts, value, path in of:
            if not parts:
                _check_type(type(node), head, _as_tuple(value), path)
    return _rebuilt(node, {head: _member(getattr(node, head), of) for head, of in found.items()})


def _member(value: Any, changes: Sequence[Change]) -> Any:
    """Returns what becomes of a field or an item: the last value that takes its place, with the changes after it."""
    whole = max((i for i, change in enumerate(changes) if not change.parts), default=None)
    if whole is not None:
        value, changes = _as_tuple(changes[whole].value), changes[whole + 1 :]
    return _changed(value, changes)


def _by_head(changes: Sequence[Change], names: Collection[str]) -> dict[str, list[Change]]:
    """Sorts changes by the first part of their paths, which is taken off. Raises ValueError where there is no such."""
    found: dict[str, list[Change]] = {}
    for (head, *rest), value, path in changes:
        _check_name(head, list(names), path)
        found.setdefault(head, []).append(Change(rest, value, path))
    return found


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _today(node: Any, change: Change, names: Sequence[str]) -> list[Change]:
    """Returns a change by today's names: one with an old name at its head may be several."""
    (head, *rest), value, path = change
    if head in names:
        return [change]
    before = path.removesuffix(".".join([head, *rest]))
    name = old_names.renamed(node, head)
    if name != head:
        now = ".".join([name, *rest])
        old_names.say(path, [before + now])
        return [Change([name, *rest], value, before + now)]
    old = None if rest else old_names.upgrade(node, head, value)
    if old is None:
        return [change]
    old_names.say(path, [before + name for name in old])
    return [Change([name], item, path) for name, item in old.items()]


def _rebuilt(node: Any, changes: Mapping[str, Any]) -> Any:
    return type(node)(**{field.name: getattr(node, field.name) for field in fields_of(node)} | dict(changes))


def _check_name(name: str, names: Sequence[str], path: str) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"{path}: there is no {name!r} here; {hint}The names are: {', '.join(names)}")


def _check_type(cls: type, name: str, value: Any, path: str) -> None:
    import typeguard

    hint = hints_of(cls)[name]
    if options_of(hints_of(cls, extras=True)[name]).open and callable(value) and not has_fields(value):
        raise TypeError(f"{path}={value!r} is of the wrong type: wanted a frozen dataclass, which a run can store")
    try:
        typeguard.check_type(value, hint)
    except typeguard.TypeCheckError as error:
        raise TypeError(f"{path}={value!r} is of the wrong type: wanted {_plain(hint)} ({error})") from None
    if value is not None and (missing := lacking(value, hint)):
        raise TypeError(f"{path}={value!r} is of the wrong type: {_plain(hint)} has {', '.join(missing)} too")


def hints_of(cls: type, extras: bool = False) -> dict[str, Any]:
    """Returns the annotations of a class by field; `extras`: with what `Annotated` adds to them."""
    try:
        return typing.get_type_hints(cls, include_extras=extras)
    except NameError:  # of a class in a function, whose annotations name others there
        return dict.fromkeys((field.name for field in fields_of(cls)), Any)


def _plain(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
