"""The loop: restore, step, log, sample, save. The only one, for every model."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from imagegen_jax.core import folder as folders
from imagegen_jax.core.checkpoint import Checkpoints
from imagegen_jax.core.experiment import Experiment, power_averages
from imagegen_jax.core.log import MetricsLog, Progress, environment, write_json
from imagegen_jax.core.model import Generative
from imagegen_jax.core.program import Program, class_rows, label_conditions
from imagegen_jax.core.state import State
from imagegen_jax.core.summary import parameter_summary
from imagegen_jax.data.grid import grid, write_png

STEPS_AHEAD = 2  # steps given to the device before the oldest is waited for: it is never idle, and stops soon


class NonFiniteError(ArithmeticError):
    """A loss or a gradient was not a finite number; the last good checkpoint is as it was."""


class Stopped(Exception):
    """The run was asked to stop and has saved its state."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


def train(
    experiment: Experiment,
    workdir: pathlib.Path,
    pretrained: Mapping[str, Any] | None = None,
    resume_with_changes: bool = False,
    quiet: bool = False,
) -> tuple[Program, State]:
    """Trains an experiment in a folder, from its newest good checkpoint or from the start, to its last step.

    Every array at each step follows from the experiment alone, however often the run was stopped. Raises
    RunFolderError, CheckpointError or ValueError before anything is compiled where the folder or the experiment
    cannot be used, Stopped after a signal, and NonFiniteError.
    """
    first = jax.process_index() == 0
    if first:
        folders.make_folder(workdir)
    lock = folders.Lock(workdir) if first else None
    try:
        changed = folders.compare_experiment(workdir, experiment, resume_with_changes)
        program = Program(experiment)
        if first:
            folders.store_experiment(workdir, experiment, changed)
            folders.store_data(workdir, program.dataset)
        with contextlib.closing(Run(program, workdir, quiet)) as run:
            return program, run.to_the_end(run.start(pretrained))
    finally:
        if lock is not None:
            lock.release()


class Run:
    """What a live run holds beside its state: files, checkpoints, metrics not yet written."""

    def __init__(self, program: Program, workdir: pathlib.Path, quiet: bool) -> None:
        """Opens the checkpoints of a folder that is this run's own."""
        self.program, self.workdir, self.experiment = program, workdir, program.experiment
        self.first = jax.process_index() == 0
        self.checkpoints = Checkpoints(workdir / "checkpoints", self.experiment.keep_checkpoints)
        self.snapshots = Checkpoints(workdir / "snapshots") if power_averages(self.experiment) else None
        self.progress = Progress(self.experiment.steps) if self.first and not quiet else None
        self.log: MetricsLog | None = None
        self.pending = PendingMetrics()

    def start(self, pretrained: Mapping[str, Any] | None) -> State:
        """The state to go on from: the newest good checkpoint's, or a fresh one. Its step is compiled meanwhile."""
        begun = time.perf_counter()
        newest = max(self.checkpoints.steps(), default=0)
        finished = newest >= self.experiment.steps
        if not finished:
            self.say("compiling the training step")
            compiled = self.program.compile_ahead(newest)
        found = self.checkpoints.restore(self.program.abstract_state, repair=True)
        step, state = found or (0, None)
        if state is None:
            state = self.program.init(pretrained)
        else:
            self.say(f"resumed at step {step:,}")
        if self.first:
            write_json(self.workdir / "environment.json", environment())
            write_json(self.workdir / "parameters.json", parameter_summary(state))
            self.log = MetricsLog(self.workdir, step)
        if not finished:
            compiled.result()
            self.say(f"training begins, after {time.perf_counter() - begun:.1f} s")
        return state

    def say(self, text: str) -> None:
        """A line for the user, from the first process alone."""
        if self.progress:
            self.progress.say(text)

    def to_the_end(self, state: State) -> State:
        """The state after the last step, saved."""
        step, end = int(state.step), self.experiment.steps
        with stop_signal(self.checkpoints) as asked:
            self.pending.restart(step)
            while step < end:
                with jax.transfer_guard("disallow"):
                    batch = self.program.batch(step)
                    state, metrics = self.program.advance(state, step, batch)
                step += 1
                self.pending.add(step, metrics)
                if step - 1 in self.pending.due:  # the device has its next step already, so this does not stall it
                    self.write_metrics(step - 1)
                if step % self.experiment.log_every == 0:
                    self.pending.due.add(step)
                stop = asked(step)
                if stop or step == end or step % self.experiment.checkpoint_every == 0:
                    self.save(step, state)
                if self._snapshot_due(step):
                    self.save_snapshot(step, state)
                if step == end or (self.experiment.sample_every and step % self.experiment.sample_every == 0):
                    self.write_samples(step, state)
                if stop and step < end:
                    self.checkpoints.wait()
                    name = signal.Signals(stop).name
                    raise Stopped(
                        stop, f"stopped by {name} at step {step:,}, saved; the same command goes on from there"
                    )
        self.checkpoints.wait()
        return state

    def save(self, step: int, state: State) -> None:
        """A checkpoint, after a look at every metric up to it."""
        self.write_metrics(step)
        self.checkpoints.save(step, state)

    def write_metrics(self, step: int) -> None:
        """Writes the means of all metrics up to a step; raises NonFiniteError where one is not finite."""
        means = self.pending.take(step, self.experiment.batch_size)
        if means and self.log:
            self.log.write(step, means)
            if self.progress:
                rate = means["images_per_second"]
                self.progress.update(step, rate, rate / self.experiment.batch_size, means)

    def _snapshot_due(self, step: int) -> bool:
        every = -(-self.experiment.steps // self.experiment.snapshots)
        return self.snapshots is not None and (step % every == 0 or step == self.experiment.steps)

    def save_snapshot(self, step: int, state: State) -> None:
        """The power-function averages of this step, kept for post-hoc reconstruction."""
        assert self.snapshots is not None
        names = power_averages(self.experiment)
        kept = {network: {a: tree for a, tree in of.items() if a in names} for network, of in state.ema.items()}
        self.snapshots.save(step, kept)

    def write_samples(self, step: int, state: State) -> None:
        """A grid of samples from a fixed key, a class a row where there are classes; none of what draws nothing."""
        self.write_metrics(step)
        if not isinstance(self.experiment.model, Generative):
            return
        labels, columns = class_rows(self.experiment.num_classes, self.experiment.samples)
        n = self.experiment.samples if labels is None else len(labels)
        images = self.program.sample(state, n, seed=0, conditions=label_conditions(labels))
        if self.first and self.log:
            picture = grid(images, columns)
            write_png(self.workdir / "samples" / f"{step:08d}.png", picture)
            self.log.image(step, picture)
        self.pending.restart(step)

    def close(self) -> None:
        """Ends all that is open; what is being saved is waited for."""
        self.checkpoints.close()
        if self.snapshots:
            self.snapshots.close()
        if self.log:
            self.log.close()


class PendingMetrics:
    """Metrics of the last steps, left on the device until they are written."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, Mapping[str, Any]]] = []
        self.due: set[int] = set()  # steps whose line is to be written
        self.restart(0)

    def restart(self, step: int) -> None:
        """Begins to measure the speed here: what was not training is left out of it."""
        self.since, self.since_step = time.perf_counter(), step

    def add(self, step: int, metrics: Mapping[str, Any]) -> None:
        """The metrics of a step just given to the device; waits where the device is far behind."""
        self.rows.append((step, metrics))
        if len(self.rows) > STEPS_AHEAD:
            jax.block_until_ready(self.rows[-1 - STEPS_AHEAD][1])

    def take(self, step: int, batch_size: int) -> dict[str, float]:
        """Means over the steps up to `step` since the last call; {} if there were none. Checks each of them."""
        rows = jax.device_get([row for row in self.rows if row[0] <= step])
        self.rows = [row for row in self.rows if row[0] > step]
        self.due = {due for due in self.due if due > step}
        if not rows:
            return {}
        for name in {name for _, metrics in rows for name in metrics}:
            _check_finite(name, [(at, metrics[name]) for at, metrics in rows if name in metrics])
        now = time.perf_counter()
        rate = batch_size * (step - self.since_step) / max(now - self.since, 1e-9)
        self.since, self.since_step = now, step
        names = dict.fromkeys(name for _, metrics in rows for name in metrics)
        means = {name: float(np.mean([metrics[name] for _, metrics in rows if name in metrics])) for name in names}
        return {"images_per_second": rate, **means}


def _check_finite(name: str, values: list[tuple[int, Any]]) -> None:
    """Raises NonFiniteError for a loss or the norm of a gradient; other metrics may be what they like."""
    phase, _, metric = name.partition("/")
    bad = [step for step, value in values if not np.isfinite(value)]
    if bad and metric in ("loss", "grad_norm"):
        raise NonFiniteError(
            f"{metric} of phase {phase!r} is {values[0][1] if len(values) == 1 else 'not finite'} at step {bad[0]:,}, "
            f"first seen in steps {values[0][0]:,} to {values[-1][0]:,}. The last good checkpoint was kept; a lower "
            "rate, clip_norm or a longer warm-up may help"
        )


@contextlib.contextmanager
def stop_signal(checkpoints: Checkpoints) -> Iterator[Callable[[int], int]]:
    """Gives a function step -> the signal that asks the run to stop after that step, or 0.

    A second Ctrl-C ends the process at once. With several processes all agree on the step: SIGTERM is then left to
    the service of jax.distributed that Orbax asks, and Ctrl-C is passed on as SIGTERM.
    """
    caught: list[int] = []
    alone = jax.process_count() == 1

    def handle(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if alone:
            caught.append(signum)
        else:
            os.kill(os.getpid(), signal.SIGTERM)

    def asked(step: int) -> int:
        if alone:
            return caught[0] if caught else 0
        return int(signal.SIGTERM) if checkpoints.reached_preemption(step) else 0

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    signals = (signal.SIGINT, signal.SIGTERM) if alone else (signal.SIGINT,)
    before = {signum: signal.signal(signum, handle) for signum in signals}
    try:
        yield asked
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
