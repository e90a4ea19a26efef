"""`imagegen report`: a run's report.html."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.data_options import add_module_option
from imagegen_jax.cli.common.options import integer
from imagegen_jax.cli.common.runs import classes_of
from imagegen_jax.cli.common.targets import import_modules
from imagegen_jax.core import compile as compiling
from imagegen_jax.core import run_folder as folder
from imagegen_jax.core.run import load
from imagegen_jax.pages.copies import look_for_copies
from imagegen_jax.pages.report import write_report

EXAMPLES = """examples:
  imagegen report runs/demo
  imagegen report runs/demo --copies 1000        samples beside their nearest training images, for suspects of copying
  imagegen report /mnt/archive/demo --out demo.html"""


@dataclasses.dataclass(frozen=True)
class ReportRequest:
    """The run whose report to write, and where to."""

    run: str | pathlib.Path
    out: pathlib.Path | None = None  # None: report.html in the run's folder
    copies: int | None = None  # samples that are looked at beside their nearest training images; None: none
    labels: str | None = None  # the classes of these, by number or name, with commas between them; None: all
    modules: tuple[str, ...] = ()


def run(request: ReportRequest) -> pathlib.Path:
    """Writes a run's report, says where it is and returns that place.

    Raises RunFolderError where there is no run, and ValueError where the page cannot be written.
    """
    path = pathlib.Path(request.run)
    folder.load_experiment_dict(path)
    modules = import_modules(request.modules)
    if request.copies is None and request.labels is not None:
        raise ValueError(f"--labels {request.labels}: of which samples? Say how many to look at: --copies 1000")
    if request.copies is not None:
        compiling.use_persistent_cache()
        trained = load(path, modules)
        found = look_for_copies(trained, request.copies, classes=tuple(classes_of(request.labels, trained)))
        print(f"copies: {found}", file=sys.stderr)
    try:
        written = write_report(path, request.out)
    except OSError as error:
        raise ValueError(f"the report cannot be written ({error}): name another place with --out") from error
    print(written)
    return written


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen report`."""
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument(
        "--copies", type=integer(1, 100_000), metavar="N",
        help="draw so many samples, and show those nearest to a training image beside it",
    )  # fmt: skip
    parser.add_argument("--labels", help="the classes of these samples, e.g. 3,7 or cat,dog (default: all)")
    add_module_option(parser)
    parser.add_argument("--out", type=pathlib.Path, help="the page to write (default: report.html in the run's folder)")


COMMAND = Command("report", "write a run's report.html", add_options, ReportRequest, run, EXAMPLES)
