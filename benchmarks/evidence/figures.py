"""Which experiments the files of benchmarks/results/ were measured of, so that none is shown as newer than it is."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imagegen_jax.core.files.regular import whole

from . import entries
from .experiments import changed, fingerprint, values_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
STAMPS = "figures.json"  # file -> recipe -> fingerprint of what it was measured of; {}: of no recipe's training
SHOWN = re.compile(r"benchmarks/results/([\w.]+)")  # by a page, as a link, a picture or in words


def stamps(folder: pathlib.Path = entries.FOLDER) -> dict[str, dict[str, str]]:
    """Returns the recipes of each file, with the fingerprints of their experiments."""
    path = folder / STAMPS
    return json.loads(path.read_text()) if path.exists() else {}


def stamp(file: str, names: Sequence[str], folder: pathlib.Path = entries.FOLDER) -> None:
    """Notes that a file was measured of these recipes as they are now. Raises ValueError where there is none such."""
    if not (folder / file).is_file():
        raise ValueError(f"there is no {folder / file}: give the name of a file that a benchmark has written there")
    found = {}
    for name in names:
        values = values_of(name)
        found[name] = fingerprint(values)
        entries.keep(values, found[name], folder)
    write(stamps(folder) | {file: found}, folder)


def write(found: Mapping[str, Mapping[str, str]], folder: pathlib.Path) -> None:
    """Writes all stamps, a line each."""
    lines = [f" {json.dumps(file)}: {json.dumps(of)}" for file, of in sorted(found.items())]
    with whole(folder / STAMPS) as partial:
        partial.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def shown(root: pathlib.Path = ROOT) -> dict[str, list[str]]:
    """Returns the files that README and the pages show or name, each with these pages."""
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    found: dict[str, list[str]] = {}
    for page in pages:
        for file in dict.fromkeys(SHOWN.findall(page.read_text())):
            found.setdefault(file.rstrip("."), []).append(str(page.relative_to(root)))
    return found


def unstamped(root: pathlib.Path = ROOT, folder: pathlib.Path = entries.FOLDER) -> list[str]:
    """Returns the files that a page shows and that do not say what they were measured of."""
    known = stamps(folder)
    return sorted(file for file in shown(root) if (folder / file).is_file() and file not in known)


def older(folder: pathlib.Path = entries.FOLDER) -> Iterator[tuple[str, str, list[str]]]:
    """Yields each file that is older than a recipe that it measures: the file, the recipe, what has changed since."""
    values: dict[str, Any] = entries.experiments(folder)
    seen: dict[tuple[str, str], list[str]] = {}
    for file, of in sorted(stamps(folder).items()):
        for name, print_ in of.items():
            if (name, print_) not in seen:
                seen[name, print_] = changed(values[print_], name)
            if seen[name, print_]:
                yield file, name, seen[name, print_]
