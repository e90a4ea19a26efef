"""What is known of a step before it is taken: its operations, and the least time that published rates allow.

These are the numbers of `imagegen info EXPERIMENT --machine KIND:N`, here of the very program that is timed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax

KINDS = {  # what a device's kind begins with, as jax has it -> its name among the machines that are known
    r"NVIDIA A100": "a100",
    r"NVIDIA H100": "h100",
    r"NVIDIA H200": "h200",
    r"NVIDIA B200": "b200",
    r"TPU v4": "v4",
    r"TPU (v5 lite|v5e)": "v5e",
    r"TPU v5": "v5p",
    r"TPU (v6 lite|v6e)": "v6e",
}


def chip(device_kind: str) -> Any:
    """What is published of a device (`machines.Chip`); None where nothing is known of it."""
    from imagegen_jax.machines.machines import CHIPS

    return next((CHIPS[name] for pattern, name in KINDS.items() if re.match(pattern, device_kind)), None)


def operations(function: Callable[..., Any], *arguments: Any) -> float:
    """Floating-point operations in the products of a function, from the shapes of its arguments."""
    from imagegen_jax.machines.cost import flops_of

    return flops_of(jax.make_jaxpr(function)(*arguments))


def bound(compiled: Any, flops: float, of: Any, devices: int) -> dict[str, Any]:
    """The least seconds of a compiled program of `flops` on so many chips, and the rate that it waits for."""
    from imagegen_jax.machines import hlo, traffic
    from imagegen_jax.machines.bound import bound_of
    from imagegen_jax.machines.machines import Machine

    module = hlo.parse(compiled.as_text())
    moved, sent = traffic.memory_bytes(module), sum(one.sent for one in traffic.collectives(module))
    least = bound_of(Machine(of, (devices,)), devices, flops, moved, sent)
    return {"seconds": least.seconds, "by": least.by, "memory_bytes": moved, "sent_bytes": sent}
