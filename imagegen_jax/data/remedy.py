"""Errors whose remedy is a setting, written as one would give it where the error appears.

Where images differ in size, for example, the remedy is `size=64` in Python, `--size 64` for a command that has this
option, and `--data.size 64` for an experiment. It is left out where no such setting can be given.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Spell = Callable[[Any, str, Any], str | None]  # (owner, setting, value) -> how it is given; None where it cannot be


class Remedy(NamedTuple):
    """A remedy of an error; "{}" in its text stands for its settings."""

    text: str
    settings: Mapping[str, Any] = {}


class SettingError(ValueError):
    """An error that other settings of `owner` would mend.

    Remedies whose settings cannot be given where the error appears are left out.
    """

    def __init__(
        self, owner: Any, problem: str, remedies: Sequence[Remedy], between: str = ", or ", spell: Spell | None = None
    ) -> None:
        self.owner, self.problem, self.remedies, self.between = owner, problem, tuple(remedies), between
        self.spelled = spell is not None
        words = [_words(owner, remedy, spell or _in_python) for remedy in remedies]
        super().__init__(problem + between.join(word for word in words if word))

    @property
    def settings(self) -> dict[str, Any]:
        """Returns all settings that remedies name."""
        return {name: value for remedy in self.remedies for name, value in remedy.settings.items()}


@contextlib.contextmanager
def remedies_spelled(spell: Spell) -> Iterator[None]:
    """Writes the remedies of a SettingError as `spell` does; errors that an inner `with` has written pass unchanged."""
    try:
        yield
    except SettingError as error:
        if error.spelled:
            raise
        raise SettingError(error.owner, error.problem, error.remedies, error.between, spell) from error


@contextlib.contextmanager
def remedies_of(owner: Any) -> Iterator[None]:
    """Makes `owner` the one whose settings remedy an error of a source that it made, such as a Folder."""
    try:
        yield
    except SettingError as error:
        raise SettingError(owner, error.problem, error.remedies, error.between) from error


def nowhere(owner: Any, name: str, value: Any) -> None:
    """Spells nothing: for places where no settings can be given."""


def as_options(names: Collection[str], prefix: str = "--") -> Spell:
    """Spells the settings of these names as options of a command."""

    def spell(owner: Any, name: str, value: Any) -> str | None:
        return option_words(prefix, name, value) if name in names else None

    return spell


def within(**roots: Any) -> Spell:
    """Spells settings as options of an experiment, with the fields that lead from one of `roots` to the owner."""

    def spell(owner: Any, name: str, value: Any) -> str | None:
        for field, root in roots.items():
            path = _path_to(owner, root)
            if path is not None:
                return option_words("--" + "".join(f"{step}." for step in (field, *path)), name, value)
        return None

    return spell


def option_words(prefix: str, name: str, value: Any) -> str:
    """Returns an option with its value, as it is typed."""
    return f"{prefix}{name.replace('_', '-')}" + ("" if value is True else f" {value}")


def has_setting(owner: Any, name: str) -> bool:
    """Tells whether a source, which is a dataclass, has this field."""
    return dataclasses.is_dataclass(owner) and name in {field.name for field in dataclasses.fields(owner)}


def _in_python(owner: Any, name: str, value: Any) -> str:
    return f"{name}={value!r}"


def _words(owner: Any, remedy: Remedy, spell: Spell) -> str | None:
    spelled = [spell(owner, name, value) for name, value in remedy.settings.items()]
    return None if None in spelled else remedy.text.replace("{}", " and ".join(map(str, spelled)))


def _path_to(owner: Any, node: Any) -> tuple[str, ...] | None:
    """Finds the fields that lead from `node` to `owner`, and returns their names; None where none do."""
    if node is owner or (type(node) is type(owner) and node == owner):
        return ()
    for field in dataclasses.fields(node) if dataclasses.is_dataclass(node) else ():
        below = _path_to(owner, getattr(node, field.name))
        if below is not None:
            return (field.name, *below)
    return None
