"""Changes to an experiment by options of the command line, such as `--model.sampler.steps 50`."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import itertools
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from imagegen_jax.core.config import old_names
from imagegen_jax.core.config.choices import Options, import_class, is_protocol, item_of, options_of, plain
from imagegen_jax.core.config.frozen_map import FrozenMap
from imagegen_jax.core.config.override import hints_of, override
from imagegen_jax.core.config.serial import fields_of, has_fields

T = TypeVar("T")

_CHOICE = "__choice"  # ends the name of an option that takes a class, which stands beside those of its fields


def parse_overrides(
    node: T, arguments: Sequence[str], prog: str, description: str = "", prefix: Sequence[str] = ()
) -> T:
    """Returns `node` changed by options such as `--model.sampler.steps 50`; exits with a message where they are wrong.

    Every plain value below `node` is an option with its type, default and comment in `--help`. An option named after
    a dataclass takes the name of another that its annotation allows: `--model.sampler DDIM`. A mapping of texts takes
    new items too: `--pretrained.encoder runs/a`. With `prefix`, only the options below these names are offered.
    """
    if not arguments:
        return node
    import tyro  # here and below: it is slow to import, and a notebook has no command line

    node, rest = _take_texts(node, list(arguments)) if not prefix else (node, list(arguments))
    node, rest = _choose_classes(node, rest, list(prefix))
    flags = tyro.cli(_mirror(node, prefix), args=rest, prog=prog, description=description)
    return override(node, dict(_changed(node, flags)))


def _take_texts(node: Any, arguments: list[str]) -> tuple[Any, list[str]]:
    """Applies options that set an item of a mapping of texts, new or not, such as `--pretrained.judge runs/a`.

    Returns the changed node and the other options. Ends the process where such an option lacks the item's name or its
    value.
    """
    texts = [name for name, hint in hints_of(type(node)).items() if _may_hold_texts(hint)]
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
    """Applies the options below `prefix` that replace a dataclass by another or by a number.

    Applies those of an earlier version whose values have changed as well; an option that was only renamed gets today's
    name. Returns the changed node and the other options.
    """
    rest: list[str] = []
    while arguments:
        option = arguments.pop(0)
        name, equals, given = option.removeprefix("--").partition("=")
        parts = old_names.current_parts(node, name.replace("-", "_").split("."))
        if not option.startswith("--") or parts[: len(prefix)] != prefix:
            rest.append(option)
            continue
        node = _filled(node, parts)
        path = ".".join(parts)
        if path != name.replace("-", "_"):
            old_names.say(f"--{name}", [f"--{path}"])
            name, option = path, f"--{path}{equals}{given}"
        options, current = _options(node, parts)
        if options.names and (equals or arguments):
            given = given if equals else arguments.pop(0)
            node = override(node, {path: _chosen(name, given, options, current)})
        elif old_names.is_old(node, parts):
            words = [given] if equals else _values(arguments)
            del arguments[: 0 if equals else len(words)]
            node = override(node, {path: old_names.read(words)})
        else:
            rest.append(option)
    return node, rest


def _filled(node: Any, parts: Sequence[str]) -> Any:
    """Returns `node` with a value where a path leads below a field that is None: of the only class that it can have."""
    for end in range(1, len(parts)):
        options, value = _options(node, parts[:end])
        kinds = [kind for kind in options.names.values() if isinstance(kind, type)]
        if value is None and len(kinds) == 1 and not options.open:
            path = ".".join(parts[:end])
            return override(node, {path: _chosen(path, kinds[0].__name__, options, None)})
    return node


def _values(arguments: Sequence[str]) -> list[str]:
    return list(itertools.takewhile(lambda word: not word.startswith("--"), arguments))


def _options(node: Any, parts: Sequence[str]) -> tuple[Options, Any]:
    """Returns what can be named for the field at a path, and its value; no names where it takes plain values alone."""
    hint: Any = None
    for part in parts:
        if isinstance(node, Mapping) and part in node:
            node, hint = node[part], item_of(hint)
        elif dataclasses.is_dataclass(node) and part in {field.name for field in fields_of(node)}:
            node, hint = getattr(node, part), hints_of(type(node), extras=True)[part]
        else:
            return options_of(None), None
    return options_of(hint), node


def _chosen(option: str, given: str, options: Options, current: Any) -> Any:
    """Makes the value that an option names: a class with its defaults, or a number.

    A schedule that has no default for its peak alone takes the number that was there before. Ends the process for
    anything else.
    """
    name = options.find(given)
    if name is None and options.number:
        with contextlib.suppress(ValueError):
            return float(given)
    if name is None and not (options.open and ":" in given):
        raise SystemExit(f"--{option} {given}: {options.refusal(given)}")
    if name is not None and name.lower() != given.lower():
        old_names.say(f"--{option} {given}", [f"--{option} {name}"])
    cls = options.load(name) if name is not None else import_class(given)
    if cls is None:
        return None
    missing = dataclasses.MISSING
    needed = [f.name for f in fields_of(cls) if f.default is missing and f.default_factory is missing]
    if needed == ["peak"] and isinstance(current, (int, float)):
        return cls(current)
    if needed:
        raise SystemExit(f"--{option} {given}: {cls.__name__} has no default for {', '.join(needed)}; set it in Python")
    return cls()


def _mirror(node: Any, prefix: Sequence[str] = (), own_hint: Any = None) -> Any:
    """Makes a dataclass type with the plain values of `node` as fields and defaults, for tyro to make options of.

    `own_hint` is the annotation of `node` itself, which a mapping needs.
    """
    import tyro

    fields: list[Any] = []
    for name, value, hint, comment in _members(node, own_hint):
        if prefix and name != prefix[0]:
            continue
        options = options_of(hint)
        if options.names and (value is None or has_fields(value)):
            chosen = tyro.conf.arg(name=name, help=comment, metavar=options.metavar())
            now = "None" if value is None else type(value).__name__
            fields.append((f"{name}{_CHOICE}", Annotated[str, chosen], now))
        if has_fields(value) or isinstance(value, Mapping):
            inner = _mirror(value, prefix[1:], hint)
            if dataclasses.fields(inner):
                fields.append((name, inner, dataclasses.field(default_factory=inner)))
        elif not (_holds_dataclasses(value) or (options.names and value is None)):
            said = tyro.conf.arg(help=comment, metavar=options.metavar())
            fields.append((name, Annotated[_narrow(plain(hint), value), said], value))
    return dataclasses.make_dataclass(type(node).__name__, fields, frozen=True)


def _members(node: Any, own_hint: Any) -> list[tuple[str, Any, Any, str]]:
    """Lists (name, value, annotation, comment) of each field of a dataclass or item of a mapping.

    `own_hint` is the annotation of `node` itself.
    """
    if isinstance(node, Mapping):
        return [(name, value, item_of(own_hint), "") for name, value in node.items()]
    hints, comments = hints_of(type(node), extras=True), _comments(type(node))
    return [(f.name, getattr(node, f.name), hints[f.name], comments.get(f.name, "")) for f in fields_of(node)]


def _holds_dataclasses(value: Any) -> bool:
    return isinstance(value, tuple) and any(dataclasses.is_dataclass(item) for item in value)


def _narrow(hint: Any, value: Any) -> Any:
    """Returns an annotation without the alternatives that are no plain values."""
    if hint is Any:
        return type(value)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kept = [h for h in typing.get_args(hint) if not (dataclasses.is_dataclass(h) or is_protocol(h))]
        return typing.Union[tuple(kept)]  # noqa: UP007  (made at run time)
    if typing.get_origin(hint) is tuple and not value and not isinstance(typing.get_args(hint)[0], type):
        return tuple[str, ...]
    return hint


def _comments(cls: type) -> dict[str, str]:
    """Returns the comment on the line of each field, by its name; it becomes the option's help."""
    try:
        source = inspect.getsource(cls)
    except (OSError, TypeError):
        return {}
    return dict(re.findall(r"^\s+(\w+)\s*:[^#\n]*#\s*(.+)$", source, flags=re.MULTILINE))


def _changed(node: Any, flags: Any, path: str = "") -> list[tuple[str, Any]]:
    """Lists (dotted path, new value) wherever parsed options differ from the value that they were made from."""
    found: list[tuple[str, Any]] = []
    for field in dataclasses.fields(flags):
        if field.name.endswith(_CHOICE):
            continue
        old = node[field.name] if isinstance(node, Mapping) else getattr(node, field.name)
        new, at = getattr(flags, field.name), f"{path}.{field.name}".lstrip(".")
        if dataclasses.is_dataclass(new):
            found += _changed(old, new, at)
        elif new != old:
            found.append((at, new))
    return found
