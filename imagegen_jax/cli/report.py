"""`imagegen report`: a run's report.html."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

from imagegen_jax.cli.common.command import Command
from imagegen_jax.core import run_folder as folder
from imagegen_jax.pages.report import write_report

EXAMPLES = """examples:
  imagegen report runs/demo
  imagegen report /mnt/archive/demo --out demo.html"""


@dataclasses.dataclass(frozen=True)
class ReportRequest:
    """The run whose report to write, and where to."""

    run: str | pathlib.Path
    out: pathlib.Path | None = None  # None: report.html in the run's folder


def run(request: ReportRequest) -> pathlib.Path:
    """Writes a run's report, says where it is and returns that place.

    Raises RunFolderError where there is no run, and ValueError where the page cannot be written.
    """
    path = pathlib.Path(request.run)
    folder.load_experiment_dict(path)
    try:
        written = write_report(path, request.out)
    except OSError as error:
        raise ValueError(f"the report cannot be written ({error}): name another place with --out") from error
    print(written)
    return written


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen report`."""
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, help="the page to write (default: report.html in the run's folder)")


COMMAND = Command("report", "write a run's report.html", add_options, ReportRequest, run, EXAMPLES)
