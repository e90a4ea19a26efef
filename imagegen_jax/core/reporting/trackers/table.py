"""Metrics as a table: metrics.csv in a run's folder, a row a step and a column a metric, for spreadsheets."""

from __future__ import annotations

import csv
import dataclasses
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imagegen_jax.core.files.regular import whole
from imagegen_jax.core.reporting.trackers.tracker import Followed


@dataclasses.dataclass(frozen=True)
class CSV:
    """Follows a run in a file of its folder."""

    name: str = "metrics.csv"

    def check(self) -> None:
        """Needs nothing."""

    def open(self, run: Followed) -> Table:
        """Begins the file anew with what is known up to the step that the run goes on from."""
        return Table(run.folder / self.name, run.lines)


class Table:
    """An open table. A row is written when the next step begins, since a step's metrics may come in parts."""

    def __init__(self, path: pathlib.Path, lines: Sequence[Mapping[str, Any]]) -> None:
        self._path = path
        self._columns = list(dict.fromkeys(["step", *(name for line in lines for name in line if name != "time")]))
        self._rows = [dict(line) for line in lines]
        self._row: dict[str, Any] = {}
        self._write_all()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes metrics of a step."""
        if self._row and self._row["step"] != step:
            self._end_row()
        if not self._row and self._rows and self._rows[-1]["step"] == step:
            self._row = self._rows.pop()  # of the step that a resumed run began from
            self._write_all()
        self._row = {**self._row, "step": step, **metrics}

    def image(self, step: int, picture: np.ndarray) -> None:
        """Leaves a picture out, which a table cannot hold."""

    def close(self) -> None:
        """Writes the last row."""
        self._end_row()

    def _end_row(self) -> None:
        row, self._row = self._row, {}
        if not row:
            return
        self._rows.append(row)
        if new := [name for name in row if name not in self._columns and name != "time"]:
            self._columns += new
            self._write_all()
        else:
            with self._path.open("a", newline="") as file:
                self._writer(file).writerow(row)

    def _write_all(self) -> None:
        text = io.StringIO()
        writer = self._writer(text)
        writer.writeheader()
        writer.writerows(self._rows)
        with whole(self._path) as partial:
            partial.write_text(text.getvalue(), "utf-8", newline="")

    def _writer(self, file: Any) -> csv.DictWriter[str]:
        return csv.DictWriter(file, self._columns, restval="", extrasaction="ignore", lineterminator="\n")
