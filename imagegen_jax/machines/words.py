"""A report on a machine as a person reads it."""

from __future__ import annotations

import textwrap

from imagegen_jax.machines.bound import USUAL
from imagegen_jax.machines.fit import GPU_SHARE, Memory
from imagegen_jax.machines.report import DAY, MachineReport, ProgramReport

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
_SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def text_of(report: MachineReport) -> str:
    """Returns a block for each program, then one for the run."""
    shape = " x ".join(f"{axis} {size}" for axis, size in report.mesh.items())
    head = f"{report.name} on {report.machine}, {report.devices} device{'s' * (report.devices > 1)} ({shape})"
    blocks = [head, *map(_program, report.programs), "\n".join(_run(report))]
    return "\n\n".join(block for block in blocks if block)


def _program(program: ProgramReport) -> str:
    kind = f"training step: {program.name}" if program.steps else program.name
    lines = [f"{kind}, {program.images:,} images"]
    if program.error:
        lines.append(f"does not compile: {textwrap.shorten(program.error, 400)}")
    if program.memory:
        lines += _memory(program.memory)
        lines.append(f"work            {_si(program.flops)}FLOP, {_si(program.flops / program.images)}FLOP an image")
    if program.bound and program.collectives is not None and program.memory_bytes is not None:
        lines.append(f"memory traffic  {_si(program.memory_bytes)}B a device")
        sent = [
            f"{one.number:,} {one.kind} of {_si(one.bytes)}B, {_si(one.sent)}B sent by a device"
            for one in program.collectives
        ]
        lines += [f"{'collectives' if line is sent[0] else '':<16}{line}" for line in sent]
        bound = program.bound
        parts = ", ".join(f"{rate} {_time(getattr(bound, rate))}" for rate in ("compute", "memory", "links"))
        lines.append(f"at least        {_time(bound.seconds)}, bound by {bound.by} ({parts})")
    if program.unknown_loops:
        lines.append(f"in which {program.unknown_loops} loops of unknown length count as one turn")
    return "\n  ".join(lines)


def _memory(memory: Memory) -> list[str]:
    fits = "fits" if memory.fits else "does not fit"
    return [
        f"memory          {_size(memory.peak)} of a device's {_size(memory.available)}: {fits}",
        f"                state {_size(memory.state)}, arguments {_size(memory.arguments)}, "
        f"temporaries {_size(memory.temporaries)}",
    ]


def _run(report: MachineReport) -> list[str]:
    lines = []
    if report.fitting_batch is not None:
        would = f"a batch of {report.fitting_batch:,} would" if report.fitting_batch else "nor does any smaller one"
        lines.append(f"a batch of {report.batch_size:,} does not fit; {would}; see also --microbatches, --mesh.fsdp")
    peaks = [program.memory for program in report.programs if program.memory and program.fits]
    if report.platform == "gpu" and any(memory.peak > GPU_SHARE * memory.available for memory in peaks):
        lines.append(f"jax takes {GPU_SHARE:.0%} of a GPU's memory: set XLA_PYTHON_CLIENT_MEM_FRACTION=0.95")
    if report.seconds is not None and report.images_per_second is not None:
        images, seconds = report.images_per_second, report.seconds
        lines += [
            f"training, {report.steps:,} steps of {report.batch_size:,} images",
            f"  at that bound {_speed(images, seconds)}: by published rates, nothing is faster",
            f"  at {USUAL:.0%} of it  {_speed(images * USUAL, seconds / USUAL)}: a guess, nothing was run",
        ]
    return lines


def _speed(images: float, seconds: float) -> str:
    days, hours = seconds / DAY, seconds / 3600
    length = f"{days:,.1f} days" if days >= 1 else f"{hours:.1f} hours" if hours >= 1 else _time(seconds)
    return f"{images:,.0f} images/s, {length}"


def _time(seconds: float) -> str:
    unit, name = next((one for one in _TIMES if seconds >= one[0]), _TIMES[-1])
    return f"{_three(seconds / unit)} {name}"


def _size(size: int) -> str:
    unit, name = next((one for one in _SIZES if size >= one[0]), _SIZES[-1])
    return f"{_three(size / unit)} {name}"


def _si(value: float) -> str:
    """Returns a number with a prefix, for a unit to follow: 1.5e12 as "1.5 T"."""
    unit, prefix = next((one for one in _PREFIXES if value >= one[0]), _PREFIXES[-1])
    return f"{_three(value / unit)} {prefix}"


def _three(value: float) -> str:
    """Returns a number with three digits, or all that are before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
