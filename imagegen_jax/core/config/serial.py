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

from imagegen_jax.core.config.frozen_map import FrozenMap
from imagegen_jax.moved import current_name

PACKAGE = "imagegen_jax"
NONE: Mapping[str, Any] = FrozenMap()


def fields_of(node: Any) -> list[dataclasses.Field[Any]]:
    """Returns the hyperparameters of a dataclass; of a linen module those that are not linen's own."""
    own = ("parent", "name") if isinstance(node, nn.Module) or node is nn.Module else ()
    return [field for field in dataclasses.fields(node) if field.init and field.name not in own]


def has_fields(value: Any) -> bool:
    """Tells whether a value is a dataclass's, and not a dataclass itself."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def to_dict(node: Any, where: str = "experiment") -> Any:
    """Turns a value made of dataclasses, mappings, tuples and plain values into what JSON can hold.

    Raises TypeError, naming the place, where it holds something else, such as an array or a function.
    """
    if has_fields(node):
        return {"class": _tag(type(node))} | {
            f.name: to_dict(getattr(node, f.name), f"{where}.{f.name}") for f in fields_of(node)
        }
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


def _tag(cls: type) -> str:
    return f"{_module_of(cls)}:{cls.__qualname__}"


def _module_of(cls: type) -> str:
    """Returns the module that a class can be imported from, also where that module was started as a program."""
    main = sys.modules["__main__"]
    if cls.__module__ != "__main__":
        return cls.__module__
    if main.__spec__ is not None:
        return main.__spec__.name
    file = getattr(main, "__file__", None)
    return pathlib.Path(file).stem if file else "__main__"


def from_dict(tree: Any, modules: Sequence[str] = (), known: Mapping[str, type] = NONE) -> Any:
    """Rebuilds a value from what `to_dict` made of it, in this version or in an earlier one.

    Classes may have been moved since (`imagegen_jax.moved`), and fields renamed (see `upgraded`). `known` are further
    classes by their "module:Class". Raises ValueError where a class comes neither from this package nor from `modules`,
    nor is one of `known`, and where it is gone or has other fields.
    """
    if isinstance(tree, list):
        return tuple(from_dict(item, modules, known) for item in tree)
    if not isinstance(tree, dict):
        return tree
    items = {key: from_dict(item, modules, known) for key, item in tree.items() if key != "class"}
    if "class" not in tree:
        return FrozenMap(items)
    tag = current_name(tree["class"])
    cls = known.get(tag) or _find_class(tag, modules, tree["class"])
    items = upgraded(cls, items)
    unknown = set(items) - {field.name for field in fields_of(cls)}
    if unknown:
        raise ValueError(f"{tree['class']} has no field {sorted(unknown)}: it was stored by another version")
    return cls(**items)


def upgraded(cls: type, items: dict[str, Any]) -> dict[str, Any]:
    """Returns a dataclass's values by today's names of its fields; `items` may have those of an earlier version.

    A dataclass whose fields have changed says how in a classmethod of this name, `upgraded(cls, items)`, which takes
    and returns values by name. It is called for each stored value and for each option that is no field, so it has to
    change nothing where there is no old name. Where both names are there, the value of the old one counts.
    """
    hook = getattr(cls, "upgraded", None)
    return dict(hook(dict(items))) if hook is not None else items


def _find_class(tag: str, modules: Sequence[str], stored: str) -> type:
    module, _, name = tag.partition(":")
    if module.split(".")[0] != PACKAGE and not {module, stored.partition(":")[0]} & set(modules):
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


def renewed(tree: Any, node: Any) -> Any:
    """Returns a stored result of `to_dict` as this version would store it: see `from_dict` and `with_defaults`.

    `node` is a value like the one that it was made of, whose classes are known; what cannot be rebuilt is left as it
    is.
    """
    return with_defaults(_renewed(tree, dict(_classes_in(node))), node)


def _renewed(tree: Any, known: Mapping[str, type]) -> Any:
    if isinstance(tree, list):
        return [_renewed(item, known) for item in tree]
    if not isinstance(tree, dict):
        return tree
    items = {key: _renewed(item, known) for key, item in tree.items()}
    if not isinstance(items.get("class"), str):
        return items
    items["class"] = current_name(items["class"])
    try:
        return to_dict(from_dict(items, known=known))
    except Exception:  # of another version's class, or values that it refuses: to be compared as they are
        return items


def _classes_in(node: Any) -> Iterator[tuple[str, type]]:
    """Yields ("module:Class", class) for each dataclass in a value."""
    if has_fields(node):
        yield _tag(type(node)), type(node)
        for field in fields_of(node):
            yield from _classes_in(getattr(node, field.name))
    elif isinstance(node, (Mapping, tuple, list)):
        for item in node.values() if isinstance(node, Mapping) else node:
            yield from _classes_in(item)


def modules_in(node: Any) -> list[str]:
    """Returns the modules that the classes of a value come from, each once."""
    return list(dict.fromkeys(tag.partition(":")[0] for tag, _ in _classes_in(node)))


def with_defaults(tree: Any, node: Any) -> Any:
    """Adds to a result of `to_dict` the fields that classes have gained since, at their defaults.

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
    """Yields ("a.b.c", value) for each plain value of what `to_dict` returns."""
    if isinstance(tree, (dict, list)) and tree:
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, item in items:
            yield from flatten(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree


def differences(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    """Returns dotted path -> (old value, new value) wherever two results of `to_dict` differ."""
    was, now = dict(flatten(old)), dict(flatten(new))
    missing = "(absent)"
    return {
        path: (was.get(path, missing), now.get(path, missing))
        for path in [*was, *(p for p in now if p not in was)]
        if path not in was or path not in now or was[path] != now[path] or type(was[path]) is not type(now[path])
    }
