"""Threads for CPUs that simulate several devices: with too few, such a process stops for good now and then."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping


def give_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Gives XLA's CPU client threads for all simulated devices, where its user has not chosen their number.

    To be called before jax starts its devices. The client runs programs on as many threads as there are cores or
    devices. A collective keeps one thread for each device until all devices have come to it, and a launch keeps one for
    each device that has 32 programs in flight. Where programs are launched faster than they run, launches thus take
    the threads that a collective waits for: XLA ends the process after a minute ("This thread has been waiting for").
    With twice as many threads as devices there is always one left.
    """
    devices = simulated_devices(environment)
    if devices > 1:
        environment.setdefault("PJRT_NPROC", str(max(os.cpu_count() or 1, 2 * devices)))


def simulated_devices(environment: MutableMapping[str, str]) -> int:
    """Returns how many devices the CPU is to simulate, by XLA_FLAGS or JAX_NUM_CPU_DEVICES; 0 where neither says."""
    flag = re.findall(r"--xla_force_host_platform_device_count=(\d+)", environment.get("XLA_FLAGS", ""))
    number = environment.get("JAX_NUM_CPU_DEVICES", "")
    return max([0, *map(int, flag[-1:]), *([int(number)] if number.isdecimal() else [])])
