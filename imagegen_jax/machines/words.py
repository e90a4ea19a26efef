"""A report on a machine as a person reads it."""

from __future__ import annotations

import textwrap

from imagegen_jax.core.reporting.durations import duration
from imagegen_jax.machines.bound import USUAL
from imagegen_jax.machines.fit import GPU_MOST, GPU_SHARE, Memory
from imagegen_jax.machines.report import DAY, MachineReport, ProgramReport

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
_SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_FRACTION = "XLA_CLIENT_MEM_FRACTION"


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
        lines += _memory(program.memory, "state" if program.steps else "networks")
        work = f"{_si(program.flops)}FLOP on all devices, {_si(program.flops / program.images)}FLOP an image"
        lines.append(f"work            {work}")
    if program.bound and program.collectives is not None and program.memory_bytes is not None:
        lines.append(f"memory traffic  {_si(program.memory_bytes)}B read and written by each device")
        sent = [
            f"{one.number:,} {one.kind} of {_si(one.bytes)}B in all, {_si(one.sent)}B sent by each device"
            for one in program.collectives
        ]
        lines += [f"{'collectives' if line is sent[0] else '':<16}{line}" for line in sent]
        bound = program.bound
        parts = ", ".join(f"{rate} {_time(getattr(bound, rate))}" for rate in ("compute", "memory", "links"))
        lines.append(f"at least        {_time(bound.seconds)}, bound by {bound.by} ({parts})")
        if not program.steps and bound.seconds:
            lines.append(f"                so at most {_three(program.images / bound.seconds)} images/s")
    if program.unknown_loops:
        lines.append(f"of loops whose length is unknown ({program.unknown_loops}), one turn is counted")
    return "\n  ".join(lines)


def _memory(memory: Memory, kept: str) -> list[str]:
    fits = "fits" if memory.fits else "does not fit"
    others = max(0, memory.peak - memory.arguments - memory.temporaries)
    return [
        f"memory          {_size(memory.peak)} of the {_size(memory.available)} for programs on each device: {fits}",
        f"                arguments {_size(memory.arguments)} ({kept} {_size(memory.state)}), temporaries "
        f"{_size(memory.temporaries)}, results and the program itself {_size(others)}",
    ]


def _run(report: MachineReport) -> list[str]:
    lines = _does_not_fit(report)
    if any(program.memory and not program.fits for program in report.programs if not program.steps):
        lines.append("the sampler does not fit: draw fewer images at a time (imagegen sample --chunk)")
    peaks = [program.memory for program in report.programs if program.memory and program.fits]
    if report.platform == "gpu" and any(memory.peak * GPU_MOST > GPU_SHARE * memory.available for memory in peaks):
        lines.append(f"jax takes {GPU_SHARE:.0%} of a GPU's memory, too little here: set {_FRACTION}={GPU_MOST}")
    fits = all(program.fits for program in report.training)
    if fits and report.seconds is not None and report.images_per_second is not None:
        images, seconds = report.images_per_second, report.seconds
        lines += [
            f"training, {report.steps:,} steps of {report.batch_size:,} images",
            f"  at the bound  {_speed(images, seconds)}: all at published peak rates (roofline)",
            f"  at {USUAL:.0%} of it  {_speed(images * USUAL, seconds / USUAL)}: a guess, nothing was run",
        ]
    return lines


def _does_not_fit(report: MachineReport) -> list[str]:
    """Says which batch would fit, and what is left to try: parts of a batch where one fits, a state that is split."""
    if report.fitting_batch is None:
        return []
    would, remedies = "nor does any smaller one", []
    if report.fitting_batch:
        would, remedies = f"a batch of {report.fitting_batch:,} would", ["--microbatches"]
    if report.mesh["fsdp"] < report.devices:
        remedies.append(f"--mesh.fsdp {report.devices}")
    left = f"try {' or '.join(remedies)}" if remedies else "take more devices, or some with more memory"
    return [f"a batch of {report.batch_size:,} does not fit; {would}; {left}"]


def _speed(images: float, seconds: float) -> str:
    days = f"{seconds / DAY:,.1f} days"
    length = days if seconds >= DAY else duration(seconds) if seconds >= 60 else _time(seconds)
    return f"{images:,.0f} images/s, {length}"


def _time(seconds: float) -> str:
    if not seconds:
        return "none"
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
