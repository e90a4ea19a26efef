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
import jax.numpy as jnp
import numpy as np

from imagegen_jax.core import folder as folders
from imagegen_jax.core.checkpoint import Checkpoints
from imagegen_jax.core.experiment import Experiment, Measurement, power_averages
from imagegen_jax.core.health import Watch, image_health
from imagegen_jax.core.log import MetricsLog, Progress, environment, write_json
from imagegen_jax.core.model import Generative
from imagegen_jax.core.pending import PendingMetrics
from imagegen_jax.core.program import Program, class_rows, label_conditions, panels
from imagegen_jax.core.state import State
from imagegen_jax.core.step import prepare
from imagegen_jax.core.summary import parameter_summary
from imagegen_jax.data.grid import grid, write_png
from imagegen_jax.data.image import to_float


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
        self.measure: Measurement | None = None
        self.snapshots = Checkpoints(workdir / "snapshots") if power_averages(self.experiment) else None
        self.progress = Progress(self.experiment.steps) if self.first and not quiet else None
        self.log: MetricsLog | None = None
        self.pending, self.watch = PendingMetrics(), Watch()
        self.checkpoints = self._open_checkpoints()

    def _open_checkpoints(self) -> Checkpoints:
        best = None
        if self.experiment.evaluation is not None:
            self.measure = self.experiment.evaluation.open(self.experiment, self.workdir, self.progress is None)
            best = self.measure.best
            if self.first:
                folders.store_best(self.workdir, best)
        return Checkpoints(self.workdir / "checkpoints", self.experiment.keep_checkpoints, best)

    def start(self, pretrained: Mapping[str, Any] | None) -> State:
        """The state to go on from: the newest good checkpoint's, or a fresh one. Its step is compiled meanwhile."""
        begun = time.perf_counter()
        newest = max(self.checkpoints.steps(), default=0)
        finished = newest >= self.experiment.steps
        if not finished:
            self.say("compiling the training step")
            compiled = self.program.compile_ahead(newest)
            if isinstance(self.experiment.model, Generative):
                labels, _, n = self._samples()
                self.program.check_sampling(newest + 1, n, label_conditions(labels))
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
            for line in self.log.lines:
                self.watch.look(line["step"], line)  # what was said of them is not said again
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
                scores = self.evaluate(step, state) if self._evaluation_due(step) else None
                if stop or scores or step == end or step % self.experiment.checkpoint_every == 0:
                    self.save(step, state, scores)
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

    def save(self, step: int, state: State, scores: Mapping[str, float] | None) -> None:
        """A checkpoint, after a look at every metric up to it; `scores` are an evaluation's."""
        self.write_metrics(step)
        self.checkpoints.save(step, state, scores)

    def write_metrics(self, step: int) -> None:
        """Writes the means of all metrics up to a step; raises NonFiniteError where one is not finite."""
        means = self.pending.take(step, self.experiment.batch_size)
        if means:
            self.write_line(step, means)
            if self.progress:
                rate = means["images_per_second"]
                self.progress.update(step, rate, rate / self.experiment.batch_size, means)

    def write_line(self, step: int, metrics: Mapping[str, float]) -> None:
        """A line of metrics, and of warnings where they are out of their limits."""
        if self.log:
            self.log.write(step, metrics)
        for warning in self.watch.look(step, metrics):
            self.say(f"warning: {warning}")

    def _evaluation_due(self, step: int) -> bool:
        if self.measure is None:
            return False
        return step % self.experiment.evaluation.every == 0 or step == self.experiment.steps

    def evaluate(self, step: int, state: State) -> Mapping[str, float]:
        """Scores of images drawn from the averaged networks; the speed of training is measured without it."""
        assert self.measure is not None
        self.write_metrics(step)

        def draw(n: int, labels: np.ndarray | None, seed: int) -> np.ndarray:
            return self.program.sample(state, n, seed, label_conditions(labels))

        scores = self.measure(draw, step)
        self.write_line(step, {f"evaluation/{name}": score for name, score in scores.items()})
        self.say(f"step {step:,}: " + "  ".join(f"{name} {score:.4g}" for name, score in scores.items()))
        self.pending.restart(step)
        return scores

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
        """A grid of samples from a fixed key, a class a row where there are classes; none of what draws nothing.

        Images made from others are shown between these and the data's own (`panels`).
        """
        self.write_metrics(step)
        if not isinstance(self.experiment.model, Generative):
            return
        labels, columns, n = self._samples()
        images = self.program.sample(state, n, seed=0, conditions=label_conditions(labels))
        batch = self.program.dataset.batch(0, n)
        data = prepare((), batch, self.program.constants.key)["image"]
        health = image_health(to_float(jnp.asarray(images)), jnp.asarray(data))
        self.write_line(step, {f"samples/{name}": float(value) for name, value in health.items()})
        if self.first and self.log:
            picture = grid(panels(self.experiment.model, images, batch), columns)
            write_png(self.workdir / "samples" / f"{step:08d}.png", picture)
            self.log.image(step, picture)
        self.pending.restart(step)

    def _samples(self) -> tuple[np.ndarray | None, int, int]:
        """Of a grid of samples: the labels, how many columns it has, and how many images."""
        labels, columns = class_rows(self.experiment.num_classes, self.experiment.samples)
        return labels, columns, self.experiment.samples if labels is None else len(labels)

    def close(self) -> None:
        """Ends all that is open; what is being saved is waited for."""
        self.checkpoints.close()
        if self.snapshots:
            self.snapshots.close()
        if self.log:
            self.log.close()


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
