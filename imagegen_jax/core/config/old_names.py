"""Options and dotted names of an earlier version: taken as what they are called now, with a word on it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from imagegen_jax.core.config.serial import fields_of, has_fields, upgraded


def upgrade(node: Any, name: str, value: Any) -> dict[str, Any] | None:
    """Returns the fields that a dataclass has in place of `name`=`value`, with their values.

    None where it never had a field of this name; see `serial.upgraded` for how a class says so.
    """
    now = {field.name: getattr(node, field.name) for field in fields_of(node)}
    if name in now:
        return None
    found = upgraded(type(node), now | {name: value})
    return None if name in found else {field: item for field, item in found.items() if item is not now.get(field)}


def renamed(node: Any, name: str) -> str:
    """Returns today's name of a dataclass's field `name`, where nothing but the name has changed.

    Any other name, such as one of today, is returned as it is.
    """
    marker = object()
    try:
        found = upgrade(node, name, marker)
    except Exception:  # of a class that looks at the value: then it is not the name alone that has changed
        return name
    now = next((field for field, item in (found or {}).items() if item is marker), name)
    if now == name and name.startswith("no_"):  # the option that sets a field to False
        return "no_" + renamed(node, name.removeprefix("no_"))
    return now


def say(old: str, new: Sequence[str]) -> None:
    """Says on stderr what to write in place of an old name."""
    today = f"it is {' and '.join(new)} now" if new else "nothing follows from it any more"
    print(f"warning: {old} is a name of an earlier version: {today}", file=sys.stderr)


def current_parts(node: Any, parts: Sequence[str]) -> list[str]:
    """Returns a path below `node` with today's names in place of those fields that were only renamed."""
    found: list[str] = []
    for part in parts:
        found.append(renamed(node, part) if has_fields(node) else part)
        node = _member(node, found[-1])
    return found


def is_old(node: Any, parts: Sequence[str]) -> bool:
    """Tells whether a path below `node` ends in an old name of a field, whose place fields with other values took."""
    for part in parts[:-1]:
        node = _member(node, part)
    try:
        return has_fields(node) and upgrade(node, parts[-1], None) is not None
    except Exception:  # of a class that looks at the value
        return True


def _member(node: Any, name: str) -> Any:
    return node.get(name) if isinstance(node, Mapping) else getattr(node, name, None) if has_fields(node) else None


def read(words: Sequence[str]) -> Any:
    """Returns the value of an old option: a literal or a word, a tuple of several, True where nothing is given."""
    values = tuple(map(_read, words))
    return True if not values else values[0] if len(values) == 1 else values


def _read(word: str) -> Any:
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word
