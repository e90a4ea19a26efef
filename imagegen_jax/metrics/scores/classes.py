"""The classes of two labelled sets, paired by their names: label 0 of one may be label 2 of the other."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

LISTED = 5  # names in a message, before "and N more"

Labels = Int[np.ndarray, " n"]


class Classes(NamedTuple):
    """The classes that two sets share. Labels are places in `names`; -1 is a class that the other set lacks."""

    names: tuple[str, ...]  # of the classes that both have, in the order of the samples' labels
    samples: Labels
    references: Labels
    alone: tuple[str, ...]  # classes of the samples that have no references
    unused: tuple[str, ...]  # classes of the references that have no samples
    numbered: bool  # whether they are paired by number, since one side or both have no names

    def note(self, of_names: bool) -> str:
        """Says how they are paired, where that needs saying; `of_names`: whether either side has names."""
        said = []
        if self.numbered and of_names:
            said.append("classes paired by number, as one side has no names")
        if self.alone:
            said.append(f"not compared, without references: {listed(self.alone)}")
        if self.unused:
            said.append(f"not compared, without samples: {listed(self.unused)}")
        return "; ".join(said)


def has_names(names: Sequence[str]) -> bool:
    """Tells whether these are names, and not just numbers, which any labels have."""
    return any(not name.isdecimal() for name in names)


def paired_classes(
    labels: Labels, reference_labels: Labels, names: Sequence[str] = (), reference_names: Sequence[str] = ()
) -> Classes:
    """Pairs classes by name where both sides have names or neither has, else by number.

    A class without a name is named by its number; a side whose names are all numbers has no names. Raises ValueError
    for labels that are not integers from 0.
    """
    labels, reference_labels = _checked(labels, "labels"), _checked(reference_labels, "reference_labels")
    own, other = _named(names, labels), _named(reference_names, reference_labels)
    numbered = has_names(own) != has_names(other)
    if numbered:
        longest = max(own, other, key=len)
        common = own if has_names(own) else other
        own = other = (*common, *longest[len(common) :])
    there, of_reference = _present(own, labels), _present(other, reference_labels)
    shared = tuple(name for name in there if name in of_reference)
    return Classes(
        shared,
        _renumbered(labels, own, shared),
        _renumbered(reference_labels, other, shared),
        tuple(name for name in there if name not in shared),
        tuple(name for name in of_reference if name not in shared),
        numbered or not has_names(own),
    )


def listed(names: Sequence[str], most: int = LISTED) -> str:
    """Joins names by commas, and counts those beyond `most`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _checked(labels: Labels, name: str) -> Labels:
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer) or labels.min(initial=0) < 0:
        raise ValueError(f"{name} of type {labels.dtype}, least {labels.min(initial=0)}: must be integers from 0")
    return labels


def _named(names: Sequence[str], labels: Labels) -> tuple[str, ...]:
    """Returns a name for every label, normalised, since folders may write the same accents in different ways."""
    found = tuple(unicodedata.normalize("NFC", name) for name in names)
    return found + tuple(str(label) for label in range(len(found), int(labels.max(initial=-1)) + 1))


def _present(names: Sequence[str], labels: Labels) -> list[str]:
    return list(dict.fromkeys(names[label] for label in np.unique(labels)))


def _renumbered(labels: Labels, names: Sequence[str], shared: Sequence[str]) -> Labels:
    place = {name: i for i, name in enumerate(shared)}
    return np.array([place.get(name, -1) for name in names], np.int32)[labels]
