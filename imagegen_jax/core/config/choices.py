"""Fields that hold whatever meets a protocol: the package's own classes are named beside it, and imported when chosen.

    AnySolver = Annotated[Solver, Choices("imagegen_jax.diffusion.sampling.heun:Heun, Restart", ...)]

    solver: AnySolver = Heun()        # --model.solver Restart, --model.solver my_module:MySolver, --model.solver None

The names are for the command line alone; a user's own class needs none.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pathlib
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from imagegen_jax.core.config.user_module import import_target
from imagegen_jax.moved import newer_words


class Choices:
    """Names the classes of this package that meet a protocol, as "module:Class, Class"."""

    def __init__(self, *modules: str) -> None:
        split = (line.partition(":") for line in modules)
        self.tags = tuple(f"{module}:{name.strip()}" for module, _, names in split for name in names.split(","))


@dataclasses.dataclass(frozen=True)
class Options:
    """What can be named for a field, from its annotation."""

    names: dict[str, str | type | None]  # name -> "module:Class", class, or None for no class at all
    number: bool  # whether a plain number can take the class's place
    open: bool  # whether a class of the user's own can

    def words(self) -> list[str]:
        """Returns all that can be named."""
        return [*self.names, *(["a number"] if self.number else []), *(["MODULE:CLASS"] if self.open else [])]

    def metavar(self) -> str | None:
        """Returns how `--help` shows what can be named; None where nothing can."""
        words = [*self.names, *(["MODULE:CLASS"] if self.open else [])]
        return f"{'FLOAT|' * self.number}{{{','.join(words)}}}" if self.names else None

    def find(self, word: str) -> str | None:
        """Returns the name that a word, in capitals or not, stands for now or did in an earlier version; else None."""
        known = {name.lower(): name for name in self.names}
        return next((known[one] for one in (word.lower(), *newer_words(word)) if one in known), None)

    def load(self, name: str) -> type | None:
        """Returns the class of a name."""
        found = self.names[name]
        return _load(found) if isinstance(found, str) else found

    def load_all(self) -> list[type]:
        """Returns the classes of all names."""
        return [cls for name in self.names if (cls := self.load(name)) is not None]

    def refusal(self, word: str) -> str:
        """Says what can be named in place of a word."""
        near = difflib.get_close_matches(word.lower(), [name.lower() for name in self.names], n=1, cutoff=0.5)
        hint = f"did you mean {self.find(near[0])}? " if near else ""
        return f"{hint}it can be {', '.join(self.words())}"


def options_of(hint: Any) -> Options:
    """Returns what can be named for a field with an annotation, as `typing.get_type_hints` with extras gives it."""
    names: dict[str, str | type | None] = {}
    found = list(_parts(hint))
    for part in found:
        if isinstance(part, Choices):
            names |= {tag.partition(":")[2]: tag for tag in part.tags}
        elif isinstance(part, type) and dataclasses.is_dataclass(part):
            names[part.__name__] = part
    if names and type(None) in found:
        names["None"] = None
    return Options(names, float in found, any(isinstance(part, Choices) for part in found))


def _parts(hint: Any) -> Iterator[Any]:
    """Yields the alternatives of an annotation; for one that is annotated with `Choices`, these in its place."""
    if typing.get_origin(hint) is Annotated:
        base, *extras = typing.get_args(hint)
        choices = [extra for extra in extras if isinstance(extra, Choices)]
        yield from choices or _parts(base)
    elif typing.get_origin(hint) in (typing.Union, types.UnionType):
        for part in typing.get_args(hint):
            yield from _parts(part)
    else:
        yield hint


def item_of(hint: Any) -> Any:
    """Returns the annotation of the items of a mapping that is annotated so; `Any` where it does not say."""
    parts = typing.get_args(hint)
    return parts[1] if len(parts) == 2 and typing.get_origin(hint) is Mapping else Any


def plain(hint: Any) -> Any:
    """Returns an annotation without what `Annotated` adds to it or to its parts."""
    holder = type("Holder", (), {"__annotations__": {"hint": hint}})
    return typing.get_type_hints(holder)["hint"]


def is_protocol(hint: Any) -> bool:
    """Tells whether an annotation is a protocol, as `typing.is_protocol` does from Python 3.13 on."""
    return isinstance(hint, type) and getattr(hint, "_is_protocol", False)


def lacking(value: Any, hint: Any) -> list[str]:
    """Returns the members of an annotation's protocol that a value lacks; of several protocols, the nearest one's.

    [] where the annotation allows something else than protocols.
    """
    found: list[list[str]] = []
    for part in _parts(hint):
        if part is type(None):
            continue
        if not is_protocol(part):
            return []
        names = {name for cls in part.__mro__ if is_protocol(cls) for name in vars(cls) if not name.startswith("_")}
        found.append(sorted(name for name in names if not hasattr(value, name)))
    return min(found, key=len, default=[])


def import_class(tag: str) -> type:
    """Imports a user's own class by "module:Class" or "path/to/file.py:Class".

    Raises ValueError where there is none, and where it is no dataclass, which a run's folder could not hold.
    """
    place, _, name = tag.rpartition(":")
    found = getattr(_imported(place) or import_target(place), name, None)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        what = "there is no such class in it" if found is None else "it must be a frozen dataclass, to be stored"
        raise ValueError(f"{tag}: {what}")
    return found


def _imported(place: str) -> types.ModuleType | None:
    """Returns the module of a .py file that is imported already: imported again, it would have other classes."""
    path = pathlib.Path(place)
    module = sys.modules.get(path.stem)
    file = getattr(module, "__file__", None)
    return module if path.suffix == ".py" and file and pathlib.Path(file).resolve() == path.resolve() else None


def _load(tag: str) -> type:
    module, _, name = tag.partition(":")
    found: type = getattr(importlib.import_module(module), name)
    return found
