"""A comparison of runs as it is shown: as text, in a notebook, as a page of its own."""

from __future__ import annotations

import dataclasses
import html
import math
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from imagegen_jax.core.files.regular import whole
from imagegen_jax.core.reporting.tables import Table
from imagegen_jax.studies.groups import Group
from imagegen_jax.studies.inference import Band, Difference, band
from imagegen_jax.studies.plot import legend_of, svg_of

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1a1d23; --faint: #667080; --line: #e2e5ea; }
@media (prefers-color-scheme: dark) { :root { --page: #14161a; --ink: #d4d8de; --faint: #97a0ae; --line: #30353e; } }
body { margin: 0 auto; max-width: 1120px; padding: 1rem 1.25rem 3rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
.imagegen .wide { overflow-x: auto; }
.imagegen table { border-collapse: collapse; font-size: .9rem; }
.imagegen th, .imagegen td { text-align: left; padding: .3rem 1.2rem .3rem 0; border-bottom: 1px solid #8884; }
.imagegen .charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); gap: 1rem; }
.imagegen .note { opacity: .75; font-size: .9rem; }
"""
_SECTIONS = ("What differs", "Values, mean over seeds", "Differences")


@dataclasses.dataclass(frozen=True)
class Test:
    """One metric of two groups."""

    metric: str
    a: str  # labels of the groups
    b: str
    difference: Difference  # b - a
    p: float  # corrected for all tests of the comparison (Holm)

    __test__ = False  # for pytest, which collects classes of this name

    @property
    def verdict(self) -> str:
        """Says what may be said."""
        if math.isnan(self.p):
            return "no test: give each at least 2 seeds"
        return "differ" if self.p < 0.05 else "not told apart"


@dataclasses.dataclass(frozen=True)
class Summary:
    """The values of one metric in one group, one a seed."""

    metric: str
    label: str
    values: tuple[float, ...]

    @property
    def band(self) -> Band:
        """Mean and 95 % interval over the seeds."""
        return band(np.array(self.values))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Groups of runs with their curves, values and tests; a page in notebooks, tables as text."""

    groups: tuple[Group, ...]
    summaries: tuple[Summary, ...]
    tests: tuple[Test, ...]
    curves: Mapping[str, Mapping[str, tuple[np.ndarray, Band]]]  # metric -> label -> (steps, band)
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    def save(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Writes it as a page of its own, whole or not at all, and returns the path."""
        with whole(path) as partial:
            partial.write_text(as_page(self), "utf-8")
        return pathlib.Path(path)


def tables_of(comparison: Comparison) -> list[Table]:
    """Makes the tables of what differs, of values and of tests; those that would be empty are left out."""
    groups = comparison.groups
    fields = list(groups[0].fields)
    differs = Table(
        _SECTIONS[0], ["field", *(group.label for group in groups)],
        [[name, *(str(group.fields[name]) for group in groups)] for name in fields]
        + [["seeds", *(", ".join(map(str, group.seeds)) for group in groups)]],
    )  # fmt: skip
    values = Table(
        _SECTIONS[1], ["metric", "group", "seeds", "mean", "95 % interval"],
        [_value_row(summary) for summary in comparison.summaries],
    )  # fmt: skip
    tests = Table(
        _SECTIONS[2], ["metric", "of", "minus", "difference", "95 % interval", "p (Holm)", "verdict"],
        [_test_row(test) for test in comparison.tests],
    )  # fmt: skip
    return [table for table in (differs, values, tests) if table.rows]


def _value_row(summary: Summary) -> list[str]:
    mean, low, high = (float(end) for end in summary.band)
    return [summary.metric, summary.label, str(len(summary.values)), f"{mean:.4g}", _interval(low, high)]


def _test_row(test: Test) -> list[str]:
    value, low, high = test.difference[:3]
    p = "-" if math.isnan(test.p) else f"{test.p:.3f}" if test.p >= 0.001 else "< 0.001"
    return [test.metric, test.b, test.a, f"{value:+.4g}", _interval(low, high), p, test.verdict]


def _interval(low: float, high: float) -> str:
    return "-" if math.isnan(low) else f"{low:.4g} to {high:.4g}"


def as_text(comparison: Comparison) -> str:
    """Writes the tables and notes as text."""
    return "\n\n".join([*map(str, tables_of(comparison)), *comparison.notes])


def as_html(comparison: Comparison) -> str:
    """Writes curves, tables and notes as a piece of a page."""
    labels = [group.label for group in comparison.groups]
    charts = "".join(f"<div>{svg_of(name, of, labels)}</div>" for name, of in comparison.curves.items() if of)
    band = "Lines are means over seeds, bands 95 % intervals of the mean (Student's t)."
    some = any(len(group.seeds) > 1 for group in comparison.groups)
    return (
        f"<style>{_STYLE.split('body', 1)[1].split('}', 1)[1]}</style>"
        f'<div class="imagegen">{f"<p>{legend_of(labels)}</p>" if charts else ""}<div class="charts">{charts}</div>'
        f"{f'<p class=note>{band}</p>' if charts and some else ''}"
        f"{''.join(table.html() for table in tables_of(comparison))}{_notes(comparison.notes)}</div>"
    )


def _notes(notes: Sequence[str]) -> str:
    return "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)


def as_page(comparison: Comparison) -> str:
    """Writes it as a page of its own, which needs no network."""
    names = ", ".join(group.label for group in comparison.groups)[:200]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>{html.escape(names)}</title><style>{_STYLE}</style>'
        f"</head><body><h1>Comparison</h1>{as_html(comparison)}</body></html>\n"
    )
