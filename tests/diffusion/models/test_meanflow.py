"""MeanFlow on normal data, whose mean velocity is known, and on what its parts have to be."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.arrays.space import Latents, Pixels
from imagegen_jax.core.model import Inputs
from imagegen_jax.diffusion.models.meanflow import MeanFlow
from imagegen_jax.diffusion.process.times import Uniform
from imagegen_jax.editing.denoiser import denoising_model
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.dit import DiT

KEY = jax.random.key(0)
SHAPE = (2, 2, 1)
STD = 0.5


@dataclasses.dataclass(frozen=True)
class Exact:
    """u = z_t (1 - sigma_r / sigma_t) / (t - r) for data of N(0, STD^2), sigma_t^2 = (1 - t)^2 STD^2 + t^2; scaled."""

    scale: float = 1.0

    def clone(self, attention):
        return self

    def apply(self, variables, z, t, conditioning):
        def variance(t):
            return (1 - t) ** 2 * STD**2 + t**2

        span = conditioning.span
        small = span < 1e-3  # there the velocity itself, sigma' / sigma z
        r = t - jnp.where(small, 0.5, span)
        mean = (1 - jnp.sqrt(variance(r) / variance(t))) / jnp.where(small, 0.5, span)
        now = (t - (1 - t) * STD**2) / variance(t)
        return self.scale * jnp.where(small, now, mean)[:, None, None, None] * z


def inputs(image, **leaves):
    return Inputs({"image": image, **leaves}, KEY, jax.random.split(KEY, len(image)), jnp.int32(0), {})


def normal(rows):
    return STD * jax.random.normal(jax.random.key(5), (rows, *SHAPE))


@pytest.mark.slow
@pytest.mark.parametrize("same_share", [0.0, 1.0])
def test_the_exact_mean_velocity_is_where_the_gradient_vanishes(same_share):
    """Without the adaptive weight the target's mean is u itself, so that no other scale of u is better."""
    model = MeanFlow(Exact(), SHAPE, 0, 0.0, Uniform(0.05, 1.0), same_share, power=0.0)
    given = inputs(normal(40_000))

    def loss(scale):
        return dataclasses.replace(model, network=Exact(scale)).loss({"network": {}}, given)[0]

    at_best, beside = jax.grad(loss)(1.0), jax.grad(loss)(1.1)
    assert abs(float(at_best)) < 0.1 * abs(float(beside))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_samples_of_the_exact_mean_velocity_have_the_datas_deviation(steps):
    model = MeanFlow(Exact(), SHAPE, 0, 0.0, steps=steps)
    drawn = model.sample({"network": {}}, KEY, 2_000, {})
    noise = jax.random.normal(KEY, drawn.shape)
    np.testing.assert_allclose(drawn, jnp.clip(STD * noise, -1, 1), atol=1e-4)


@pytest.mark.parametrize("space", [Pixels(), Latents(4.0)], ids=str)
def test_its_denoiser_is_the_best_one(space):
    """E[x_0 | x] = STD^2 / (STD^2 + sigma^2) x of what the network knows, which is what the space makes of data."""
    model, std = MeanFlow(Exact(), SHAPE, 0, 0.0, space=space), STD
    x, sigma = normal(3), jnp.array([0.01, 0.5, 20.0])
    expected = (std**2 / (std**2 + sigma**2))[:, None, None, None] * x
    np.testing.assert_allclose(model.denoiser({"network": {}}, {})(x, sigma), expected, atol=1e-5)


def test_its_path_leads_where_its_means_do():
    """Along the velocity in 50 steps as in one of the mean velocity, from noise that ends up within [-1, 1]."""
    model = MeanFlow(Exact(), SHAPE, 0, 0.0, space=Latents(4.0))
    assert denoising_model(model).path.sigmas[0] == pytest.approx(1e5, rel=1e-4)
    drawn = model.path.draw(model.denoiser({"network": {}}, {}), (2_000, *SHAPE), KEY)
    assert float(drawn.std()) == pytest.approx(STD, rel=0.05)


def test_the_weight_makes_every_error_count_alike():
    model = MeanFlow(Exact(3.0), SHAPE, 0, 0.0, Uniform(0.3, 1.0), floor=1e-6)
    loss, aux = model.loss({"network": {}}, inputs(normal(64)))
    assert float(loss) == pytest.approx(1, abs=1e-3) and float(aux.metrics["error"]) > 0.1


def test_times_are_ordered_and_often_the_same():
    t, span = MeanFlow()._two_times(jax.random.split(KEY, 4_000))
    assert ((span >= 0) & (span <= t) & (t <= 1)).all()
    assert float(jnp.mean(span == 0)) == pytest.approx(0.75, abs=0.03)


@pytest.fixture(scope="module")
def small():
    network = DiT(patch=2, depth=1, width=16, heads=2)
    model = MeanFlow(network, (4, 4, 1), 3, 0.5, guidance=2.0, mixing=0.25)
    nets = jax.jit(batch_draws(model.init))(KEY, {"image": jnp.zeros((1, 4, 4, 1)), "label": jnp.zeros(1, jnp.int32)})
    leaves, tree = jax.tree.flatten(nets)  # a new network puts out 0
    keys = jax.random.split(KEY, len(leaves))
    moved = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return model, jax.tree.unflatten(tree, moved)


@pytest.mark.slow
def test_guided_velocity_is_the_papers(small):
    """omega v + kappa u(c) + (1 - omega - kappa) u(), both at r = t."""
    model, nets = small
    z, t, v = normal(2).repeat(2, 1).repeat(2, 2), jnp.array([0.2, 0.9]), jnp.ones((2, 4, 4, 1))
    labels = jax.nn.one_hot(jnp.array([0, 2]), 3)
    told = [Conditioning(rows, span=0 * t) for rows in (labels, jnp.zeros((2, 3)))]
    conditional, free = (model.network.apply(nets["network"], z, t, one) for one in told)
    found = model._guide(nets, z, t, v, Conditioning(labels))
    np.testing.assert_allclose(found, 2 * v + 0.25 * conditional - 1.25 * free, atol=1e-5)
    assert float(jnp.abs(conditional - free).max()) > 1e-3


@pytest.mark.slow
def test_a_gradient_reaches_every_weight(small):
    model, nets = small
    batch = inputs(jnp.tile(normal(8), (1, 2, 2, 1)), label=jnp.arange(8) % 3)
    gradient = jax.jit(jax.grad(lambda nets: model.loss(nets, batch)[0]))(nets)
    for path, leaf in jax.tree.leaves_with_path(gradient):
        assert jnp.isfinite(leaf).all() and float(jnp.abs(leaf).max()) > 0, jax.tree_util.keystr(path)


def test_what_cannot_be_is_refused():
    for changes, words in [
        ({"same_share": 1.5}, "model.same_share=1.5"),
        ({"mixing": 1.0}, "model.mixing=1.0"),
        ({"steps": 0}, "model.steps=0"),
        ({"guidance": 2.0, "label_dropout": 0.0}, "nothing to guide by"),
    ]:
        with pytest.raises(ValueError, match=words):
            MeanFlow(**changes)
