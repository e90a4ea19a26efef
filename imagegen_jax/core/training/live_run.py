"""A run that is being trained: its log, its checkpoints, what is kept of it and when. `core.loop` takes its steps."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np

from imagegen_jax.core import compile as compiling
from imagegen_jax.core import run_folder as folders
from imagegen_jax.core.checkpoints.checkpoint import Checkpoints
from imagegen_jax.core.config.serial import to_dict
from imagegen_jax.core.drawing.draw import label_conditions
from imagegen_jax.core.drawing.grid import write_png
from imagegen_jax.core.experiment import Measurement, frozen_sources, power_averages
from imagegen_jax.core.model import Generative
from imagegen_jax.core.privacy.accountant import spent
from imagegen_jax.core.program import Program
from imagegen_jax.core.provenance.origin import Origin, origin_of, published
from imagegen_jax.core.reporting.log import environment, write_json
from imagegen_jax.core.reporting.not_finite import NonFiniteError
from imagegen_jax.core.reporting.pending import PendingMetrics
from imagegen_jax.core.reporting.profile import Tracer
from imagegen_jax.core.reporting.run_log import RunLog
from imagegen_jax.core.reporting.summary import parameter_summary
from imagegen_jax.core.reporting.trackers.tracker import Tracking
from imagegen_jax.core.reporting.training_progress import TrainingProgress
from imagegen_jax.core.samples import SEED, draw_grid, rows_of_grid
from imagegen_jax.core.state import State
from imagegen_jax.core.step import stage_at


class LiveRun:
    """A run that is being trained: what it holds beside its state, such as files and metrics not yet written."""

    def __init__(
        self,
        program: Program,
        workdir: pathlib.Path,
        progress: TrainingProgress,
        quiet: bool,
        track: Mapping[str, Tracking],
        profile: tuple[int, int] | None = None,
    ) -> None:
        """Opens the checkpoints of a folder that this run has claimed."""
        self.program, self.workdir, self.experiment = program, workdir, program.experiment
        self.first, self.progress, self.quiet = jax.process_index() == 0, progress, quiet
        self.measure: Measurement | None = None
        self.snapshots = Checkpoints(workdir / "snapshots") if power_averages(self.experiment) else None
        self.pending = PendingMetrics()
        self.doing = ""  # for who asks it to stop
        self.metadata = True  # whether grids say that they are generated, and by what
        self.checkpoints = self._open_checkpoints()
        self.log = RunLog(workdir, progress, self._kept, track, published(to_dict(self.experiment)))
        self.tracer = Tracer(workdir, profile if self.first else None, progress)

    def _open_checkpoints(self) -> Checkpoints:
        best = None
        if self.experiment.evaluation is not None:
            with self.progress.activity("preparing the evaluation"):
                quiet = self.quiet or not self.first
                self.measure = self.experiment.evaluation.open(self.experiment, self.workdir, quiet)
            best = self.measure.best
        frozen = frozen_sources(self.experiment)
        return Checkpoints(self.workdir / "checkpoints", self.experiment.keep_checkpoints, best, frozen)

    def _kept(self) -> str:
        """Says which checkpoint is the newest, after the one that may be under way."""
        with contextlib.suppress(Exception):  # the disk may be full for it, too
            self.checkpoints.wait()
        return self.checkpoints.newest()

    def start(self, compiles: bool = True) -> State:
        """Returns the state to go on from, the newest good checkpoint's or a fresh one.

        With `compiles` its steps are compiled meanwhile, and the first of them is ready at the end.
        """
        begun = time.perf_counter()
        newest, pretrained = max(self.checkpoints.steps(), default=0), None
        if not newest:
            folders.check_not_lost(self.workdir)
            if self.experiment.pretrained:
                with self.progress.activity("reading the weights that it starts from"):
                    pretrained = self.program.pretrained()
        finished = newest >= self.experiment.steps
        if not finished:
            if compiles:
                self.compile_stage(newest)
            if isinstance(self.experiment.model, Generative):
                labels, _, n = rows_of_grid(self.experiment)
                with self.progress.activity("checking what is to be drawn"):
                    self.program.check_sampling(newest + 1, n, label_conditions(labels))
        with self.progress.activity("reading the newest checkpoint" if newest else "making the networks"):
            found = self.checkpoints.restore(self.program.abstract_state)
            step, state = (found.step, found.tree) if found else (0, self.program.init(pretrained))
        if found:
            self.progress.say(f"resumed at step {step:,}")
        self.say_privacy()
        if compiles and not finished:
            self.compile_stage(step)  # of a checkpoint before the newest
            self.program.compile_ahead(step).result()
            self.progress.say(f"training begins, after {time.perf_counter() - begun:.1f} s")
        return state

    def say_privacy(self) -> None:
        """Says what a private run will have spent at its end; nothing of any other run."""
        asked = self.experiment
        if asked.private is not None and self.first and not self.quiet:
            found = spent(asked.private, len(self.program.dataset), asked.batch_size, asked.steps, asked.seed)
            self.progress.say(found.words)

    def compile_stage(self, step: int) -> None:
        """Begins to compile what comes due from `step` on in its stage, and shows it."""

        def show(text: str) -> AbstractContextManager[None]:
            return self.progress.activity(text, announce=text.startswith("compiling"))

        self.program.compile_stage(step, show)

    def open_files(self, state: State, changed: folders.Changes) -> None:
        """Writes the files that describe the run, and opens its log."""
        if not self.first:
            return
        step = int(state.step)
        with self.log.writing("the log", step):
            best = self.measure.best if self.measure else None
            folders.store(self.workdir, self.experiment, changed, self.program.dataset, best)
            write_json(self.workdir / "environment.json", environment())
            write_json(self.workdir / "parameters.json", parameter_summary(state))
            self.log.open(step)

    def agree_to_stop(self) -> Any:
        """Returns the function by which several processes agree on a step to stop after; None for a single one."""
        return self.checkpoints.reached_preemption if jax.process_count() > 1 else None

    def await_program(self, step: int) -> None:
        """Begins to compile a new stage, and waits for a step that is not compiled: that is no time of training."""
        model = self.experiment.model
        if step and stage_at(model, step) != stage_at(model, step - 1):
            self.compile_stage(step)
        if not self.program.ready(step):
            with jax.transfer_guard("allow"):
                self.program.compile_ahead(step).result()
            self.pending.restart(step)

    def wait_for_save(self, step: int) -> None:
        """Waits for the checkpoint of a step."""
        self.doing = f"saving is under way, of step {step:,}"
        with self.progress.activity(f"saving step {step:,}"):
            self.checkpoints.wait()

    def keeps(self, step: int) -> bool:
        """Tells whether `keep` has anything to do after a step."""
        return (
            self._evaluation_due(step)
            or step == self.experiment.steps
            or step % self.experiment.checkpoint_every == 0
            or self._snapshot_due(step)
            or self._samples_due(step)
        )

    def keep(self, step: int, state: State, stop: int) -> None:
        """Evaluates, saves a checkpoint and a snapshot, and writes a grid of samples, each where it is due."""
        end = step == self.experiment.steps
        scores = self.evaluate(step, state) if self._evaluation_due(step) else None
        if stop or scores or end or step % self.experiment.checkpoint_every == 0:
            self.doing = f"saving is under way, of step {step:,}"
            self.save(step, state, scores)
        if self._snapshot_due(step):
            self.save_snapshot(step, state)
        if end or self._samples_due(step):
            self.write_samples(step, state)

    def save(self, step: int, state: State, scores: Mapping[str, float] | None) -> None:
        """Saves a checkpoint, after a look at every metric up to it; `scores` are an evaluation's."""
        self.write_metrics(step)
        with self.progress.activity(f"saving step {step:,}"):
            self.checkpoints.save(step, state, scores)

    def write_metrics(self, step: int) -> dict[str, float]:
        """Writes and returns the means of all metrics up to a step; raises NonFiniteError where one is not finite."""
        means = self.pending.take(step, self.experiment.batch_size)
        if means:
            self.log.write_line(step, means)
            rate = means["images_per_second"]
            self.progress.update(step, rate, rate / self.experiment.batch_size, means)
        return means

    def _evaluation_due(self, step: int) -> bool:
        if self.measure is None:
            return False
        return step % self.experiment.evaluation.every == 0 or step == self.experiment.steps

    def evaluate(self, step: int, state: State) -> Mapping[str, float]:
        """Returns scores of images drawn from the averaged networks; this time does not count as training."""
        assert self.measure is not None
        self.write_metrics(step)

        def draw(n: int, labels: np.ndarray | None, seed: int) -> np.ndarray:
            return self.program.sample(state, n, seed, label_conditions(labels))

        try:
            with self.progress.activity(f"evaluating step {step:,}"):
                scores = self.measure(draw, step)
        except NonFiniteError as error:
            self.progress.say(f"warning: no evaluation of step {step:,}: {error}")
            self.pending.restart(step)
            return {}
        self.log.write_line(step, {f"evaluation/{name}": score for name, score in scores.items()})
        self.progress.say(f"step {step:,}: " + "  ".join(f"{name} {score:.4g}" for name, score in scores.items()))
        self.pending.restart(step)
        return scores

    def _snapshot_due(self, step: int) -> bool:
        every = -(-self.experiment.steps // self.experiment.snapshots)
        return self.snapshots is not None and (step % every == 0 or step == self.experiment.steps)

    def _samples_due(self, step: int) -> bool:
        return self.experiment.sample_every > 0 and step % self.experiment.sample_every == 0

    def save_snapshot(self, step: int, state: State) -> None:
        """Saves the power-function averages of this step, for post-hoc reconstruction."""
        assert self.snapshots is not None
        names = power_averages(self.experiment)
        kept = {network: {a: tree for a, tree in of.items() if a in names} for network, of in state.ema.items()}
        self.snapshots.save(step, kept)

    def write_samples(self, step: int, state: State) -> None:
        """Writes a grid of samples, if the model draws any."""
        self.write_metrics(step)
        if not isinstance(self.experiment.model, Generative):
            return
        try:
            with self.progress.activity(f"drawing samples of step {step:,}"):
                picture, health, prompts = draw_grid(self.program, state)
        except NonFiniteError as error:  # while losses are finite, so that the training itself may well go on
            self.progress.say(f"warning: no samples of step {step:,}: {error}")
            self.pending.restart(step)
            return
        self.log.write_line(step, {f"samples/{name}": float(value) for name, value in health.items()})
        if self.log.is_open:
            with self.log.writing("the picture of samples", step):
                write_png(self.workdir / "samples" / f"{step:08d}.png", picture, self._origin(step, prompts))
                self.log.write_image(step, picture)
        self.pending.restart(step)

    def _origin(self, step: int, prompts: Sequence[str]) -> Origin | None:
        found = origin_of(self.workdir, self.experiment.name, step, SEED, prompts, command="imagegen train")
        return found if self.metadata else None

    def __enter__(self) -> LiveRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        """Closes all that is open; a second error does not hide the one that ended the run."""
        compiling.drop_waiting()
        with contextlib.suppress(Exception) if error else contextlib.nullcontext():
            self.close()

    def close(self) -> None:
        """Closes all that is open, the checkpoints last and whatever the others raise: what is being saved is whole."""
        with contextlib.ExitStack() as closing:
            for open_file in (self.checkpoints, self.snapshots, self.log, self.tracer):
                if open_file:
                    closing.callback(open_file.close)
