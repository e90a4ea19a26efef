"""DDPM: its loss, its classes, its samples."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.model import Inputs, Model
from imagegen_jax.diffusion.models.ddpm import DDPM
from imagegen_jax.diffusion.sampling.discrete_time import DDIM
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule

# Random numbers take most of the time to compile, six times less so without optimization.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

NETWORK = UNet(width=8, multipliers=(1, 2), blocks=1, attention_at=(), dropout=0.2)
MODEL = DDPM(NETWORK, LinearSchedule(100), DDIM(5), image_shape=(4, 4, 1), num_classes=3)


@pytest.fixture(scope="module")
def batch():
    image = jax.random.uniform(jax.random.key(3), (64, 4, 4, 1), minval=-1)
    return {"image": image, "label": jnp.arange(64) % 3}


@pytest.fixture(scope="module")
def nets(batch):
    return jit(batch_draws(MODEL.init))(jax.random.key(0), batch)


def inputs(batch, seed=5):
    key = jax.random.key(seed)
    return Inputs(batch, key, jax.random.split(key, len(batch["image"])), jnp.array(0), {})


def test_it_is_a_model_with_the_papers_network():
    assert isinstance(MODEL, Model)
    nets = jax.eval_shape(DDPM().init, jax.random.key(0), {"image": jnp.zeros((1, 32, 32, 3))})
    assert sum(leaf.size for leaf in jax.tree.leaves(nets)) == 35_746_307


@pytest.mark.slow
def test_initial_loss_is_the_noises_variance(nets, batch):
    """The first network puts out zero, so the loss is the mean of epsilon^2: 1, here within 4 of its deviations."""
    loss, _ = jit(MODEL.loss)(nets, inputs(batch))
    assert abs(loss - 1) < 4 * np.sqrt(2 / 1024)


@pytest.mark.slow
def test_loss_of_a_batch_is_the_mean_of_its_rows(nets, batch):
    """So accumulated gradients are those of the batch: time, noise and dropout follow the row's own key."""
    nets = jax.tree.map(lambda leaf: leaf + 0.1, nets)
    whole = inputs(batch)
    rows = jax.tree.map(lambda leaf: leaf.reshape(16, 4, *leaf.shape[1:]), (whole.batch, whole.keys))
    loss = jit(lambda batch, keys: MODEL.loss(nets, whole._replace(batch=batch, keys=keys))[0])
    parts = [loss(*jax.tree.map(lambda leaf, i=i: leaf[i], rows)) for i in range(16)]
    assert np.std(parts) > 0.01
    np.testing.assert_allclose(np.mean(parts), loss(whole.batch, whole.keys), rtol=1e-5)


def test_loss_of_a_network_that_knows_the_noise_is_zero(batch):
    """A stand-in network solves Eq. 4 for epsilon: only if x_t and t are what the paper says is there no loss."""
    alpha_bar = jnp.asarray(MODEL.schedule.alpha_bar, jnp.float32)

    class Oracle:
        @staticmethod
        def apply(variables, x_t, t, conditioning):
            np.testing.assert_array_equal(conditioning.labels.argmax(-1), batch["label"])
            a = alpha_bar[t][:, None, None, None]
            return (x_t - jnp.sqrt(a) * batch["image"]) / jnp.sqrt(1 - a)

    loss, _ = DDPM(Oracle(), MODEL.schedule, image_shape=(4, 4, 1), num_classes=3).loss({"network": {}}, inputs(batch))
    assert loss < 1e-8


@pytest.mark.slow
def test_samples(nets):
    nets = jax.tree.map(lambda leaf: leaf + 0.05, nets)
    sample = jit(lambda key, label: MODEL.sample(nets, key, 6, {"label": label}))
    label = jnp.array([0, 0, 1, 1, 2, 2])
    x = sample(jax.random.key(0), label)
    assert x.shape == (6, 4, 4, 1) and x.dtype == jnp.float32
    assert jnp.abs(x).max() <= 1 and jnp.std(x) > 0.1
    np.testing.assert_array_equal(x, sample(jax.random.key(0), label))
    assert jnp.abs(x - sample(jax.random.key(1), label)).max() > 0.1
    other = sample(jax.random.key(0), jnp.zeros(6, int))
    np.testing.assert_array_equal(x[:2], other[:2])
    assert jnp.all(jnp.abs(x - other)[2:].max(axis=(1, 2, 3)) > 1e-4)


def test_what_does_not_fit_is_refused(batch):
    key, image = jax.random.key(0), batch["image"]
    with pytest.raises(ValueError, match=r"4x4x1 .*model.image_shape=32x32x3"):
        DDPM().init(key, batch)
    with pytest.raises(ValueError, match="model.num_classes=3, but the batch has no 'label'"):
        MODEL.init(key, {"image": image})
    with pytest.raises(ValueError, match="no 'label'"):
        MODEL.sample({}, key, 2, {})
    with pytest.raises(ValueError, match="4x4 cannot be halved 3 times"):
        DDPM(image_shape=(4, 4, 1)).init(key, batch)
