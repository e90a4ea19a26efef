"""CPUs that simulate devices: programs launched faster than they run do not wait for one another for good."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from imagegen_jax.core.platform.simulated import give_threads, simulated_devices

pytestmark = pytest.mark.versions


@pytest.mark.parametrize(
    ("environment", "devices"),
    [
        ({}, 0),
        ({"XLA_FLAGS": "--xla_dump_to=x"}, 0),
        ({"XLA_FLAGS": "--a=1 --xla_force_host_platform_device_count=8"}, 8),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_force_host_platform_device_count=4"}, 4),
        ({"JAX_NUM_CPU_DEVICES": "3"}, 3),
    ],
)
def test_how_many_devices_are_simulated(environment, devices):
    assert simulated_devices(environment) == devices


def test_threads_are_twice_the_devices_unless_their_number_is_chosen():
    environment = {"JAX_NUM_CPU_DEVICES": "1000"}
    give_threads(environment)
    assert environment["PJRT_NPROC"] == "2000"
    chosen = {"JAX_NUM_CPU_DEVICES": "1000", "PJRT_NPROC": "5"}
    give_threads(chosen)
    assert chosen["PJRT_NPROC"] == "5"
    alone = {}
    give_threads(alone)
    assert not alone


def test_hundreds_of_collectives_in_flight_over_eight_devices():
    """Without the threads, each of a few tries of this stands still on jax 0.10.2."""
    program = textwrap.dedent("""
        import imagegen_jax
        import jax
        import numpy as np
        from imagegen_jax.core.arrays.shard import MeshShape, batch_sharding, replicated

        mesh = MeshShape().build()
        rows = jax.device_put(np.ones((64, 64), np.float32), batch_sharding(mesh))
        total = jax.jit(lambda x, i: i * (x @ x.T).sum(), out_shardings=replicated(mesh))
        for _ in range(3):
            print(mesh.size, float(sum(total(rows, float(i)) for i in range(100))))
    """)
    environment = {name: value for name, value in os.environ.items() if name != "PJRT_NPROC"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=100
    )  # fmt: skip
    assert done.stdout.splitlines() == [f"8 {64**3 * 4950.0}"] * 3, done.stderr[-2000:]
