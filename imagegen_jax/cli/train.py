"""`python -m experiments.NAME` and `imagegen train`: an experiment, changed by options, trained in a folder."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jax

from imagegen_jax.core import compile as compiling
from imagegen_jax.core import signals
from imagegen_jax.core.claim import RunFolderError
from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.override import override, parse_overrides
from imagegen_jax.core.pending import NonFiniteError
from imagegen_jax.core.signals import Stopped
from imagegen_jax.core.stored import CheckpointError
from imagegen_jax.data.remedy import remedies_spelled, within

EXPECTED_ERRORS = (ValueError, TypeError, OSError, RunFolderError, CheckpointError, NonFiniteError)


def main(
    experiment: Experiment,
    smoke: Mapping[str, Any] | None = None,
    arguments: Sequence[str] | None = None,
    prog: str | None = None,
) -> None:
    """Trains `experiment` as the command line asks; `--help` lists every field as an option.

    `smoke` holds overrides that make it run in seconds, applied first with `--smoke`. Leaves with code 1 and a
    message for what a user can mend, and with 128 + the signal's number after a signal, its state saved.
    """
    prog = prog or f"python -m {_module_name()}"
    options, rest = _parser(prog).parse_known_args(arguments)
    with readable_errors():
        if options.distributed:
            initialize_distributed()
        if options.smoke:
            experiment = override(experiment, smoke or {})
        experiment = parse_overrides(experiment, rest, prog, _parser(prog).format_help())
        with remedies_spelled(within(data=experiment.data, evaluation=experiment.evaluation)):
            train(experiment, options.workdir or pathlib.Path("runs") / experiment.name, options.resume_with_changes)


def train(experiment: Experiment, workdir: pathlib.Path, resume_with_changes: bool) -> None:
    """Trains, and leaves a report; a run that was stopped leaves one too, a start that was refused does not."""
    from imagegen_jax.report import write_report
    from imagegen_jax.run import fit

    def report() -> None:
        try:
            print(f"report: {write_report(workdir)}", file=sys.stderr)
        except OSError as error:  # what ended the training is the message, such as a full disk
            print(f"no report: {error}", file=sys.stderr)

    print(f"run folder: {workdir}", file=sys.stderr)
    fit(experiment, workdir, resume_with_changes, at_end=report)


class readable_errors:  # noqa: N801  (used like a function)
    """Ends the process with a message instead of a traceback for errors that a user can mend."""

    def __enter__(self) -> None:
        self._interruptible = signals.interruptible()
        self._interruptible.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        self._interruptible.__exit__(None, None, None)
        if isinstance(error, KeyboardInterrupt) and not os.environ.get("IMAGEGEN_TRACEBACK"):
            print(str(error) or "interrupted", file=sys.stderr)
            leave(128 + signals.signal_of(error))
        if isinstance(error, Stopped):
            print(error, file=sys.stderr)
            leave(128 + error.signum)
        if isinstance(error, EXPECTED_ERRORS) and not os.environ.get("IMAGEGEN_TRACEBACK"):
            print(f"error: {error}\n(IMAGEGEN_TRACEBACK=1 shows where)", file=sys.stderr)
            leave(1)


def leave(code: int) -> NoReturn:
    """Ends the process with a code, and does not wait for compilations that are under way and of no use any more."""
    if compiling.busy():
        sys.stdout.flush()
        os._exit(code)
    raise SystemExit(code) from None


def initialize_distributed() -> None:
    """Joins the other processes of the run, before any device is used.

    What a torchrun-like launcher sets (MASTER_ADDR, MASTER_PORT, RANK, WORLD_SIZE) is read here; TPU pods, Slurm,
    MPI and Kubernetes are recognised by jax itself.
    """
    names = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")
    if all(name in os.environ for name in names):
        address, port, rank, size = (os.environ[name] for name in names)
        jax.distributed.initialize(f"{address}:{port}", int(size), int(rank))
    else:
        jax.distributed.initialize()


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, add_help=False, allow_abbrev=False)
    parser.add_argument("--workdir", type=pathlib.Path, help="the run's folder (default: runs/NAME); resumes there")
    parser.add_argument("--smoke", action="store_true", help="a tiny version that runs in seconds on a CPU")
    parser.add_argument(
        "--resume-with-changes", action="store_true", help="go on in an old folder with other values, such as steps"
    )
    parser.add_argument("--distributed", action="store_true", help="join the other processes of a run over many hosts")
    return parser


def _module_name() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else pathlib.Path(sys.argv[0]).stem
