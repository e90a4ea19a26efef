"""`imagegen compare`: runs side by side, with bands over seeds, what differs, and tests of it."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.options import number
from imagegen_jax.core.files.claim import RunFolderError
from imagegen_jax.studies.comparing import LAST, compare
from imagegen_jax.studies.comparison import Comparison, tables_of
from imagegen_jax.studies.sweep import load_study

EXAMPLES = """examples:
  imagegen compare runs/losses                 all runs of a sweep
  imagegen compare runs/a runs/b runs/c --metric loss
  imagegen compare runs/losses --metric evaluation/FD-classifier --out losses.html

Runs that differ in their seeds alone are seeds of one group. Each two groups are compared by Welch's t-test, with p
corrected for the number of tests (Holm); --pairs compares seed by seed, where a seed stands for the same data order."""


@dataclasses.dataclass(frozen=True)
class CompareRequest:
    """Which runs to compare, in what, and where to write the page."""

    runs: tuple[str, ...]  # run folders, or folders of them
    metrics: tuple[str, ...] = ()  # () scores, or losses where there are none
    last: float = LAST  # share of the steps that a loss is averaged over
    pairs: bool = False
    out: pathlib.Path = pathlib.Path("comparison.html")


def run(request: CompareRequest) -> Comparison:
    """Compares runs, prints tables, writes a page and returns the comparison.

    Raises RunFolderError where a folder holds no run, and ValueError for what cannot be compared.
    """
    try:
        found = compare(folders_of(request.runs), request.metrics, request.last, request.pairs)
    except KeyError as error:
        raise ValueError(f"--metric: {error}") from error
    for table in tables_of(found):
        table.print()
    print("\n".join(found.notes))
    print(f"curves: {found.save(request.out)}")
    return found


def folders_of(words: Sequence[str]) -> list[pathlib.Path]:
    """Returns run folders, with those of a study in its place. Raises RunFolderError where one is neither."""
    found: list[pathlib.Path] = []
    for word in words:
        place = pathlib.Path(word)
        if (place / "experiment.json").is_file():
            found.append(place)
            continue
        try:
            found += load_study(place).folders.values()
        except RunFolderError as error:
            raise RunFolderError(
                f"{place} is neither a run folder nor one of runs: it has no experiment.json"
            ) from error
    return found


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen compare`."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, or the folder of a sweep")
    parser.add_argument(
        "--metric", action="append", default=[], dest="metrics", metavar="NAME",
        help="what to compare, such as loss; may be given again (default: scores, or losses where there are none)",
    )  # fmt: skip
    parser.add_argument(
        "--last", type=number(0, 1), default=LAST, metavar="SHARE",
        help=f"share of the steps, at the end, that a loss is averaged over (default: {LAST})",
    )  # fmt: skip
    parser.add_argument("--pairs", action="store_true", help="compare seed by seed")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("comparison.html"), help="the page (default: comparison.html)"
    )  # fmt: skip


COMMAND = Command(
    "compare", "compare runs: curves with bands over seeds, what differs, and tests of it", add_options,
    CompareRequest, run, EXAMPLES,
)  # fmt: skip
