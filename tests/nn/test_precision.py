"""The recipes' networks in bfloat16, and with accumulated gradients."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import imagegen_jax as ig
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.optim import SGD

pytestmark = pytest.mark.versions

NETWORKS = {
    "dcgan_mnist": ("generator", "discriminator"),
    "ddpm_digits": ("network",),
    "vae_cifar10": ("encoder", "decoder"),
}


def small(name, **changes):
    """A recipe's smoke run under SGD."""
    module = importlib.import_module(f"experiments.{name}")
    value = ig.override(module.experiment, module.smoke | changes)
    optim = {network: SGD(0.1) for network in value.optim}
    return ig.Program(dataclasses.replace(value, optim=optim, mesh=MeshShape(data=1)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_compute_in_bfloat16_leaves_the_rest_in_float32(name):
    dtypes = {f"model.{network}.dtype": "bfloat16" for network in NETWORKS[name]}
    program, halved = small(name), small(name, **dtypes)
    state = program.init()
    after, low = jax.device_get(halved.step(state))
    _, full = jax.device_get(program.step(state))
    assert halved.abstract_state(0) == program.abstract_state(0)  # it starts from the same state
    for leaf in jax.tree.leaves((after.params, after.stats, after.opt, after.ema)):
        assert leaf.dtype in (jnp.float32, jnp.int32)
    for metric, value in low.items():
        assert value.dtype == np.float32
        if metric.endswith("/loss"):
            assert float(value) == pytest.approx(float(full[metric]), rel=0.03, abs=0.03)
    assert any(low[metric] != full[metric] for metric in low)  # it did compute in bfloat16


@pytest.mark.slow
def test_accumulated_gradients_of_the_unet_draw_the_same_noise_and_dropout():
    """With dropout on: the masks, the times and the noise come from the keys of the rows."""
    dropping = {"model.network.dropout": 0.5, "model.network.multipliers": (1,), "model.network.attention_at": (8,)}
    program = small("ddpm_digits", **dropping)
    start = program.init()
    plain, _ = program.step(start)
    parts, _ = small("ddpm_digits", **dropping, microbatches=2).step(start)
    states = jax.device_get((start, plain, parts))
    for before, a, b in zip(*(jax.tree.leaves(state.params) for state in states), strict=True):
        step = np.abs(a - before).max()
        assert np.abs(a - b).max() <= 1e-4 * step + 1e-7
