"""A lower bound of a program's time: what a machine's published rates allow at best, and which of them it waits for."""

from __future__ import annotations

import dataclasses

from imagegen_jax.machines.machines import Machine

USUAL = 0.4  # of the bound, that well-tuned training reaches


@dataclasses.dataclass(frozen=True)
class Bound:
    """Seconds that one call takes at least, by each rate."""

    compute: float
    memory: float
    links: float

    @property
    def seconds(self) -> float:
        """The longest of them: all three may go on at once."""
        return max(self.compute, self.memory, self.links)

    @property
    def by(self) -> str:
        """What bounds it: "compute", "memory" or "links"."""
        return max(("compute", "memory", "links"), key=lambda rate: getattr(self, rate))


def bound_of(machine: Machine, devices: int, flops: float, memory_bytes: float, sent: float) -> Bound:
    """Returns the bound of a program of `flops` over all devices, of which each moves and sends so many bytes."""
    chip = machine.chip
    return Bound(flops / devices / chip.peak_flops, memory_bytes / chip.memory_rate, sent / chip.link_rate)
