"""What came of examining an experiment for a machine, as a value and as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from imagegen_jax.machines.bound import USUAL, Bound
from imagegen_jax.machines.fit import Memory
from imagegen_jax.machines.traffic import Collective

DAY = 86_400.0


@dataclasses.dataclass(frozen=True)
class ProgramReport:
    """One program on the machine. Bytes are one device's; floating-point operations are of all devices together."""

    name: str
    images: int  # that a call takes or draws
    steps: float  # of the whole run; 0 of the sampler
    flops: float
    memory: Memory | None  # None where the compiler failed for another reason than memory
    error: str = ""
    compile_seconds: float = 0.0
    memory_bytes: int | None = None  # that a call reads and writes; None, as the next two, where it does not compile
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
    platform: str
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
    def fits(self) -> bool:
        """Tells whether training fits and all programs compile; a sampler may draw fewer images at a time."""
        return all(program.fits for program in self.training) and not any(program.error for program in self.programs)

    @property
    def heaviest_step(self) -> ProgramReport | None:
        """The training step that needs the most memory; None where none of them compiles."""
        known = [program for program in self.training if program.memory is not None]
        return max(known, key=lambda program: program.memory.peak if program.memory else 0, default=None)

    @property
    def seconds(self) -> float | None:
        """The bound of the whole run's training in seconds; None where a step has none."""
        found = [program.steps * program.bound.seconds for program in self.training if program.bound]
        return math.fsum(found) if len(found) == len(self.training) else None

    @property
    def images_per_second(self) -> float | None:
        """The speed at that bound."""
        return None if self.seconds is None else self.steps * self.batch_size / self.seconds

    def as_json(self) -> dict[str, Any]:
        """Returns all numbers by name: bytes of one device, seconds, floating-point operations of all devices."""
        found = dataclasses.asdict(self) | {"fits": self.fits}
        for program, values in zip(self.programs, found["programs"], strict=True):
            values["fits"] = program.fits
            if program.bound:
                values["bound"] |= {"seconds": program.bound.seconds, "by": program.bound.by}
        if self.seconds is not None and self.images_per_second is not None:
            images, days = self.images_per_second, self.seconds / DAY
            found["bound"] = {"images_per_second": images, "days": days}
            found["at_usual_share"] = {"share": USUAL, "images_per_second": images * USUAL, "days": days / USUAL}
        return found
