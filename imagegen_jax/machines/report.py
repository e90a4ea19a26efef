"""What came of examining an experiment for a machine, as a value, as text and as JSON."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Mapping
from typing import Any

from imagegen_jax.machines.bound import USUAL, Bound
from imagegen_jax.machines.fit import GPU_SHARE, Memory
from imagegen_jax.machines.traffic import Collective

_DAY = 86_400.0


@dataclasses.dataclass(frozen=True)
class ProgramReport:
    """One program on the machine. Bytes are one device's, operations those of all devices together."""

    name: str
    images: int  # that a call takes or draws
    steps: float  # of the whole run; 0 of the sampler
    flops: float
    memory: Memory | None  # None where the compiler failed for another reason than memory
    error: str = ""
    compile_seconds: float = 0.0
    memory_bytes: int | None = None  # that a call reads and writes; None here and below where it does not compile
    collectives: tuple[Collective, ...] | None = None
    bound: Bound | None = None
    unknown_loops: int = 0  # that count as one turn in `memory_bytes` and `collectives`

    @property
    def fits(self) -> bool:
        """Tells whether it compiles and a device has the memory for it."""
        return self.memory is not None and self.memory.fits


@dataclasses.dataclass(frozen=True)
class MachineReport:
    """An experiment on a machine."""

    name: str
    machine: str
    devices: int
    mesh: Mapping[str, int]
    batch_size: int
    steps: int
    programs: tuple[ProgramReport, ...]
    fitting_batch: int | None = None  # the largest that fits, found by trying; None where it was not looked for

    @property
    def training(self) -> tuple[ProgramReport, ...]:
        """The programs that are training steps."""
        return tuple(program for program in self.programs if program.steps)

    @property
    def heaviest_step(self) -> ProgramReport | None:
        """The training step that needs the most memory; None where none of them compiles."""
        known = [program for program in self.training if program.memory is not None]
        return max(known, key=lambda program: program.memory.peak if program.memory else 0, default=None)

    @property
    def seconds(self) -> float | None:
        """The bound of the whole run's training; None where a step has none."""
        found = [program.steps * program.bound.seconds for program in self.training if program.bound]
        return math.fsum(found) if len(found) == len(self.training) else None

    def as_json(self) -> dict[str, Any]:
        """Returns all numbers by name: bytes of one device, seconds, operations of all devices."""
        found = dataclasses.asdict(self)
        for program, values in zip(self.programs, found["programs"], strict=True):
            values["fits"] = program.fits
            if program.bound:
                values["bound"] |= {"seconds": program.bound.seconds, "by": program.bound.by}
        if self.seconds is not None:
            images = self.steps * self.batch_size / self.seconds
            found["bound"] = {"images_per_second": images, "days": self.seconds / _DAY}
            found["at_usual_share"] = {
                "share": USUAL, "images_per_second": images * USUAL, "days": self.seconds / _DAY / USUAL,
            }  # fmt: skip
        return found

    def as_text(self) -> str:
        """Returns what a person reads: a block a program, then the run."""
        shape = " x ".join(f"{axis} {size}" for axis, size in self.mesh.items())
        head = f"{self.name} on {self.machine}, {self.devices} device{'s' * (self.devices > 1)} ({shape})"
        return "\n\n".join([head, *map(_program_text, self.programs), self._run_text()])

    def _run_text(self) -> str:
        lines = []
        if self.fitting_batch is not None:
            remedy = f"a batch of {self.fitting_batch} would" if self.fitting_batch else "nor does any smaller batch"
            lines.append(f"a batch of {self.batch_size} does not fit; {remedy}. Also: --microbatches, --mesh.fsdp")
        if self.seconds is not None:
            images = self.steps * self.batch_size / self.seconds
            lines.append(f"training at that bound, which nothing can beat: {_speed(images, self.seconds)}")
            lines.append(
                f"at {USUAL:.0%} of it, which is a guess:            {_speed(images * USUAL, self.seconds / USUAL)}"
            )
            lines.append(
                f"for {self.steps:,} steps of {self.batch_size:,} images; rates are published ones, nothing was run"
            )
        return "\n".join(lines)


def _speed(images: float, seconds: float) -> str:
    days = seconds / _DAY
    length = f"{days:,.1f} days" if days >= 1 else f"{seconds / 3600:,.2f} hours"
    return f"{images:,.0f} images/s, {length}"


def _program_text(program: ProgramReport) -> str:
    kind = f"training step: {program.name}" if program.steps else program.name
    lines = [f"{kind}, {program.images} images"]
    if program.error:
        return "\n  ".join([*lines, f"does not compile: {textwrap.shorten(program.error, 400)}"])
    memory = program.memory
    assert memory is not None
    lines.append(
        f"memory of a device   {_gib(memory.peak)} of {_gib(memory.available)} GiB, "
        f"{'fits' if memory.fits else 'does not fit'}: state {_gib(memory.state)}, arguments {_gib(memory.arguments)}, "
        f"temporaries {_gib(memory.temporaries)}"
    )
    lines.append(f"work                 {_si(program.flops)}FLOP, {_si(program.flops / program.images)}FLOP an image")
    if program.bound is None or program.collectives is None or program.memory_bytes is None:
        return "\n  ".join(lines)
    lines.append(f"memory traffic       {_si(program.memory_bytes)}B a device")
    for one in program.collectives:
        lines.append(f"{one.kind:<20} {one.number:,} of {_si(one.bytes)}B in all, a device sends {_si(one.sent)}B")
    bound = program.bound
    lines.append(
        f"at least             {_ms(bound.seconds)}, bound by {bound.by} (compute {_ms(bound.compute)}, "
        f"memory {_ms(bound.memory)}, links {_ms(bound.links)})"
    )
    return "\n  ".join(lines)


def _gib(size: int) -> str:
    return f"{size / 2**30:,.2f}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.3g} ms"


def _si(value: float) -> str:
    """Returns a number with a prefix: 1.5e12 as "1.50 T"."""
    for power, prefix in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power:
            return f"{value / 10**power:.3g} {prefix}"
    return f"{value:.3g} "
