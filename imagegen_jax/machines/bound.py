"""A bound of a program's time, its roofline: what published peak rates allow, and which of them it waits for.

All products are taken at the rate of bfloat16's, spread evenly over the devices, and all that operations read and write
at the rate of the large memory. What a GPU's second-level cache serves, what its switches add up on the way (NVLink
SHARP) and products that an algorithm saves (Winograd's) take less: a program that lives on these can beat its bound.
"""

from __future__ import annotations

import dataclasses

from imagegen_jax.machines.machines import Chip

# Of the bound, in well-tuned training: of peak FLOP/s, PaLM reaches 46 % (Chowdhery et al. 2022, arXiv 2204.02311), and
# Llama 3 38 to 43 % (Grattafiori et al. 2024, arXiv 2407.21783). Of other networks, and other rates, it is a guess.
USUAL = 0.4


@dataclasses.dataclass(frozen=True)
class Bound:
    """Seconds that one call of a program takes at the peak of each rate."""

    compute: float  # of the products
    memory: float  # of what each device reads and writes
    links: float  # of what each device sends to others

    @property
    def seconds(self) -> float:
        """The longest of them: all three may go on at once."""
        return max(self.compute, self.memory, self.links)

    @property
    def by(self) -> str:
        """What bounds it: "compute", "memory" or "links"."""
        return max(("compute", "memory", "links"), key=lambda rate: getattr(self, rate))


def bound_of(chip: Chip, devices: int, flops: float, memory_bytes: float, sent: float) -> Bound:
    """Returns the bound of a program of `flops` on all of so many chips together.

    Each of them reads and writes `memory_bytes` of its own memory, and sends `sent` bytes.
    """
    return Bound(flops / devices / chip.peak_flops, memory_bytes / chip.memory_rate, sent / chip.link_rate)
