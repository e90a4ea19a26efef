"""What the numbers of an experiment may be, said beside each field by its annotation and checked in one place.

    width: Count = 128
    dropout: BelowOne = 0.1
    lr: Annotated[Rate, Range(0)] = 1e-3      # the numbers of a schedule in its place have its range

To Python, tyro and typeguard such a field is a plain int or float. `Experiment` calls `check_fields`, so training,
`--help`'s options, `override` and a stored experiment.json are all held to it, users' own classes too: what has no
range must be finite, and infinite only where that is the field's default.
"""

from __future__ import annotations

import functools
import math
import typing
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np

from imagegen_jax.core.config.given import LARGEST, SEEDS, Range, check_integer, digits
from imagegen_jax.core.config.serial import fields_of, has_fields

Count = Annotated[int, Range(1, LARGEST)]
Natural = Annotated[int, Range(0, LARGEST)]
Seed = Annotated[int, Range(0, SEEDS - 1)]
Shape = tuple[Count, Count, Count]  # of an image: height, width, channels
Positive = Annotated[float, Range(0, above=True)]
NonNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
BelowOne = Annotated[float, Range(0, 1, below=True)]


def check_fields(node: Any, where: str = "") -> None:
    """Raises ValueError, naming path and value, for the first number in the dataclass `node` that is not allowed.

    `where` is the path of `node`, such as "optim.generator"; "" for the experiment itself.
    """
    _check(node, Any, where, None, math.nan)


def check_integers(node: Any) -> None:
    """Raises ValueError, naming field and value, where a field of `node` must be an integer in a range and is not.

    For callers from Python: texts, truth values and None are refused too, which `check_fields` leaves to other checks.
    """
    cls: type = type(node)
    for name, hint in _hints(cls).items():
        if typing.get_origin(hint) is Annotated and typing.get_args(hint)[0] is int:
            found = hint.__metadata__[0]
            check_integer(getattr(node, name), name, found.low, found.high)


def fault(value: Any, hint: Any) -> str:
    """Says why a value out of JSON does not fit an annotation: "must be ..."; "" where it does."""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        return fault(value, parts[0]) or ("" if value in hint.__metadata__[0] else str(hint.__metadata__[0]))
    if typing.get_origin(hint) is tuple:
        whole = isinstance(value, (list, tuple)) and len(value) > 0
        long = whole and (parts[-1] is Ellipsis or len(value) == len(parts))
        faults = [fault(item, _item_hint(hint, i)) for i, item in enumerate(value)] if long else ["must be a list"]
        return next((f"{at}, each of it" if long else at for at in faults if at), "")
    if parts:
        faults = [fault(value, part) for part in parts if part is not type(None) or value is None]
        return "" if "" in faults else ", or ".join(faults)
    if hint is float and type(value) is int:
        return ""
    if type(value) is not hint:
        return f"must be {_WORDS[hint]}"
    return "must be a finite number" if hint is float and not math.isfinite(value) else ""


_WORDS = {int: "an integer", float: "a number", str: "a text", bool: "true or false", type(None): "null"}


def _check(value: Any, hint: Any, path: str, outer: Range | None, default: Any) -> None:
    """Checks a value and all below it; `outer` is its field's range, which a schedule's numbers have too."""
    found = _range_of(hint) or outer
    if has_fields(value):
        cls: type = type(value)
        hints = _hints(cls)
        for field in fields_of(value):
            hint = hints.get(field.name, Any)
            inner = None if _is_whole(hint) else found
            _check(getattr(value, field.name), hint, _joined(path, field.name), inner, field.default)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            _check(item, Any, _joined(path, str(name)), None, math.nan)
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            _check(item, _item_hint(hint, i), _joined(path, str(i)), None, math.nan)
    elif isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        _check_number(value, hint, path, found or Range(), default)


def _check_number(value: Any, hint: Any, path: str, found: Range, default: Any) -> None:
    if isinstance(value, (float, np.floating)) and _is_whole(hint):
        raise ValueError(f"{path}={value}: must be an integer")
    if isinstance(value, (float, np.floating)) and not math.isfinite(value):
        if math.isnan(value) or value != default:
            raise ValueError(f"{path}={value}: must be a finite number{found.also}")
    elif value not in found:
        raise ValueError(f"{path}={digits(value)}: {found}")


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


@functools.cache
def _hints(cls: type) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError:  # of a class in a function, whose annotations name others there
        return {}


def _range_of(hint: Any) -> Range | None:
    """Returns the range in an annotation, or in one of the alternatives of a union; None where there is none."""
    if typing.get_origin(hint) is Annotated:
        return next((part for part in hint.__metadata__ if isinstance(part, Range)), None)
    if typing.get_origin(hint) is tuple:
        return None
    return next((found for part in typing.get_args(hint) if (found := _range_of(part))), None)


def _is_whole(hint: Any) -> bool:
    """Tells whether an annotation allows integers, and no other numbers."""
    if typing.get_origin(hint) is Annotated:
        return _is_whole(typing.get_args(hint)[0])
    kinds = typing.get_args(hint) or (hint,)
    return any(kind is int or (kind is not hint and _is_whole(kind)) for kind in kinds) and float not in kinds


def _item_hint(hint: Any, index: int) -> Any:
    """Returns the annotation of one item of a tuple; Any where the tuple's does not say."""
    options = [hint, *typing.get_args(hint)]
    items = next((typing.get_args(option) for option in options if typing.get_origin(option) is tuple), ())
    if len(items) == 2 and items[1] is Ellipsis:
        return items[0]
    return items[index] if index < len(items) else Any
