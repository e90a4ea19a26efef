#!/usr/bin/env python3
"""Prints which tests and which files of tests took most: scripts/slowest_tests.py REPORT.xml [LIST].

The report is one of `pytest --junitxml`. In seconds of processors, which tests note as `cpu_seconds`: they do not
depend on what else the machine does. With LIST, which is tests/long_tests.txt, the tests that took more than half a
second are written there: `make test-fast` leaves them out. For the report of `pytest -m "not slow"`.
"""

from __future__ import annotations

import collections
import pathlib
import sys
import xml.etree.ElementTree

SHOWN = 20
LONG = 0.5  # seconds of processors


def seconds(report: str) -> dict[tuple[str, str], float]:
    """Reads (file, test) -> seconds of processors, those of the fixtures that it was the first to ask for included."""
    found: dict[tuple[str, str], float] = collections.Counter()
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        noted = [p.get("value") for p in case.iter("property") if p.get("name") == "cpu_seconds"]
        found[case.get("classname") or "", case.get("name") or ""] += float(noted[0] or 0) if noted else 0.0
    return found


def table(title: str, rows: dict[str, float], total: float) -> str:
    """Returns the first rows of what took most, each with its part of the whole."""
    lines = [f"{took:8.1f} s {took / max(total, 1e-9):6.1%}  {name}" for name, took in sorted(rows.items(), key=_order)]
    return "\n".join([f"{title}, of {total:,.0f} s in all:", *lines[:SHOWN]])


def name_in_reports(node: str) -> str:
    """Returns the name, as `FILE::TEST`, that a test has in reports, of its name in pytest."""
    file, *classes, name = node.split("::", node.split("[")[0].count("::"))
    return f"{'.'.join([file.removesuffix('.py').replace('/', '.'), *classes])}::{name}"


def long_tests(tests: dict[tuple[str, str], float]) -> list[str]:
    """Names the tests that took more than half a second, as `FILE::TEST`."""
    return sorted(f"{file}::{name}" for (file, name), took in tests.items() if took > LONG)


def _order(row: tuple[str, float]) -> tuple[float, str]:
    return -row[1], row[0]


def main(report: str, written: str | None = None) -> None:
    """Prints both tables, and writes the list of what took long."""
    tests = seconds(report)
    if written:
        pathlib.Path(written).write_text("".join(f"{name}\n" for name in long_tests(tests)))
    files: dict[str, float] = collections.Counter()
    for (file, _), took in tests.items():
        files[file] += took
    total = sum(files.values())
    print(table("slowest files, in seconds of processors", files, total))
    print(table("slowest tests", {f"{file}::{name}": took for (file, name), took in tests.items()}, total))


if __name__ == "__main__":
    main(*sys.argv[1:3])
