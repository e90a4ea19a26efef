"""What moves between devices that split the state: parameters and their gradients, nothing of the activations' size."""

import jax
import pytest
from mechanisms import small

import imagegen_jax as ig
from imagegen_jax.machines.programs import training_steps
from imagegen_jax.machines.traffic import traffic_of

NETWORKS = {
    "ddpm_cifar10": {"model.network.width": 32, "model.network.multipliers": (1, 2)},
    "dit_b4_imagenet256": {"model.network.width": 64},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_gathered_and_gradients_added_up(name):
    """Without `rows_stay`, activations are exchanged a hundred times in a U-Net like this, modulation in a DiT."""
    experiment = ig.override(small(name), {"batch_size": 16, "mesh.fsdp": 8, **NETWORKS[name]})
    (step,) = training_steps(experiment, experiment.mesh.build())
    parameters = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(step.state.params))
    moved = {one.kind: one.bytes for one in traffic_of(step.program.lower().compile().as_text()).collectives}
    gathered = moved.pop("all-gather")
    summed = moved.pop("all-reduce", 0) + moved.pop("reduce-scatter", 0)
    assert 0.8 * parameters < gathered < 2.01 * parameters  # for the values, and again for their gradients
    assert parameters * 0.99 < summed < 1.01 * parameters
    assert sum(moved.values()) < 0.01 * parameters, moved
