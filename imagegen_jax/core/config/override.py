"""Changes to an experiment by dotted name, from Python; `command_line` has those of the command line.

Names and types are checked against the dataclasses' own annotations; an unknown name is answered with the nearest.
What a number may be is part of its annotation too (`core.config.bounds`), and checked as the changed experiment is
made.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from imagegen_jax.core.config import old_names
from imagegen_jax.core.config.choices import lacking, options_of
from imagegen_jax.core.config.frozen_map import FrozenMap
from imagegen_jax.core.config.serial import fields_of, has_fields

T = TypeVar("T")


def override(node: T, changes: Mapping[str, Any]) -> T:
    """Returns `node` with other values at some dotted paths, e.g. {"steps": 10, "optim.generator.lr": 1e-4}.

    A dataclass may be replaced whole ("data": Digits()) and then changed further. A name of an earlier version stands
    for what has taken its place (`core.config.old_names`). Raises ValueError for a name that does not exist and
    TypeError for a value of the wrong type.
    """
    for path, value in changes.items():
        node = _replaced(node, path.split("."), value, path)
    return node


def _replaced(node: Any, parts: Sequence[str], value: Any, path: str) -> Any:
    head, *rest = parts
    if isinstance(node, Mapping):
        _check_name(head, list(node), path)
        return FrozenMap({**node, head: _replaced(node[head], rest, value, path) if rest else value})
    if not dataclasses.is_dataclass(node):
        raise ValueError(f"{path}: {type(node).__name__} {node!r} has no fields, so no {head!r}")
    names = [field.name for field in fields_of(node)]
    if head not in names and (now := _with_old_name(node, head, rest, value, path)) is not None:
        return now
    _check_name(head, names, path)
    if rest:
        value = _replaced(getattr(node, head), rest, value, path)
    else:
        value = tuple(value) if isinstance(value, list) else value
        _check_type(type(node), head, value, path)
    return _rebuilt(node, {head: value})


def _with_old_name(node: Any, head: str, rest: Sequence[str], value: Any, path: str) -> Any:
    """Returns `node` changed at a `path` with an old name at its `head`; None where it never had such a name."""
    before = path.removesuffix(".".join([head, *rest]))
    name = old_names.renamed(node, head)
    if name != head:
        now = ".".join([name, *rest])
        old_names.say(path, [before + now])
        return _replaced(node, now.split("."), value, before + now)
    old = None if rest else old_names.upgrade(node, head, value)
    if old is None:
        return None
    old_names.say(path, [before + name for name in old])
    for name, item in old.items():
        _check_type(type(node), name, item, path)
    return _rebuilt(node, old)


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
