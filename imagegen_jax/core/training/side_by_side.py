"""Several seeds of one experiment, trained by one program that is mapped over them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.shard import state_sharding
from imagegen_jax.core.config.serial import differences, to_dict
from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.model import Batch, Entering, Model, Staged
from imagegen_jax.core.program import Program
from imagegen_jax.core.reporting.pending import PendingMetrics
from imagegen_jax.core.reporting.profile import Tracer
from imagegen_jax.core.reporting.training_progress import TrainingProgress
from imagegen_jax.core.state import State
from imagegen_jax.core.step import due_steps
from imagegen_jax.core.training.live_run import LiveRun

FREE = ("seed", "name")  # fields in which the runs may differ


def check_alike(experiments: Sequence[Experiment]) -> None:
    """Raises ValueError where experiments cannot be trained by one program: they may differ in seed and name alone."""
    first = to_dict(experiments[0])
    for other in experiments[1:]:
        if differ := [field for field in differences(first, to_dict(other)) if field not in FREE]:
            raise ValueError(f"runs side by side differ in {', '.join(differ)}: only {' and '.join(FREE)} may")
    if why := refusal(experiments[0].model):
        raise ValueError(why)


def refusal(model: Model) -> str:
    """Says why the runs of a model are not trained side by side; "" where they can be."""
    staged = isinstance(model, Staged | Entering)
    return f"a {type(model).__name__} has stages, so its seeds are trained one after the other" if staged else ""


class SeedsProgram:
    """The programs of several seeds as one: a state is theirs on a leading axis, a batch is a list of theirs."""

    def __init__(self, programs: Sequence[Program]) -> None:
        """Takes programs that are alike (`check_alike`)."""
        self._programs, self._first = programs, programs[0]
        self.mesh = self._first.mesh
        self._constants = [program.constants for program in programs]
        self._steps: dict[Any, Future[Any]] = {}

    def stacked(self, states: Sequence[State]) -> State:
        """Puts the states of all runs into one, on a new axis before all others."""
        shapes = jax.eval_shape(_stack, list(states))
        return jax.jit(_stack, out_shardings=state_sharding(self.mesh, shapes))(list(states))

    def apart(self, states: State) -> list[State]:
        """Returns the state of each run, as copies."""
        return self._take_apart(states)

    @functools.cached_property
    def _take_apart(self) -> Callable[[State], list[State]]:
        shapes = self._first.abstract_state(1)
        places = [state_sharding(self.mesh, shapes)] * len(self._programs)

        def take(states: State) -> list[State]:
            return [jax.tree.map(lambda leaf: leaf[i], states) for i in range(len(places))]  # noqa: B023

        return jax.jit(take, out_shardings=places)

    def batch(self, step: int) -> list[Batch]:
        """Puts the rows of each run's training step on the devices."""
        return [program.batch(step) for program in self._programs]

    def advance(self, states: State, step: int, batch: list[Batch]) -> tuple[State, dict[str, Any]]:
        """Takes one step of all runs; metrics have a value a run; `states` is donated."""
        return self.compile_ahead(step).result()(states, batch, self._constants)

    def compile_ahead(self, step: int) -> Future[Any]:
        """Begins to compile a training step from shapes alone."""
        due = self._due(step)
        if due not in self._steps:
            with jax.transfer_guard("allow"):
                shapes = jax.eval_shape(_stack, [self._first.abstract_state(step + 1)] * len(self._programs))
                self._steps[due] = compiling.compiled_step(
                    self._first.spec, self.mesh, None, due, shapes, self.batch(step), self._constants
                )
        return self._steps[due]

    def _due(self, step: int) -> tuple[str, ...]:
        return next(iter(due_steps(self._first.experiment.model, step, step + 1)))

    def ready(self, step: int) -> bool:
        """Tells whether a training step is compiled; waits for nothing."""
        future = self._steps.get(self._due(step))
        return future is not None and future.done()


def _stack(states: list[State]) -> State:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


class SideBySide:
    """Live runs of several seeds, which the loop takes for one; each keeps its own folder."""

    def __init__(self, runs: Sequence[LiveRun], progress: TrainingProgress, quiet: bool) -> None:
        """Takes runs that are alike (`check_alike`). Raises ValueError where they are not at one step."""
        self.program = SeedsProgram([run.program for run in runs])
        self.runs, self.progress, self.quiet = runs, progress, quiet
        self.experiment: Experiment = runs[0].experiment
        self.pending, self.doing = PendingMetrics(), ""
        self.tracer = Tracer(runs[0].workdir, None, progress)
        steps = {max(run.checkpoints.steps(), default=0) for run in runs}
        if len(steps) > 1:
            raise ValueError(f"the runs are at steps {sorted(steps)}: train each by itself up to the same one")
        self.step = steps.pop()

    def agree_to_stop(self) -> Any:
        """Returns what `LiveRun.agree_to_stop` does."""
        return self.runs[0].agree_to_stop()

    def await_program(self, step: int) -> None:
        """Waits for a step that is not compiled: that is no time of training."""
        if self.program.ready(step):
            return
        with self._compiling():
            self.program.compile_ahead(step).result()
        self._restart(step)

    def _compiling(self) -> AbstractContextManager[None]:
        return self.progress.activity(f"compiling a training step of {len(self.runs)} seeds", announce=True)

    def _restart(self, step: int) -> None:
        for pending in (self.pending, *(run.pending for run in self.runs)):
            pending.restart(step)

    def write_metrics(self, step: int) -> None:
        """Writes each run's means of all metrics up to a step; raises NonFiniteError, naming the run's folder."""
        rows = jax.device_get([row for row in self.pending.rows if row[0] <= step])
        self.pending.rows = [row for row in self.pending.rows if row[0] > step]
        self.pending.due = {due for due in self.pending.due if due > step}
        means = []
        for index, run in enumerate(self.runs):
            run.pending.rows = [(at, {name: values[index] for name, values in row.items()}) for at, row in rows]
            means.append(run.write_metrics(step))
        if rows:
            shown = {name: float(np.mean([of_run[name] for of_run in means])) for name in means[0]}
            rate = shown["images_per_second"] * len(self.runs)
            self.progress.update(step, rate, rate / self.experiment.batch_size / len(self.runs), shown)

    def keep(self, step: int, states: State, stop: int) -> None:
        """Keeps of each run what is due after a step."""
        if not (stop or self.runs[0].keeps(step)):
            return
        self.write_metrics(step)
        with jax.transfer_guard("allow"):
            apart = self.program.apart(states)
        for run, state in zip(self.runs, apart, strict=True):
            run.keep(step, state, stop)
        self._restart(step)

    def wait_for_save(self, step: int) -> None:
        """Waits for the checkpoints of a step."""
        for run in self.runs:
            run.wait_for_save(step)
