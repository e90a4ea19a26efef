"""What is known of a step before it is taken: its operations, and the least time that published rates allow.

These are the numbers of `imagegen info EXPERIMENT --machine KIND:N`, here of the very program that is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

KINDS = {  # a device's kind as jax has it -> its name among the machines that are known
    "NVIDIA A100-SXM4-80GB": "a100",  # others of a name (PCIe, NVL, parts by MIG) have other rates
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H200": "h200",
    "NVIDIA B200": "b200",
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
}


def chip(device_kind: str) -> Any:
    """What is published of a device (`machines.Chip`); None where nothing is known of it."""
    from imagegen_jax.machines.machines import CHIPS

    return CHIPS[KINDS[device_kind]] if device_kind in KINDS else None


def operations(function: Callable[..., Any], *arguments: Any) -> float:
    """Floating-point operations in the products of a function, from the shapes of its arguments."""
    from imagegen_jax.machines.cost import flops_of

    return flops_of(jax.make_jaxpr(function)(*arguments))


def bound(compiled: Any, flops: float, of: Any, devices: int) -> dict[str, Any]:
    """The least seconds of a compiled program of `flops` on all of so many chips, and the rate that it waits for.

    Bytes are those of one chip.
    """
    from imagegen_jax.machines.bound import bound_of
    from imagegen_jax.machines.traffic import traffic_of

    moved = traffic_of(compiled.as_text())
    least = bound_of(of, devices, flops, moved.memory_bytes, moved.sent)
    return {"seconds": least.seconds, "by": least.by, "memory_bytes": moved.memory_bytes, "sent_bytes": moved.sent}
