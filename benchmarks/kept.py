"""Parts of a benchmark, each printed and stored as it is done, and not done again after an interruption.

Imports nothing but the standard library: sides of a comparison that have no jax import it, too.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

FOLDER = pathlib.Path(__file__).resolve().parent
RESULTS = FOLDER / "results"


class Kept:
    """The parts of a benchmark that are done: lines of NAME.parts.jsonl, until the whole result is stored.

    Parts of other settings, or of other code, are not taken for these: they are measured again.
    """

    def __init__(self, name: str, settings: Mapping[str, Any], folder: pathlib.Path = RESULTS, code: str = "") -> None:
        """`settings` are all that a part depends on; `code` names the code, by default this checkout's commit."""
        self.path = folder / f"{name}.parts.jsonl"
        self.settings = json.loads(json.dumps({**settings, "code": code or commit()}))
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        found = [json.loads(line) for line in lines if line.endswith("}")]  # the last may be cut short
        self.found = {line["part"]: line["value"] for line in found if line["settings"] == self.settings}

    def part(self, name: str, measure: Callable[[], Any]) -> Any:
        """Returns what `measure` does, as JSON gives it back; what it gave before an interruption, where it did."""
        if name not in self.found:
            value = json.loads(json.dumps(measure()))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            whole = not self.path.exists() or self.path.read_bytes().endswith(b"\n")
            with self.path.open("a") as file:
                file.write(("" if whole else "\n") + json.dumps(self._line(name, value)) + "\n")
            self.found[name] = value
            print(f"{name}: {json.dumps(value)}", flush=True)
        return self.found[name]

    def _line(self, name: str, value: Any) -> dict[str, Any]:
        return {"part": name, "value": value, "settings": self.settings}

    def done(self) -> None:
        """Forgets the parts: the result that they are of is stored."""
        self.path.unlink(missing_ok=True)


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the options that each part depends on: all but those that say which parts there are, and how many."""
    return {name: str(value) for name, value in vars(options).items() if name not in ("rounds", "parts", "models")}


def commit() -> str:
    """Returns the checkout's commit, with a mark where files differ from it; "" where that is not known."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"], cwd=FOLDER, capture_output=True, text=True
        )
    except OSError:
        return ""
    return said.stdout.strip()
