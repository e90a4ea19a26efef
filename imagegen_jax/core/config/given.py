"""Seeds and classes as users give them, checked here for every command and every Python method."""

from __future__ import annotations

import dataclasses
import difflib
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

SEEDS = 2**32  # seeds are uint32 in compiled programs
LARGEST = 2**31 - 1  # of counts: what an index of an array may be everywhere


@dataclasses.dataclass(frozen=True)
class Range:
    """Holds the numbers from `low` to `high`: `above` leaves out `low` itself, `below` leaves out `high`."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        low = value > self.low if self.above else value >= self.low
        return low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        return f"must be {self._words or 'a finite number'}"

    @property
    def also(self) -> str:
        """Returns what follows "must be a number": ", above 0", or nothing where any will do."""
        return f", {self._words}" if self._words else ""

    @property
    def _words(self) -> str:
        words = [f"{'above' if self.above else 'at least'} {self.low:g}"] * (self.low > -math.inf)
        if self.high < math.inf:
            words += [f"{'below' if self.below else 'at most'} {digits(self.high)}"]
        return " and ".join(words)


def digits(value: float) -> str:
    """Returns a number as text; of a very long one the first digits, and how many there are."""
    text = str(value)
    return text if len(text) < 40 else f"{text[:20]}... ({len(text)} digits)"


def check_seed(value: Any, name: str = "seed") -> int:
    """Returns a seed as an int from 0 to 2**32 - 1. Raises ValueError, naming `name`, for anything else."""
    try:
        seed = operator.index(value)
    except TypeError:
        seed = -1
    if isinstance(value, (bool, np.bool_)) or not 0 <= seed < SEEDS:
        raise ValueError(f"{name}={value!r}: a seed is an integer from 0 to {SEEDS - 1}")
    return seed


def check_integer(value: Any, name: str, low: int = 1, high: int = LARGEST) -> int:
    """Returns an integer from `low` to `high` as an int. Raises ValueError, naming `name` and the value, for others."""
    try:
        found = operator.index(value)
    except TypeError:
        found = low - 1
    if isinstance(value, (bool, np.bool_)) or not low <= found <= high:
        raise ValueError(f"{name}={value!r}: must be an integer{Range(low, high).also}")
    return found


def check_number(value: Any, name: str, low: float = -math.inf, high: float = math.inf, above: bool = False) -> float:
    """Returns a finite number from `low` (with `above`, above it) to `high` as a float.

    Raises ValueError, naming `name` and the value, for NaN, infinity and what is no number or out of that range.
    """
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    found = Range(low, high, above)
    if not is_number or not math.isfinite(value) or value not in found:
        raise ValueError(f"{name}={value!r}: must be a finite number{found.also}")
    return float(value)


def check_numbers(values: Any, name: str, largest: float = math.inf) -> None:
    """Checks that numbers are finite and within `largest` of zero; raises ValueError, naming `name`, where not."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        array = np.asarray(math.nan)
    wrong = ~(np.isfinite(array) & (np.abs(array) <= largest))
    if wrong.any():
        found = values if array.ndim == 0 else array[wrong].ravel()[0]
        raise ValueError(f"{name} {found}: must be a finite number{Range(-largest, largest).also}")


def check_labels(values: Any, num_classes: int, class_names: Sequence[str] = (), name: str = "labels") -> np.ndarray:
    """Returns classes, given by number or by name, as int32 of the same shape.

    `class_names` may be (); numbers are from 0 to `num_classes` - 1. Raises ValueError, naming `name` and the value,
    for a class that the model does not know and for what is neither an integer nor a name.
    """
    array = values if isinstance(values, np.ndarray) else np.array(values, dtype=object)
    if array.dtype.kind in "iu" and array.size and 0 <= array.min() and array.max() < num_classes:
        return array.astype(np.int32)  # at once, since there may be millions of them
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
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"{name}: {value!r} is no class: give integers from 0 to {num_classes - 1}")
    if not 0 <= value < num_classes:
        raise ValueError(f"{name}: {value} is out of range: this model knows 0 to {num_classes - 1}")
    return int(value)
