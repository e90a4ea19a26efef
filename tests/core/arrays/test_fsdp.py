"""How much of the state each device holds when it is split, for the largest recipe: read from the arrays' shards."""

import functools

import jax
import jax.numpy as jnp
import pytest
from experiments.ddpm_cifar10 import experiment

from imagegen_jax.core.arrays.shard import MeshShape, bytes_per_device
from imagegen_jax.core.experiment import model_row_shapes
from imagegen_jax.core.program import abstract_state
from imagegen_jax.core.reporting.summary import size_in_bytes

pytestmark = pytest.mark.versions


@pytest.mark.slow
def test_eight_devices_hold_a_seventh_to_an_eighth_of_the_state_each():
    mesh = MeshShape(1, 8).build()
    abstract = abstract_state(experiment, model_row_shapes(experiment), mesh, 0)

    @functools.partial(jax.jit, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract))
    def zeros():
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract)

    whole = size_in_bytes(abstract)
    assert whole > 4 * 4 * 35_746_307  # parameters, two moments, one average
    assert 7 < whole / bytes_per_device(zeros()) <= 8
