"""Known machines, and the figures that their makers publish.

TPUs: cloud.google.com/tpu/docs/v4, v5e, v5p and v6e. GPUs: NVIDIA's data sheets of the A100 (SXM, 80 GB), H100 (SXM),
H200 (SXM) and of the DGX B200, without sparsity. What NVIDIA's links and v5e's and v6e's carry is published for both
directions together; half of that is one direction's.

The memory is what can be had of it. Of a TPU, what its compiler leaves to programs, as its own refusals say (libtpu
0.0.50): 15.75 of a v5e's 16 GiB. Of a GPU, what CUDA reports, less than what it is sold with; XLA's own descriptions
have the same, but for the H200's.
"""

from __future__ import annotations

import dataclasses
import math
import re

MOST_GPUS = 8  # that NVLink joins in one host


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device: what is published of it."""

    kind: str
    platform: str  # "tpu" or "gpu", as jax names it
    peak_flops: float  # FLOP/s of dense bfloat16 products, a multiply-add as two
    memory_bytes: int
    memory_rate: float  # bytes/s read and written together
    link_rate: float  # bytes/s that it can send to others, over all its links: one direction
    axes: int = 1  # of the shapes that its machines come in: 2x4 has 2


_GIB, _TERA, _GIGA = 2**30, 1e12, 1e9

CHIPS = {
    chip.kind: chip
    for chip in (
        Chip("v4", "tpu", 275 * _TERA, int(30.75 * _GIB), 1_200 * _GIGA, 300 * _GIGA, axes=3),  # 2,400 Gbps
        Chip("v5e", "tpu", 197 * _TERA, int(15.75 * _GIB), 819 * _GIGA, 200 * _GIGA, axes=2),
        Chip("v5p", "tpu", 459 * _TERA, int(95.73 * _GIB), 2_765 * _GIGA, 600 * _GIGA, axes=3),  # 4,800 Gbps
        Chip("v6e", "tpu", 918 * _TERA, int(31.24 * _GIB), 1_640 * _GIGA, 400 * _GIGA, axes=2),
        Chip("a100", "gpu", 312 * _TERA, 85_100_068_864, 2_039 * _GIGA, 300 * _GIGA),
        Chip("h100", "gpu", 989.4 * _TERA, 84_942_979_072, 3_350 * _GIGA, 450 * _GIGA),
        Chip("h200", "gpu", 989.4 * _TERA, 150_109_000_000, 4_800 * _GIGA, 450 * _GIGA),  # CUDA: 139.8 GiB
        Chip("b200", "gpu", 2_250 * _TERA, 191_514_411_008, 8_000 * _GIGA, 900 * _GIGA),
    )
}


@dataclasses.dataclass(frozen=True)
class Machine:
    """So many devices of one kind, side by side."""

    chip: Chip
    shape: tuple[int, ...]

    @property
    def devices(self) -> int:
        """The number of its devices."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.chip.kind}:{'x'.join(map(str, self.shape))}"


def parse_machine(text: str) -> Machine:
    """Reads a machine as the command line names it: "v5p:2x2x2", "v5e:2x4", "h200:8".

    Raises ValueError for a kind that is not known, and for a shape that such machines do not come in.
    """
    kind, _, rest = text.strip().lower().partition(":")
    if kind not in CHIPS:
        raise ValueError(f"--machine {text}: no kind {kind!r} is known; name one of {', '.join(map(example, CHIPS))}")
    chip = CHIPS[kind]
    if not re.fullmatch(rf"[1-9]\d{{0,3}}(x[1-9]\d{{0,3}}){{{chip.axes - 1}}}", rest):
        raise ValueError(f"--machine {text}: give its number of devices as {example(kind)} does")
    shape = tuple(map(int, rest.split("x")))
    if chip.platform == "gpu" and shape[0] > MOST_GPUS:
        raise ValueError(f"--machine {text}: at most {MOST_GPUS} GPUs, those of one host: {kind}:{MOST_GPUS}")
    return Machine(chip, shape)


def example(kind: str) -> str:
    """Returns a machine of eight devices of a kind, as text."""
    return f"{kind}:{({1: '8', 2: '2x4', 3: '2x2x2'})[CHIPS[kind].axes]}"
