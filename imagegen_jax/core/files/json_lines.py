"""Files of JSON, an object each or an object a line, as a run that was killed may have left them."""

from __future__ import annotations

import json
import pathlib
from typing import Any


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """Reads a JSON object; {} where the file is missing or damaged."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_objects(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads the objects of a JSON lines file, and skips damaged lines; none where there is no file."""
    return objects_of(path.read_text("utf-8", errors="replace")) if path.is_file() else []


def objects_of(text: str) -> list[dict[str, Any]]:
    """Reads the objects of JSON lines, and skips damaged lines."""
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return [line for line in found if isinstance(line, dict)]
