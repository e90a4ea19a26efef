"""How the runs of a study are trained: one after the other, seeds side by side, or in processes of their own."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import jax

from imagegen_jax.core.checkpoints.stored import CheckpointError, Stored
from imagegen_jax.core.config.config_file import save_config
from imagegen_jax.core.config.serial import PACKAGE, modules_in
from imagegen_jax.core.experiment import Experiment, measured
from imagegen_jax.core.files.claim import RunFolderError
from imagegen_jax.core.loop import train_side_by_side
from imagegen_jax.core.platform.signals import Stopped, stopping
from imagegen_jax.core.platform.target import platform
from imagegen_jax.core.program import Program
from imagegen_jax.core.reporting.not_finite import NonFiniteError
from imagegen_jax.core.reporting.progress import Progress
from imagegen_jax.core.reporting.trackers.tracker import Tracking
from imagegen_jax.core.run import fit
from imagegen_jax.core.run_folder import compare_experiment
from imagegen_jax.core.training.side_by_side import refusal

_FULL = "RESOURCE_EXHAUSTED"  # what jax says where the memory of a device does not hold a program
_LINES = 3  # of a process's last words


@dataclasses.dataclass(frozen=True)
class Member:
    """A run of a study."""

    name: str  # of its folder
    variant: str  # what it shares with other seeds
    experiment: Experiment


def train_all(
    members: Sequence[Member],
    workdir: pathlib.Path,
    together: int | None,
    processes: int,
    quiet: bool,
    track: Sequence[str | Tracking],
) -> dict[str, str]:
    """Trains members that are not finished; returns why those failed that did, by name.

    Raises ValueError, before any is trained in this process, where one cannot be.
    """
    left = [member for member in members if not is_finished(workdir / member.name, member.experiment)]
    if len(left) < len(members) and not quiet:
        print(f"{len(members) - len(left)} of {len(members)} runs are finished already", file=sys.stderr)
    if processes > 1:
        return _in_processes(left, workdir, processes, quiet, track)
    _validate(left)
    failed: dict[str, str] = {}
    with Progress("sweep", len(left), "runs", quiet=quiet) as shown:
        while left:
            group = _next_group(left, workdir, together, track)
            left = left[len(group) :]
            shown.say(f"training {', '.join(member.name for member in group)} ({len(left)} left)")
            failed |= _trained(group, workdir, quiet, track)
            shown.add(len(group))
    return failed


def _validate(members: Sequence[Member]) -> None:
    """Raises ValueError, naming it, where a member is seen to be wrong before anything is compiled."""
    for member in {member.variant: member for member in reversed(members)}.values():
        try:
            Program(member.experiment)
        except ValueError as error:
            error.args = (f"{member.name}: {error}",)
            raise


def is_finished(folder: pathlib.Path, experiment: Experiment) -> bool:
    """Tells whether a folder holds a checkpoint of an experiment's last step, and the run of no other experiment."""
    if not (folder / "experiment.json").is_file() or experiment.steps not in Stored(folder / "checkpoints").steps():
        return False
    try:
        return not compare_experiment(folder, measured(experiment))
    except (RunFolderError, ValueError, OSError):  # to train it says what is wrong
        return False


def _next_group(
    left: Sequence[Member], workdir: pathlib.Path, together: int | None, track: Sequence[str | Tracking]
) -> list[Member]:
    """Takes the seeds to train next: several side by side where they are asked for, can be, and are at one step."""
    first = left[0]
    most = together or (1 if platform() == "cpu" else len(left))
    if refusal(first.experiment.model) or track or jax.process_count() > 1:
        most = 1
    group: list[Member] = []
    for member in left:
        alike = member.variant == first.variant and _step(workdir, member) == _step(workdir, first)
        if not alike or len(group) == most:
            break
        group.append(member)
    return group


def _step(workdir: pathlib.Path, member: Member) -> int:
    return max(Stored(workdir / member.name / "checkpoints").steps(), default=0)


def _trained(
    group: Sequence[Member], workdir: pathlib.Path, quiet: bool, track: Sequence[str | Tracking]
) -> dict[str, str]:
    """Trains a group; where memory does not hold it, or one seed ends early, its parts by themselves."""
    try:
        if len(group) == 1:
            fit(group[0].experiment, workdir / group[0].name, quiet=quiet, track=track)
        else:
            train_side_by_side([m.experiment for m in group], [workdir / m.name for m in group], quiet)
        return {}
    except (NonFiniteError, RunFolderError, CheckpointError, ValueError, OSError) as error:
        if len(group) == 1:
            return {group[0].name: str(error)}
        half = 1
    except jax.errors.JaxRuntimeError as error:
        if _FULL not in str(error) or len(group) == 1:
            return {member.name: str(error).splitlines()[0] for member in group}
        half = len(group) // 2
        print(f"the memory does not hold {len(group)} seeds side by side: {half} at a time", file=sys.stderr)
    failed: dict[str, str] = {}
    for start in range(0, len(group), half):
        failed |= _trained(group[start : start + half], workdir, quiet, track)
    return failed


def _in_processes(
    members: Sequence[Member], workdir: pathlib.Path, processes: int, quiet: bool, track: Sequence[str | Tracking]
) -> dict[str, str]:
    """Trains each member by `imagegen train --config` in a process of its own, so many at a time."""
    for member in members:
        if "__main__" in modules_in(member.experiment):
            raise ValueError(f"{member.name} has classes of __main__, which no other process can import: processes=1")
    if words := [word for word in track if not isinstance(word, str)]:
        raise ValueError(f"track={words}: name trackers by words where runs have processes of their own")
    waiting, failed = list(members), dict[str, str]()
    running: dict[str, subprocess.Popen[bytes]] = {}
    say = functools.partial(print, file=sys.stderr)
    shown = Progress("sweep", len(members), "runs", quiet=quiet)
    with shown, stopping(None, say, lambda: f"{', '.join(running)} save before they end") as asked:
        try:
            while (waiting or running) and not asked(0):
                while waiting and len(running) < processes:
                    member = waiting.pop(0)
                    running[member.name] = _started(member, workdir, [str(word) for word in track])
                    shown.say(f"training {member.name} ({len(waiting)} left)")
                time.sleep(0.2)
                for name in [name for name, process in running.items() if process.poll() is not None]:
                    if running.pop(name).returncode:
                        failed[name] = _last_words(workdir / f"{name}.log")
                    shown.add()
        finally:
            for process in running.values():
                process.terminate()  # it saves before it ends
            for process in running.values():
                process.wait()
        if signum := asked(0):
            raise Stopped(signum, f"stopped by {signal.Signals(signum).name}; the same command goes on from there")
    return failed


def _started(member: Member, workdir: pathlib.Path, track: Sequence[str]) -> subprocess.Popen[bytes]:
    workdir.mkdir(parents=True, exist_ok=True)
    config = save_config(member.experiment, workdir / f"{member.name}.yaml")
    own = [module for module in modules_in(member.experiment) if module.split(".")[0] != PACKAGE]
    command = [sys.executable, "-m", "imagegen_jax", "train", "--config", str(config)]
    command += ["--workdir", str(workdir / member.name), *_repeated("--module", own), *_repeated("--track", track)]
    with (workdir / f"{member.name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def _repeated(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _last_words(path: pathlib.Path) -> str:
    lines = path.read_text("utf-8", "replace").strip().splitlines()
    told = [line for line in lines if line.startswith("error:")]
    return " ".join(told[-1:] or lines[-_LINES:]) or "it ended without a word"
