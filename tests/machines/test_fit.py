"""What fits: compilers' messages, and the search for the largest batch."""

import math

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.machines import fit
from imagegen_jax.machines.machines import Chip, Machine
from imagegen_jax.machines.programs import Traced

MESSAGES = {
    "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
    "temporaries (147.03G) exceeds available HBM (15.75G). HLO module: jit_train_step.": (147.03 * 2**30, 15.75),
    "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 21.45G of 15.75G hbm. Exceeded hbm capacity by "
    "5.70G.": (21.45 * 2**30, 15.75),
    "RESOURCE_EXHAUSTED: Used 800.00M of 0.50G hbm": (800 * 2**20, 0.5),
}


@pytest.mark.parametrize("message", MESSAGES)
def test_what_a_compiler_would_need_is_read_from_its_message(message):
    peak, available = fit._needed(message)
    assert (peak, available) == (int(MESSAGES[message][0]), int(MESSAGES[message][1] * 2**30))


def test_other_errors_are_not_about_memory():
    assert fit._needed("INTERNAL: Mosaic failed to compile") is None


@pytest.mark.parametrize("most", [0, 1, 2, 7, 32])
def test_the_largest_that_fits_is_found_whatever_is_guessed(most):
    for limit in range(most + 2):
        for guess in range(most + 3):
            tried = []

            def fits(n, limit=limit, tried=tried):
                tried.append(n)
                return n <= limit

            assert fit.largest_fitting(fits, most, guess) == min(limit, most)
            assert len(set(tried)) == len(tried) <= most.bit_length() + 2 and all(1 <= n <= most for n in tried)


def test_a_good_guess_takes_two_tries():
    tried = []
    assert fit.largest_fitting(lambda n: tried.append(n) or n <= 20, 100, 20) == 20
    assert tried == [20, 21]


def test_bytes_of_a_device_are_those_of_its_part():
    mesh = MeshShape(data=2, fsdp=4).build()
    placed = [
        jax.ShapeDtypeStruct((8, 3), jnp.float32, sharding=NamedSharding(mesh, spec)) for spec in (P(), P("fsdp"))
    ]
    assert fit.device_bytes(placed) == 8 * 3 * 4 + 2 * 3 * 4


def test_a_program_fits_where_a_device_has_its_peak():
    x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    program = jax.jit(lambda x: (x @ x).sum()).trace(x)

    def tried(memory):
        chip = Chip("test", "gpu", 1.0, memory, 1.0, 1.0)
        return fit.attempt(Traced("test", 1, 1.0, program, (), (), 1), Machine(chip, (1,)))

    found = tried(2**30)
    assert found.fits and found.compiled is not None and found.memory.available == int(fit.GPU_MOST * 2**30)
    assert found.memory.arguments == 64 * 64 * 4 and found.memory.peak >= 64 * 64 * 4 + 4
    least = math.ceil(found.memory.peak / fit.GPU_MOST)
    for memory, fits in ((least + 1, True), (found.memory.peak, False), (2**10, False)):
        assert tried(memory).fits == tried(memory).memory.fits == fits and tried(memory).compiled is not None
