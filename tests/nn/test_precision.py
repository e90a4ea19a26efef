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

pytestmark = [pytest.mark.hasty, pytest.mark.versions]

NETWORKS = {
    "dcgan_mnist": ("generator", "discriminator"),
    "ddpm_digits": ("network",),
    "vae_cifar10": ("encoder", "decoder"),
}


def one_step(name, **changes):
    """The state before and after a step of a recipe's smoke run under SGD, and its metrics."""
    module = importlib.import_module(f"experiments.{name}")
    value = ig.override(module.experiment, module.smoke | changes)
    optim = {network: SGD(0.1) for network in value.optim}
    program = ig.Program(dataclasses.replace(value, optim=optim, mesh=MeshShape(data=1)))
    state = program.init()
    after, metrics = program.step(state)
    return jax.device_get((state, after, metrics))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_compute_in_bfloat16_leaves_the_rest_in_float32(name):
    dtypes = {f"model.{network}.dtype": "bfloat16" for network in NETWORKS[name]}
    _, after, low = one_step(name, **dtypes)
    _, _, full = one_step(name)
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
    start, plain, _ = one_step("ddpm_digits", **{"model.network.dropout": 0.5})
    _, parts, _ = one_step("ddpm_digits", **{"model.network.dropout": 0.5, "microbatches": 2})
    for before, a, b in zip(*(jax.tree.leaves(state.params) for state in (start, plain, parts)), strict=True):
        step = np.abs(a - before).max()
        assert np.abs(a - b).max() <= 1e-4 * step + 1e-7
