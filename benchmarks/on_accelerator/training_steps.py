"""Training steps of one network: seconds, images a second, the share of the peak, and memory."""

from __future__ import annotations

import functools
import math
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import jax

from imagegen_jax import Experiment, Program
from imagegen_jax.core.step import due_at, due_steps, train_step
from on_accelerator.networks import experiment_of, random_data
from on_accelerator.parts import Settings, Tell
from on_accelerator.prediction import bound, chip, operations
from on_accelerator.speed import mfu, timed

BUDGET = 6.0  # seconds of steps that are timed, for each program


def measure(settings: Settings, tell: Tell, name: str) -> None:
    """Tells of the steps of each set of phases that come due together, the most frequent first, and of their mean."""
    experiment = experiment_of(name, settings.dry_run)
    program = Program(experiment, random_data(experiment))
    steps = due_steps(experiment.model, 0, 1 if settings.dry_run else experiment.steps)
    compiling = {due: program.compile_ahead(at) for due, at in steps.items()}
    begun = time.perf_counter()
    work = {due: operations_of(program, due, at) for due, at in steps.items()}
    tell(
        {
            "batch": experiment.batch_size,
            "devices": len(jax.devices()),
            "flops": {" + ".join(due): flops for due, flops in work.items()},
        }
    )
    state, batch = program.init(), program.batch(0)
    tell({"parameters": parameters(state.params)})
    found, least, budget = {}, {}, 0.1 if settings.dry_run else BUDGET
    for due, at in steps.items():
        compiled = compiling[due].result()
        waited = time.perf_counter() - begun
        taken = Stepper(program, state, batch, at)
        state = None  # it is the stepper's, which gives it away at each step
        found[due] = of_step(experiment, work[due], timed(taken, budget)) | {
            "seconds_until_compiled": waited,
            "memory": memory(compiled),
        }
        state = taken.state
        tell({" + ".join(due): found[due]})
    tell(mean_of(experiment, found, work))
    if of := chip(jax.devices()[0].device_kind):  # last: it reads the whole program
        for due, program_of in compiling.items():
            least[" + ".join(due)] = bound(program_of.result(), work[due], of, len(jax.devices()))
            tell({"bound": least})


class Stepper:
    """Takes training steps on one batch."""

    def __init__(self, program: Program, state: Any, batch: Any, at: int) -> None:
        self.program, self.state, self.batch, self.at = program, state, batch, at

    def __call__(self, steps: int) -> None:
        """Takes so many, all with the phases that are due at step `at`, and waits for them."""
        for _ in range(steps):
            self.state, metrics = self.program.advance(self.state, self.at, self.batch)
        jax.block_until_ready((self.state, metrics))


def operations_of(program: Program, due: tuple[str, ...], at: int) -> float:
    """Floating-point operations of a training step, forward and backward, on all devices together."""
    step = functools.partial(train_step, program.spec, None, due)
    return operations(step, program.abstract_state(at + 1), program.batch(at), program.constants)


def of_step(experiment: Experiment, flops: float, times: Mapping[str, Any]) -> dict[str, Any]:
    """What follows from the seconds of a step: images a second, FLOP/s of all devices, and their share of the peak."""
    images, seconds = experiment.batch_size, times["seconds"]
    found = {**times, "images_per_second": images / seconds, "flops_per_second": flops / seconds}
    if of := chip(jax.devices()[0].device_kind):
        found["mfu"] = mfu(flops, seconds, of.peak_flops, len(jax.devices()))
    return found


def mean_of(experiment: Experiment, found: Mapping[Any, Any], work: Mapping[Any, float]) -> dict[str, Any]:
    """The mean of all steps of a run, where lazy phases come due now and then."""
    phases = experiment.model.phases(None)
    period = math.lcm(*(phase.every for phase in phases))
    times = Counter(due_at(phases, step) for step in range(period))
    known = sum(times[due] for due in found)  # all of the period, but for a dry run
    seconds = sum(times[due] * found[due]["seconds"] for due in found) / known
    flops = sum(times[due] * work[due] for due in found) / known
    return of_step(experiment, flops, {"seconds": seconds})


def parameters(params: Mapping[str, Any]) -> dict[str, int]:
    """How many parameters each network has."""
    return {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in params.items()}


def memory(compiled: Any) -> dict[str, Any]:
    """Bytes on the first device: what the compiler says of this program, and the most that was in use until now."""
    planned = compiled.memory_analysis()
    stats = jax.devices()[0].memory_stats() or {}
    return {
        "arguments": planned.argument_size_in_bytes,
        "temporaries": planned.temp_size_in_bytes,
        "planned_peak": getattr(planned, "peak_memory_in_bytes", None),
        "peak_in_use": stats.get("peak_bytes_in_use"),
    }
