"""Has Sphinx read docstrings as they are written: prose, with code in backticks and in indented lines."""

from __future__ import annotations

import re
from typing import Any

INDENT = "    "


def read_as_prose(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Writes a docstring anew as reStructuredText."""
    prose: list[str] = []
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith(INDENT) and not before.startswith(INDENT):
            prose += ["", "::", ""] if before else ["::", ""]
        elif line and before.startswith(INDENT) and not line.startswith(INDENT):
            prose.append("")
        prose.append(line if line.startswith(INDENT) else escaped(line))
    lines[:] = prose


def escaped(line: str) -> str:
    """Escapes what reStructuredText would take for markup, except in backticks."""
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(part if part.startswith("`") else re.sub(r"([*|\\]|_\b)", r"\\\1", part) for part in parts)


def setup(app: Any) -> dict[str, bool]:
    """Takes part in Sphinx."""
    app.connect("autodoc-process-docstring", read_as_prose)
    return {"parallel_read_safe": True}
