"""Evaluations and traces in a report: what matters in a table that fits the page, the rest folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagegen_jax.pages.explained import explained_score
from imagegen_jax.pages.markup import table, text

_SHOWN = ("metric", "value", "95 % interval", "samples", "images")  # the rest is folded
_FIRST = 12  # scores that are shown at once; the newest


def evaluations_of(lines: Sequence[Mapping[str, Any]]) -> str:
    """Makes the section of a run's evaluations, newest first; nothing without evaluations."""
    if not lines:
        return ""
    found = [_evaluation(line) for line in reversed(lines)]
    heads = [head for head in _SHOWN if any(line.get(head) not in (None, "") for line in found)]
    rows = [[line.get(head) for head in heads] for line in found]
    parts = [table(heads, rows[:_FIRST])]
    if len(rows) > _FIRST:
        more = table(heads, rows[_FIRST:])
        parts.append(f"<details><summary>{len(rows) - _FIRST} earlier scores</summary>{more}</details>")
    names = dict.fromkeys(str(line.get("metric")) for line in found)
    known = {name: explained_score(name) for name in names if explained_score(name)}
    meanings = "".join(f"<dt>{text(name)}</dt><dd>{text(meaning)}</dd>" for name, meaning in known.items())
    parts.append(f'<dl class="meanings">{meanings}</dl>' if meanings else "")
    parts.append(_folded(found))
    return f'<section id="evaluations"><h2>Evaluations</h2>{"".join(parts)}</section>'


def _folded(found: Sequence[Mapping[str, Any]]) -> str:
    """Lists what each score was made of, as far as it is not in the table."""
    fields = [f for f in dict.fromkeys(f for line in found for f in line) if f not in _SHOWN]
    fields = ["metric", *(field for field in fields if any(line.get(field) for line in found))]
    if len(fields) == 1:
        return ""
    rows = [[line.get(field) for field in fields] for line in found]
    return f"<details><summary>how each was measured</summary>{table(fields, rows)}</details>"


def _evaluation(line: Mapping[str, Any]) -> dict[str, Any]:
    """Joins the ends of an evaluation's interval to one field, and its versions to another."""
    found = {}
    for field, value in line.items():
        if field == "low":
            ends = [value, line.get("high")]
            known = all(isinstance(end, (int, float)) for end in ends)
            found["95 % interval"] = " to ".join(f"{end:.4g}" for end in ends) if known else ""
        elif isinstance(value, Mapping):
            found[field] = ", ".join(f"{name} {version}" for name, version in value.items() if version)
        elif field != "high":
            found[field] = value
    return found


def trace_of(profile: Mapping[str, Any]) -> str:
    """Makes the section of the largest operations of a trace; nothing where none was taken."""
    if not profile:
        return ""
    rows = [[one["name"], one["ms"], f"{100 * one['share']:.1f} %", one["calls"]] for one in profile["operations"]]
    operations = table(["operation", "ms a step", "share", "calls a step"], rows)
    return (
        f'<section id="trace"><h2>Largest operations</h2>{operations}<p class="note">Of training steps '
        f"{text(profile['from'])} to {text(profile['to'])}, {text(profile['total_ms'])} ms a step in all, summed over "
        "threads and devices. The whole trace is in profile/: open it with xprof, or its perfetto_trace.json.gz at "
        "ui.perfetto.dev.</p></section>"
    )
