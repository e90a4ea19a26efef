"""The loop: restore, step, log, sample, save. The only one, for every model, and for several seeds side by side."""

from __future__ import annotations

import contextlib
import functools
import pathlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from imagegen_jax import moved
from imagegen_jax.core import run_folder as folders
from imagegen_jax.core.experiment import Experiment, measured
from imagegen_jax.core.files.claim import claimed
from imagegen_jax.core.platform.signals import Stopped, stopping
from imagegen_jax.core.program import Program
from imagegen_jax.core.reporting.trackers.tracker import Tracking
from imagegen_jax.core.reporting.trackers.words import tracking_of
from imagegen_jax.core.reporting.training_progress import TrainingProgress
from imagegen_jax.core.state import State
from imagegen_jax.core.training.live_run import LiveRun
from imagegen_jax.core.training.side_by_side import SideBySide, check_alike

__getattr__ = moved.attributes(__name__)


def train(
    experiment: Experiment,
    workdir: pathlib.Path,
    resume_with_changes: bool = False,
    quiet: bool = False,
    at_end: Callable[[], None] | None = None,
    track: Sequence[str | Tracking] = (),
    profile: tuple[int, int] | None = None,
    metadata: bool = True,
) -> tuple[Program, State]:
    """Trains an experiment in a folder, from its newest good checkpoint or from the start, to its last step.

    Every array at each step follows from the experiment alone, however often the run was stopped. Raises
    RunFolderError, CheckpointError or ValueError before anything is compiled where the folder or the experiment
    cannot be used, Stopped after a signal, NonFiniteError, and LogError or CheckpointError where the disk is full.
    Nothing is written before the first step can be taken; from then on, `at_end` is called when the run ends.
    `track` are further trackers of its metrics, by their words (`core.reporting.trackers`); steps `profile`, from the
    first to the last of the two, are traced. Without `metadata`, grids of samples do not say that they are generated.
    """
    with _opened(experiment, workdir, resume_with_changes, quiet, at_end, track, profile) as (run, state):
        run.metadata = metadata
        state = to_the_end(run, state, int(state.step))
        run.say_privacy()
        return run.program, state


def train_side_by_side(
    experiments: Sequence[Experiment], workdirs: Sequence[pathlib.Path], quiet: bool = False
) -> list[tuple[Program, State]]:
    """Trains runs that differ in their seeds alone, each in its folder, by one program that is mapped over them.

    Each run is what `train` makes of it, within float rounding, and may be gone on with by itself. Raises ValueError
    where the experiments differ otherwise, their models have stages, or their checkpoints are of different steps; else
    as `train` does.
    """
    check_alike(experiments)
    with contextlib.ExitStack() as opened:
        progress = TrainingProgress(experiments[0].steps, quiet=quiet)
        opened.enter_context(contextlib.closing(progress))
        found = [
            opened.enter_context(_opened(experiment, workdir, False, True, compiles=False))
            for experiment, workdir in zip(experiments, workdirs, strict=True)
        ]
        together = SideBySide([run for run, _ in found], progress, quiet)
        states = together.program.stacked([state for _, state in found])
        states = to_the_end(together, states, together.step)
        return list(zip([run.program for run, _ in found], together.program.apart(states), strict=True))


@contextlib.contextmanager
def _opened(
    experiment: Experiment,
    workdir: pathlib.Path,
    resume_with_changes: bool,
    quiet: bool,
    at_end: Callable[[], None] | None = None,
    track: Sequence[str | Tracking] = (),
    profile: tuple[int, int] | None = None,
    compiles: bool = True,
) -> Iterator[tuple[LiveRun, State]]:
    """Opens a run up to its first step, with the state to take it from."""
    first = jax.process_index() == 0
    trackers = tracking_of(track) if first else {}
    progress = TrainingProgress(experiment.steps, quiet=quiet or not first)
    with claimed(workdir if first else None) as begin, contextlib.ExitStack() as at_last, contextlib.closing(progress):
        experiment = measured(experiment)
        changed = folders.compare_experiment(workdir, experiment)
        with progress.activity("opening the data"):
            dataset = experiment.data.open()
            changed = folders.compare_data(workdir, changed, dataset, resume_with_changes)
            program = Program(experiment, dataset)
        with LiveRun(program, workdir, progress, quiet, trackers, profile) as run:
            state = run.start(compiles)
            begin()
            if changed:
                progress.say(f"goes on with other values:{folders.in_words(changed)}")
            if first and at_end:
                at_last.callback(at_end)
            run.open_files(state, changed)
            yield run, state


def to_the_end(run: LiveRun | SideBySide, state: State, step: int) -> State:
    """Trains from a step to the last, saves, and returns the state; `state` is donated."""
    end = run.experiment.steps
    say: Any = functools.partial(print, file=sys.stderr) if run.quiet else run.progress.say
    with stopping(run.agree_to_stop(), say, lambda: run.doing) as asked:
        run.pending.restart(step)
        run.progress.begin(step)
        while step < end:
            run.doing = f"step {step + 1:,} is under way and will be saved"
            run.await_program(step)
            run.tracer.at(step, state)
            with jax.transfer_guard("disallow"), run.tracer.marked(step):
                batch: Any = run.program.batch(step)
                state, metrics = run.program.advance(state, step, batch)
            step += 1
            run.progress.at(step)
            run.pending.add(step, metrics)
            if step - 1 in run.pending.due:  # the device has its next step already, so this does not stall it
                run.write_metrics(step - 1)
            if step % run.experiment.log_every == 0:
                run.pending.due.add(step)
            stop = asked(step)
            run.keep(step, state, stop)
            if stop and step < end:
                run.wait_for_save(step)
                name = signal.Signals(stop).name
                raise Stopped(stop, f"stopped by {name} at step {step:,}, saved; the same command goes on from there")
        run.tracer.at(step, state)
        run.wait_for_save(step)
    return state
