"""What an experiment would take on a machine that is not here: its programs compiled for it, one after the other."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator

from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.platform.target import made_for
from imagegen_jax.machines import fit, planned
from imagegen_jax.machines.bound import bound_of
from imagegen_jax.machines.cost import flops_of
from imagegen_jax.machines.described import described_devices
from imagegen_jax.machines.machines import Machine
from imagegen_jax.machines.programs import CHUNK, Traced, sampler, training_steps
from imagegen_jax.machines.report import MachineReport, ProgramReport
from imagegen_jax.machines.traffic import traffic_of

TRIED = 16  # parts of a batch among which the largest that fits is sought
Show = Callable[[str], None]  # is told what is being compiled


def examine(
    experiment: Experiment,
    machine: Machine,
    chunk: int | None = CHUNK,
    search: bool = True,
    show: Show = lambda text: None,
) -> MachineReport:
    """Compiles all programs of an experiment for a machine that is not here, and says what each would take there.

    With `search`, the largest batch that fits is found, by compiling others, where the experiment's own does not.
    `chunk` is how many images the sampler draws at a time; None: it is left out. It takes from seconds to many minutes,
    as compiling there would. Raises `described.CompilerMissing` where the machine's compiler is not installed, and
    ValueError for a mesh or a batch that its devices do not divide.
    """
    devices = described_devices(machine)
    with made_for(machine.chip.platform, devices):
        mesh = experiment.mesh.build()
        reports = [
            _examined(traced, machine, functools.partial(show, f"compiling {traced.name} for {machine}"))
            for traced in _programs(experiment, chunk)
        ]
        report = MachineReport(
            experiment.name, str(machine), machine.chip.platform, mesh.size, dict(mesh.shape), experiment.batch_size,
            experiment.steps, tuple(reports),
        )  # fmt: skip
        heaviest = report.heaviest_step
        if not search or heaviest is None or heaviest.memory is None or heaviest.memory.fits:
            return report
        batch = _largest_batch(experiment, machine, reports.index(heaviest), heaviest.memory, show)
        return dataclasses.replace(report, fitting_batch=batch)


def planned_step(experiment: Experiment, machine: Machine, place: int) -> ProgramReport:
    """Has one of an experiment's `step_kinds` planned for a TPU that is not here.

    It takes a twentieth of the time of `examine`, which compiles. Do it once in a process: see `planned.attempt`.
    """
    with made_for(machine.chip.platform, described_devices(machine)):
        (step,) = training_steps(experiment, experiment.mesh.build(), slice(place, place + 1))
        return _examined(step, machine, lambda: None, planned.attempt)


def _programs(experiment: Experiment, chunk: int | None) -> Iterator[Traced]:
    yield from training_steps(experiment, experiment.mesh.build())
    if chunk is not None and (draws := sampler(experiment, chunk)):
        yield draws


def _examined(
    traced: Traced, machine: Machine, show: Callable[[], None], attempt: Callable[..., fit.Attempt] | None = None
) -> ProgramReport:
    show()
    start = time.monotonic()
    tried = (attempt or fit.attempt)(traced, machine)
    seconds = time.monotonic() - start
    report = ProgramReport(
        traced.name, traced.images, traced.steps, flops_of(traced.program.jaxpr), tried.memory, tried.error, seconds
    )
    if tried.compiled is None:
        return report
    moved = traffic_of(tried.compiled.as_text())
    return dataclasses.replace(
        report, memory_bytes=moved.memory_bytes, collectives=moved.collectives, unknown_loops=moved.unknown_loops,
        bound=bound_of(machine.chip, traced.devices, report.flops, moved.memory_bytes, moved.sent),
    )  # fmt: skip


def _largest_batch(experiment: Experiment, machine: Machine, place: int, memory: fit.Memory, show: Show) -> int:
    """Returns the largest batch whose training step, the one at a place among all, fits; 0 where no batch does.

    Each try is a compilation: it is found to a sixteenth of the experiment's batch, or of a sixteenth of that.
    """
    parts = experiment.microbatches * experiment.mesh.build().size

    def fits(units: int) -> bool:
        tried = dataclasses.replace(experiment, batch_size=units * parts)
        show(f"trying a batch of {tried.batch_size}")
        step = next(one for at, one in enumerate(training_steps(tried, tried.mesh.build())) if at == place)
        return fit.attempt(step, machine).fits

    most = experiment.batch_size // parts
    room = max(0.0, (memory.available - memory.arguments) / max(memory.peak - memory.arguments, 1))
    found, unit = 0, most
    while not found and unit > 1:
        below, unit = unit, max(1, unit // TRIED)
        in_units = functools.partial(lambda unit, number: fits(unit * number), unit)
        found = unit * fit.largest_fitting(in_units, (below - 1) // unit, int(room * most) // unit)
    return parts * found
