"""Pieces of HTML for reports: tables, trees that fold, values as people read them. Everything is escaped here."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any


def text(value: Any) -> str:
    """Formats a value for people, escaped: 35,746,307, 0.03171, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        value = f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:,.4g}"
    elif _is_number(value):
        value = f"{value:,}"
    elif isinstance(value, (dict, list)):
        value = json.dumps(value)
    return html.escape(str(value))


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], total: bool = False) -> str:
    """Makes a table, with columns of numbers aligned at the right; `total` sets its last row apart."""
    sides = [" class=number" if any(_is_number(row[i]) for row in rows) else "" for i in range(len(header))]
    head = "".join(f"<th{side}>{text(name)}</th>" for side, name in zip(sides, header, strict=True))
    body = ""
    for i, row in enumerate(rows):
        cells = "".join(f"<td{side}>{text(cell)}</td>" for side, cell in zip(sides, row, strict=True))
        body += f"<tr{' class=total' if total and i == len(rows) - 1 else ''}>{cells}</tr>"
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def tree(fields: dict[str, Any]) -> str:
    """Makes a list that folds of a stored dataclass or mapping; its first two levels are open."""
    return f'<div class="tree">{_branches(fields, 0)}</div>'


def missing(name: str) -> str:
    """Makes the note in the place of what a run's folder does not tell."""
    return f'<p class="note">This folder has no readable {html.escape(name)}.</p>'


def class_name(node: Any) -> str:
    """Returns the name of a stored value's class, "DDPM" for {"class": "imagegen_jax...:DDPM"}, or "" for none."""
    tag = node.get("class", "") if isinstance(node, dict) else ""
    return str(tag).rpartition(":")[2]


def _branches(node: Any, depth: int) -> str:
    items = node.items() if isinstance(node, dict) else enumerate(node)
    return "".join(_branch(str(name), item, depth) for name, item in items if name != "class")


def _branch(name: str, node: Any, depth: int) -> str:
    inside = _branches(node, depth + 1) if _folds(node) else ""
    label = f"<b>{text(class_name(node))}</b>" if class_name(node) else ""
    if inside:
        opened = " open" if depth < 2 else ""
        return f"<details{opened}><summary><span>{text(name)}</span> {label}</summary>{inside}</details>"
    return f'<div class="leaf"><span>{text(name)}</span> {label or f"<code>{html.escape(_python(node))}</code>"}</div>'


def _folds(node: Any) -> bool:
    """Tells whether a value is shown line by line: a mapping, or a list that holds one."""
    return isinstance(node, dict) or (isinstance(node, list) and any(map(_folds, node)))


def _python(value: Any) -> str:
    """Writes a stored plain value as in an experiment's source: 800_000, 0.0002, 'x', (1, 2, 2)."""
    if isinstance(value, list):
        return f"({', '.join(map(_python, value))}{',' if len(value) == 1 else ''})"
    return f"{value:_}" if isinstance(value, int) and not isinstance(value, bool) else repr(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
