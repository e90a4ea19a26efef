"""Files of JSON lines, an object a line, as a run that was killed may have left them."""

from __future__ import annotations

import json
import pathlib
from typing import Any


def read_objects(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads the objects of a JSON lines file, and skips damaged lines; none where there is no file."""
    found = []
    for line in path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return [line for line in found if isinstance(line, dict)]
