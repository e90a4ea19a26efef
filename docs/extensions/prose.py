"""Has Sphinx read docstrings as they are written: prose, with code in backticks and in indented lines.

Names in signatures become links where they are whole, or of the same module; a short name alone may be of another one.
"""

from __future__ import annotations

import builtins
import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref

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


def link_no_guesses(app: Any, page: nodes.document) -> None:
    """Has names of Python mean what they say alone: nothing of the same last name elsewhere, and builtins nothing."""
    for reference in list(page.findall(pending_xref)):
        if reference.get("refdomain") != "py":
            continue
        reference.attributes.pop("refspecific", None)
        if hasattr(builtins, reference["reftarget"]):
            reference.replace_self(reference.children)


def setup(app: Any) -> dict[str, bool]:
    """Takes part in Sphinx."""
    app.connect("autodoc-process-docstring", read_as_prose)
    app.connect("doctree-read", link_no_guesses)
    return {"parallel_read_safe": True}
