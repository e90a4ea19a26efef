"""Experiments as YAML: the whole of one, written and read again as the same value, or a recipe with a few changes.

    recipe: flow_digits            # `imagegen train --config run.yaml`
    steps: 2_000
    optim.network.lr: 1e-4         # dotted names as on the command line, or fields below fields
    model:
      sampler: {class: "imagegen_jax.diffusion.sampling.heun:Heun", steps: 20}

Numbers are read as YAML 1.2 and JSON have them, so 1e-4 is a number and `no` a word.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from imagegen_jax.core.config.frozen_map import FrozenMap
from imagegen_jax.core.config.override import override
from imagegen_jax.core.config.serial import fields_of, from_dict, has_fields, to_dict
from imagegen_jax.core.files.regular import Path, read_file, whole

RECIPE = "recipe"
Base = Callable[[str], Any]  # finds what a file names as its recipe


def save_config(experiment: Any, path: Path) -> pathlib.Path:
    """Writes the whole of an experiment as a YAML file, and returns its path.

    Raises TypeError, naming the place, where it holds what no file can, such as an array.
    """
    text = yaml.dump(to_dict(experiment), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    with whole(path) as partial:
        partial.write_text(f"# imagegen train --config {pathlib.Path(path).name}\n{text}", "utf-8")
    return pathlib.Path(path)


def read_config(path: Path, modules: Sequence[str], base: Base) -> Any:
    """Reads an experiment from a YAML file; `base` finds the recipe that it may name.

    `modules` are those outside this package that its classes may come from. Raises ValueError, naming the file, where
    it is no YAML or no experiment, and TypeError for a value of the wrong type.
    """
    tree = _parsed(pathlib.Path(path))
    if not isinstance(tree, dict) or not {RECIPE, "class"} & set(tree):
        raise ValueError(f"{path}: it holds no experiment: begin with `{RECIPE}: NAME`, or with a whole experiment")
    try:
        if RECIPE in tree:
            rest = {key: value for key, value in tree.items() if key != RECIPE}
            start = base(str(tree[RECIPE]))
            return override(start, dict(_changes(start, _nested(rest), modules)))
        found = from_dict(tree, modules)
        return override(found, dict(_leaves(found)))  # which looks at the type of each
    except (ValueError, TypeError) as error:
        raise type(error)(f"{path}: {error}") from error


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) of each plain value of a dataclass."""
    members = node.items() if isinstance(node, Mapping) else [(f.name, getattr(node, f.name)) for f in fields_of(node)]
    for name, value in members:
        at = f"{path}.{name}".lstrip(".")
        if has_fields(value) or isinstance(value, Mapping):
            yield from _leaves(value, at)
        elif dataclasses.is_dataclass(node):
            yield at, value


def _nested(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a mapping with fields below fields in the place of dotted names."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        inner = _nested(value) if isinstance(value, dict) and "class" not in value else value
        for part in reversed(key.split(".")):
            inner = {part: inner}
        found = _joined(found, inner, key)
    return found


def _joined(one: Mapping[str, Any], other: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Joins two mappings at all depths. Raises ValueError where both have a value in one place."""
    found = dict(one)
    for name, value in other.items():
        if name not in found:
            found[name] = value
        elif any(not isinstance(part, dict) or "class" in part for part in (found[name], value)):
            raise ValueError(f"{key}: {name} is given twice, whole or in part: give it once")
        else:
            found[name] = _joined(found[name], value, key)
    return found


def _changes(node: Any, tree: Mapping[str, Any], modules: Sequence[str], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) of what a tree says differently from `node`."""
    for name, value in tree.items():
        at = f"{path}.{name}".lstrip(".")
        inside = node.get(name) if isinstance(node, Mapping) else getattr(node, name, None)
        if not isinstance(value, dict) or "class" in value:
            yield at, from_dict(value, modules)
        elif isinstance(inside, Mapping) and not set(value) <= set(inside):  # items that are new
            yield at, FrozenMap({**inside, **from_dict(value, modules)})
        else:
            yield from _changes(inside, value, modules, at)


# --- YAML ------------------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Writes short lists in one line, and nothing as a reference to something above it."""

    def ignore_aliases(self, data: Any) -> bool:
        """Tells that everything is written where it is."""
        return True


def _list(dumper: yaml.SafeDumper, values: Any) -> Any:
    short = not any(isinstance(value, (dict, list)) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=short)


_Dumper.add_representer(list, _list)


class _Loader(yaml.SafeLoader):
    """Reads plain values with the rules of YAML 1.2; refuses names that come twice, and references."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuses references, with which a short file can unfold to a huge value."""
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()
            raise yaml.YAMLError(f"line {event.start_mark.line + 1} refers to *{event.anchor}: write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Makes a mapping of texts to values."""
        names = [str(key.value) for key, _ in node.value]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {twice} is given twice")
        return {str(key.value): self.construct_object(value, deep=True) for key, value in node.value}

    def construct_yaml_map(self, node: Any) -> Any:
        """Makes a mapping at once, where yaml's own would fill it later."""
        yield self.construct_mapping(node)


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_yaml_map)
for _tag, _pattern, _first in (
    ("null", r"null|~|", ["n", "~", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"[-+]?[0-9][0-9_]*", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def _float(loader: _Loader, node: Any) -> float:
    text = str(node.value).replace("_", "").lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _int(loader: _Loader, node: Any) -> int:
    return int(str(node.value).replace("_", ""))


_Loader.add_constructor("tag:yaml.org,2002:float", _float)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)


def _parsed(path: pathlib.Path) -> Any:
    try:
        return yaml.load(read_file(path).decode("utf-8"), Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        said = getattr(error, "problem", None) or str(error) or type(error).__name__
        raise ValueError(f"{path} is no YAML{line}: {said}") from error
