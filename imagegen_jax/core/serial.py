"""Experiments as JSON: rebuilt from the names of their classes, never from pickles.

Classes come from this package alone unless the caller names further modules, so that a file cannot make code run.
"""

from __future__ import annotations

import dataclasses
import importlib
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn

from imagegen_jax.core.frozen import FrozenMap

PACKAGE = "imagegen_jax"


def fields_of(node: Any) -> list[dataclasses.Field[Any]]:
    """The hyperparameters of a dataclass; of a linen module those that are not linen's own."""
    own = ("parent", "name") if isinstance(node, nn.Module) or node is nn.Module else ()
    return [field for field in dataclasses.fields(node) if field.init and field.name not in own]


def to_dict(node: Any, where: str = "experiment") -> Any:
    """A value made of dataclasses, mappings, tuples and plain values, as what JSON can hold.

    Raises TypeError, naming the place, where it holds something else, such as an array or a function.
    """
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        tag = {"class": f"{_module_of(type(node))}:{type(node).__qualname__}"}
        return tag | {f.name: to_dict(getattr(node, f.name), f"{where}.{f.name}") for f in fields_of(node)}
    if isinstance(node, Mapping):
        return {str(key): to_dict(item, f"{where}.{key}") for key, item in node.items()}
    if isinstance(node, (tuple, list)):
        return [to_dict(item, f"{where}.{i}") for i, item in enumerate(node)]
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    raise TypeError(
        f"{where} is a {type(node).__name__}: an experiment holds only numbers, strings, tuples, mappings and "
        "frozen dataclasses, so that a file can rebuild it"
    )


def _module_of(cls: type) -> str:
    """The module that a class can be imported from, also where that module was started as a program."""
    main = sys.modules["__main__"]
    if cls.__module__ != "__main__":
        return cls.__module__
    if main.__spec__ is not None:
        return main.__spec__.name
    file = getattr(main, "__file__", None)
    return pathlib.Path(file).stem if file else "__main__"


def from_dict(tree: Any, modules: Sequence[str] = ()) -> Any:
    """The inverse of `to_dict`.

    Raises ValueError where a class comes neither from this package nor from `modules`, is gone, or has other fields.
    """
    if isinstance(tree, list):
        return tuple(from_dict(item, modules) for item in tree)
    if not isinstance(tree, dict):
        return tree
    items = {key: from_dict(item, modules) for key, item in tree.items() if key != "class"}
    if "class" not in tree:
        return FrozenMap(items)
    cls = _find_class(tree["class"], modules)
    unknown = set(items) - {field.name for field in fields_of(cls)}
    if unknown:
        raise ValueError(f"{tree['class']} has no field {sorted(unknown)}: it was stored by another version")
    return cls(**items)


def _find_class(tag: str, modules: Sequence[str]) -> type:
    module, _, name = tag.partition(":")
    if module.split(".")[0] != PACKAGE and module not in modules:
        raise ValueError(
            f"the stored experiment has the class {name!r} of the module {module!r}, outside {PACKAGE}: name that "
            f"module (modules=[{module!r}], on the command line --module {module}) or hand the experiment over"
        )
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"the stored experiment has the class {tag!r}, whose module cannot be imported ({error}): it was stored by "
            "another version, or a package is missing here"
        ) from error
    for part in name.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ValueError(f"the stored experiment has the class {tag!r}, which is not there (any more)")
    return found


def with_defaults(tree: Any, node: Any) -> Any:
    """A result of `to_dict` with the fields that classes have gained since, at their defaults.

    `node` is a value like the one that the tree was made of; where their classes differ, the tree is left as it is.
    """
    if isinstance(tree, dict) and isinstance(node, Mapping):
        return {key: with_defaults(item, node.get(key)) for key, item in tree.items()}
    if isinstance(tree, list) and isinstance(node, (tuple, list)) and len(tree) == len(node):
        return [with_defaults(item, value) for item, value in zip(tree, node, strict=True)]
    if not (isinstance(tree, dict) and dataclasses.is_dataclass(node)) or tree.get("class") != to_dict(node)["class"]:
        return tree
    found = {}
    for field in fields_of(node):
        if field.name in tree:
            found[field.name] = with_defaults(tree[field.name], getattr(node, field.name))
        elif field.default is not dataclasses.MISSING:
            found[field.name] = to_dict(field.default)
    return tree | found


def flatten(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """("a.b.c", value) for each plain value of what `to_dict` returns."""
    if isinstance(tree, (dict, list)) and tree:
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, item in items:
            yield from flatten(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree


def differences(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    """Dotted path -> (old value, new value) wherever two results of `to_dict` differ."""
    was, now = dict(flatten(old)), dict(flatten(new))
    missing = "(absent)"
    return {
        path: (was.get(path, missing), now.get(path, missing))
        for path in [*was, *(p for p in now if p not in was)]
        if path not in was or path not in now or was[path] != now[path] or type(was[path]) is not type(now[path])
    }
