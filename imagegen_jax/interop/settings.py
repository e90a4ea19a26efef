"""Settings of a published model, checked against those that this package has."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from imagegen_jax.core.config.bounds import fault
from imagegen_jax.core.files.wrong_files import read_text_file

Config = Mapping[str, Any]
Settings = dict[str, tuple[Any, Any]]  # name -> (default, the values that are supported here, or their annotation)


def read_config(path: pathlib.Path) -> Config:
    """Reads a configuration, an object of JSON. Raises ValueError where a file is none, and says what it is instead."""
    content = read_text_file(path)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}): fetch it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, but a configuration is an object: fetch it again")
    return found


def complete(config: Config, settings: Settings, place: str) -> dict[str, Any]:
    """Returns every setting of `settings`, with defaults for those that `config` leaves out.

    Raises ValueError for an unknown setting, and for a value that is not supported here.
    """
    unknown = sorted(name for name in config if not name.startswith("_") and name not in settings)
    if unknown:
        raise ValueError(
            f"{place}: {unknown[0]}={short(config[unknown[0]])}: this setting is not known here, so what the model "
            "does with it would be lost; delete the line if the model does not depend on it"
        )
    found = {name: config.get(name, default) for name, (default, _) in settings.items()}
    for name, (_, known) in settings.items():
        left_out = "" if name in config else " (left out there, so its default)"
        said = f"{place}: {name}={short(found[name])}{left_out}"
        if not isinstance(known, tuple):
            if wrong := fault(found[name], known):
                raise ValueError(f"{said}: {wrong}; fetch the file again")
        elif not any(
            found[name] == value and isinstance(found[name], bool) == isinstance(value, bool) for value in known
        ):
            raise ValueError(
                f"{said}: only {' or '.join(map(repr, known))} is supported here: a model with "
                "another value cannot be imported"
            )
    return found


def short(value: Any) -> str:
    """Writes a value in at most 200 letters."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
