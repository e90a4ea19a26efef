"""What a program takes of a device's memory, as its compiler says, and the largest batch that the compiler takes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from imagegen_jax.machines.machines import Machine
from imagegen_jax.machines.programs import Traced

GPU_SHARE = 0.75  # what jax takes of a GPU's memory where XLA_CLIENT_MEM_FRACTION says nothing
GPU_MOST = 0.95  # and the most that it should be told to: CUDA, cuDNN and NCCL want some GiB
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_TOO_MUCH = (  # the TPU compiler's messages: what it needs, arguments included, of what there is
    re.compile(r"required for HLO temporaries \(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])\)"),
    re.compile(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm"),
)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device."""

    state: int  # parameters, optimizers, averages; of a sampler its networks
    arguments: int  # the state, the batch and what else the program is given
    temporaries: int  # beside them, at most, while it runs
    peak: int  # arguments, temporaries, results that take the place of no argument, and the program itself
    available: int  # to programs: what a TPU's compiler leaves to them; of what CUDA reports of a GPU `GPU_MOST`
    fits: bool


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What came of compiling a program: a compiled one, or the memory that it would need, or the compiler's error."""

    compiled: Any = None  # a jax.stages.Compiled
    memory: Memory | None = None
    error: str = ""

    @property
    def fits(self) -> bool:
        """Tells whether it compiles and the device has the memory for it."""
        return self.memory is not None and self.memory.fits


def attempt(traced: Traced, machine: Machine, lowered: Any = None, options: Mapping[str, Any] | None = None) -> Attempt:
    """Compiles a program for a machine, and says what it takes there.

    `lowered` is the program where it has been lowered already, `options` are further ones of its compiler.
    """
    state, arguments = device_bytes(traced.state), device_bytes(traced.arguments)
    try:
        compiled = (lowered or traced.program.lower()).compile(options)
    except jax.errors.JaxRuntimeError as error:
        needed = _needed(str(error))
        if needed is None:
            return Attempt(error=str(error).splitlines()[0])
        peak, available = needed
        return Attempt(memory=Memory(state, arguments, peak - arguments, peak, available, fits=False))
    found = compiled.memory_analysis()
    peak = (
        found.argument_size_in_bytes + found.temp_size_in_bytes + found.output_size_in_bytes
        - found.alias_size_in_bytes + found.generated_code_size_in_bytes
    )  # fmt: skip
    is_tpu = machine.chip.platform == "tpu"  # whose compiler refuses what does not fit
    available = machine.chip.memory_bytes if is_tpu else int(GPU_MOST * machine.chip.memory_bytes)
    fits = is_tpu or peak <= available
    return Attempt(
        compiled, Memory(state, found.argument_size_in_bytes, found.temp_size_in_bytes, peak, available, fits)
    )


def _needed(message: str) -> tuple[int, int] | None:
    """Reads the peak, and what there is, from a compiler's message; None where it is about something else."""
    for pattern in _TOO_MUCH:
        if found := pattern.search(message):
            used, unit, limit, limit_unit = found.groups()
            return int(float(used) * _UNITS[unit]), int(float(limit) * _UNITS[limit_unit])
    return None


def device_bytes(tree: Any) -> int:
    """Returns how many bytes of placed shapes lie on one device."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if getattr(leaf, "sharding", None) is not None]
    return sum(int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize for leaf in leaves)


def largest_fitting(fits: Callable[[int], bool], most: int, guess: int = 0) -> int:
    """Returns the largest number up to `most` that fits, 0 if none does, where smaller ones fit if a larger one does.

    It is found by trying, `guess` first.
    """
    low, high = 0, most
    at = guess
    while low < high:
        at = at if low < at <= high else (low + high + 1) // 2
        low, high = (at, high) if fits(at) else (low, at - 1)
        at = low + 1 if low == guess else 0  # beside a good guess
    return low
