"""Seeds, counts and classes as users give them, checked here for every command and every Python method."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

LARGEST = 2**31 - 1  # of counts: they are int32 in compiled programs
SEEDS = 2**32  # seeds are uint32 in compiled programs


def check_seed(value: Any, name: str = "seed") -> int:
    """Returns a seed as an int from 0 to 2**32 - 1. Raises ValueError, naming `name`, for anything else."""
    try:
        seed = operator.index(value)
    except TypeError:
        seed = -1
    if isinstance(value, (bool, np.bool_)) or not 0 <= seed < SEEDS:
        raise ValueError(f"{name}={value!r}: a seed is an integer from 0 to {SEEDS - 1}")
    return seed


def check_integer(value: Any, name: str, low: int, high: int = LARGEST) -> int:
    """Returns an integer from `low` to `high` as an int. Raises ValueError, naming `name`, for anything else."""
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if isinstance(value, (bool, np.bool_)) or not low <= number <= high:
        upper = "2**31 - 1" if high == LARGEST else high
        raise ValueError(f"{name}={value!r}: must be an integer from {low} to {upper}")
    return number


def check_labels(values: Any, num_classes: int, class_names: Sequence[str] = (), name: str = "labels") -> np.ndarray:
    """Returns classes, given by number or by name, as int32 of the same shape.

    `class_names` may be (); numbers are from 0 to `num_classes` - 1. Raises ValueError, naming `name` and the value,
    for a class that the model does not know and for what is neither an integer nor a name.
    """
    array = np.asarray(values)
    flat = [_label(value, num_classes, class_names, name) for value in array.reshape(-1).tolist()]
    return np.asarray(flat, np.int32).reshape(array.shape)


def _label(value: Any, num_classes: int, class_names: Sequence[str], name: str) -> int:
    if not num_classes:
        raise ValueError(f"{name}: {value!r} given, but this model knows no classes: leave it out")
    if isinstance(value, str) and value in class_names:
        return list(class_names).index(value)
    if isinstance(value, str):
        near = difflib.get_close_matches(value, class_names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        known = f"the names are {', '.join(class_names[:20])}" if class_names else f"0 to {num_classes - 1}, no names"
        raise ValueError(f"{name}: there is no class {value!r}; {hint}{known}")
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name}: {value!r} is no class: give integers from 0 to {num_classes - 1}")
    if not 0 <= value < num_classes:
        raise ValueError(f"{name}: {value} is out of range: this model knows 0 to {num_classes - 1}")
    return value
