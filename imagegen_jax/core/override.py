"""Changes to an experiment by dotted name, from Python (`override`) or from the command line (`parse_overrides`).

Names and types are checked against the dataclasses' own annotations; an unknown name is answered with the nearest.
What a number may be is part of its annotation too (`core.bounds`), and checked as the changed experiment is made.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import typeguard
import tyro

from imagegen_jax.core.frozen import FrozenMap
from imagegen_jax.core.serial import fields_of

T = TypeVar("T")


def override(node: T, changes: Mapping[str, Any]) -> T:
    """`node` with other values at some dotted paths, e.g. {"steps": 10, "optim.generator.lr": 1e-4}.

    A dataclass may be replaced whole ("data": Digits()) and then changed further. Raises ValueError for a name that
    does not exist and TypeError for a value of the wrong type.
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
    _check_name(head, [field.name for field in fields_of(node)], path)
    if rest:
        value = _replaced(getattr(node, head), rest, value, path)
    else:
        value = tuple(value) if isinstance(value, list) else value
        _check_type(type(node), head, value, path)
    return _rebuilt(node, {head: value})


def _rebuilt(node: Any, changes: Mapping[str, Any]) -> Any:
    return type(node)(**{field.name: getattr(node, field.name) for field in fields_of(node)} | dict(changes))


def _check_name(name: str, names: Sequence[str], path: str) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"{path}: there is no {name!r} here; {hint}The names are: {', '.join(names)}")


def _check_type(cls: type, name: str, value: Any, path: str) -> None:
    hint = _hints(cls)[name]
    try:
        typeguard.check_type(value, hint)
    except typeguard.TypeCheckError as error:
        raise TypeError(f"{path}={value!r} is of the wrong type: wanted {_plain(hint)} ({error})") from None


def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _plain(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


# --- the command line ------------------------------------------------------------------------------------------------


def parse_overrides(
    node: T, arguments: Sequence[str], prog: str, description: str = "", prefix: Sequence[str] = ()
) -> T:
    """`node` changed as options such as `--model.sampler.steps 50` say; exits with a message where they are wrong.

    Every plain value below `node` is an option with its type, default and comment in `--help`. An option named after
    a dataclass takes the name of another that its annotation allows: `--model.sampler DDIM`. A mapping of texts takes
    new items too: `--pretrained.encoder runs/a`. With `prefix`, only the options below these names are offered.
    """
    node, rest = _take_texts(node, list(arguments)) if not prefix else (node, list(arguments))
    node, rest = _choose_classes(node, rest, list(prefix))
    flags = tyro.cli(_mirror(node, prefix), args=rest, prog=prog, description=description)
    return override(node, dict(_changed(node, flags)))


def _take_texts(node: Any, arguments: list[str]) -> tuple[Any, list[str]]:
    """Takes options that set an item of a mapping of texts, new or not, such as `--pretrained.judge runs/a`.

    Ends the process where such an option lacks the item's name or its value.
    """
    texts = [name for name, hint in _hints(type(node)).items() if _may_hold_texts(hint)]
    rest: list[str] = []
    while arguments:
        option = arguments.pop(0)
        name, equals, given = option.removeprefix("--").partition("=")
        field, _, item = name.replace("-", "_").partition(".")
        if not option.startswith("--") or field not in texts or "." in item:
            rest.append(option)
        elif not item or not (equals or (arguments and not arguments[0].startswith("--"))):
            raise SystemExit(f"{option}: give the name of an item and its value: --{field}.NAME VALUE")
        else:
            items = {**getattr(node, field), item: given if equals else arguments.pop(0)}
            node = override(node, {field: FrozenMap(items)})
    return node, rest


def _may_hold_texts(hint: Any) -> bool:
    values = typing.get_args(hint)[1:] if typing.get_origin(hint) is Mapping else ()
    return any(str in (value, *typing.get_args(value)) for value in values)


def _choose_classes(node: Any, arguments: list[str], prefix: list[str]) -> tuple[Any, list[str]]:
    """Takes the options, below `prefix`, that replace a dataclass by another or by a number out of the arguments."""
    rest: list[str] = []
    while arguments:
        option = arguments.pop(0)
        name, equals, given = option.removeprefix("--").partition("=")
        if not option.startswith("--") or not (equals or arguments):
            rest.append(option)
            continue
        path = name.replace("-", "_")
        parts = path.split(".")
        choices, current = _alternatives(node, parts)
        if not choices or parts[: len(prefix)] != prefix:
            rest.append(option)
            continue
        given = given if equals else arguments.pop(0)
        node = override(node, {path: _chosen(name, given, choices, current)})
    return node, rest


def _alternatives(node: Any, parts: Sequence[str]) -> tuple[dict[str, Any], Any]:
    """What the field at a path may hold beside what it holds now, and that.

    Lower-case name -> dataclass, and "a number" -> float; {} where the field takes plain values alone.
    """
    owner = None
    for part in parts:
        owner = node
        if isinstance(node, Mapping) and part in node:
            node = node[part]
        elif dataclasses.is_dataclass(node) and part in {field.name for field in fields_of(node)}:
            node = getattr(node, part)
        else:
            return {}, None
    if owner is None or isinstance(owner, Mapping):
        return {}, node
    hints = typing.get_args(_hints(type(owner))[parts[-1]])
    classes = {h.__name__.lower(): h for h in hints if isinstance(h, type) and dataclasses.is_dataclass(h)}
    return (classes | ({"a number": float} if float in hints else {}) if classes else {}), node


def _chosen(name: str, given: str, choices: Mapping[str, Any], current: Any) -> Any:
    """The default of a class, or a number. A schedule that wants a peak alone gets the number there was before."""
    cls = choices.get(given.lower())
    if cls is None or cls is float:
        try:
            return choices["a number"](given)
        except (KeyError, ValueError):
            raise SystemExit(f"--{name} {given}: it can be {', '.join(choices)}") from None
    missing = dataclasses.MISSING
    needed = [f.name for f in fields_of(cls) if f.default is missing and f.default_factory is missing]
    if needed == ["peak"] and isinstance(current, (int, float)):
        return cls(current)
    if needed:
        raise SystemExit(f"--{name} {given}: {cls.__name__} has no default for {', '.join(needed)}; set it in Python")
    return cls()


def _mirror(node: Any, prefix: Sequence[str] = ()) -> Any:
    """A dataclass type with the plain values of `node` as fields and defaults, for tyro to make options of."""
    fields: list[Any] = []
    for name, value, hint, comment in _members(node):
        if prefix and name != prefix[0]:
            continue
        if dataclasses.is_dataclass(value) or isinstance(value, Mapping):
            inner = _mirror(value, prefix[1:])
            if dataclasses.fields(inner):
                fields.append((name, inner, dataclasses.field(default_factory=inner)))
        elif not _holds_dataclasses(value):
            fields.append((name, Annotated[_narrow(hint, value), tyro.conf.arg(help=comment)], value))
    return dataclasses.make_dataclass(type(node).__name__, fields, frozen=True)


def _members(node: Any) -> list[tuple[str, Any, Any, str]]:
    """(name, value, annotation, comment) of each field of a dataclass or item of a mapping."""
    if isinstance(node, Mapping):
        return [(name, value, type(value), "") for name, value in node.items()]
    hints, comments = _hints(type(node)), _comments(type(node))
    return [(f.name, getattr(node, f.name), hints[f.name], comments.get(f.name, "")) for f in fields_of(node)]


def _holds_dataclasses(value: Any) -> bool:
    return isinstance(value, tuple) and any(dataclasses.is_dataclass(item) for item in value)


def _narrow(hint: Any, value: Any) -> Any:
    """An annotation without the alternatives that are no plain values."""
    if hint is Any:
        return type(value)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        plain = [h for h in typing.get_args(hint) if not dataclasses.is_dataclass(h)]
        return typing.Union[tuple(plain)]  # noqa: UP007  (made at run time)
    if typing.get_origin(hint) is tuple and not value and not isinstance(typing.get_args(hint)[0], type):
        return tuple[str, ...]
    return hint


def _comments(cls: type) -> dict[str, str]:
    """Field -> the comment on its line, which becomes its help text."""
    try:
        source = inspect.getsource(cls)
    except (OSError, TypeError):
        return {}
    return dict(re.findall(r"^\s+(\w+)\s*:[^#\n]*#\s*(.+)$", source, flags=re.MULTILINE))


def _changed(node: Any, flags: Any, path: str = "") -> list[tuple[str, Any]]:
    """(dotted path, new value) wherever parsed options differ from the value they were made from."""
    found: list[tuple[str, Any]] = []
    for field in dataclasses.fields(flags):
        old = node[field.name] if isinstance(node, Mapping) else getattr(node, field.name)
        new, at = getattr(flags, field.name), f"{path}.{field.name}".lstrip(".")
        if dataclasses.is_dataclass(new):
            found += _changed(old, new, at)
        elif new != old:
            found.append((at, new))
    return found
