"""Properties of every GAN, each listed once with tiny networks: what moves an image, and what a phase may change."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.model import Inputs
from imagegen_jax.gan import biggan_networks, dcgan, losses, sngan
from imagegen_jax.gan.biggan import BigGAN
from imagegen_jax.gan.biggan_deep import DeepDiscriminator, DeepGenerator
from imagegen_jax.gan.dcgan import DCGAN
from imagegen_jax.gan.sngan import SNGAN

SHAPE, ROWS, KEY = (8, 8, 2), 6, jax.random.key(0)
small = {"width": 4, "multipliers": (1, 1)}
player = {**small, "halvings": 1}

GANS = {
    "dcgan": DCGAN(SHAPE, dcgan.Generator(4), dcgan.Discriminator(4), 5),
    "sngan": SNGAN(SHAPE, sngan.Generator(**small), sngan.Discriminator(**player), 5, generator_batches=2),
    "sngan_acgan": SNGAN(
        SHAPE, sngan.Generator(**small), sngan.Discriminator(**player, labels="acgan"), 5, num_classes=3
    ),
    "sagan": SNGAN(
        SHAPE,
        sngan.Generator(**small, spectral=True, attention=8),
        sngan.Discriminator(**player, attention=4),
        5,
        num_classes=3,
    ),
    "biggan": BigGAN(
        SHAPE,
        biggan_networks.Generator(**small, shared_dim=4, attention=8, start="normal"),
        biggan_networks.Discriminator(**player, attention=4, start="normal"),
        latent_dim=6,
        num_classes=3,
    ),
    "biggan_deep": BigGAN(
        SHAPE,
        DeepGenerator(**small, shared_dim=4, attention=8),
        DeepDiscriminator(**player, attention=4),
        latent_dim=6,
        num_classes=3,
    ),
}
SLOW = ("sagan", "biggan", "biggan_deep")  # to compile
CONDITIONAL = [name for name, model in GANS.items() if getattr(model, "num_classes", 0)]
OBJECTIVES = losses.Objective.__args__


def each(names):
    return pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in names])


every_gan, every_conditional_gan = each(GANS), each(CONDITIONAL)


def batch(name):
    labels = {"label": jnp.arange(ROWS) % 3} if name in CONDITIONAL else {}
    return {"image": jnp.tanh(jax.random.normal(jax.random.key(7), (ROWS, *SHAPE))), **labels}


def inputs(name):
    return Inputs(batch(name), KEY, jax.random.split(KEY, ROWS), jnp.int32(0), {})


@functools.cache
def networks(name):
    return jax.jit(GANS[name].init)(KEY, batch(name))


@functools.cache
def sampler(name):
    return jax.jit(GANS[name].sample, static_argnums=2)


@functools.cache
def stepped(name, phase_name):
    """(phase, loss, aux, loss after a small step down the gradient)"""
    (phase,) = [phase for phase in GANS[name].phases(None) if phase.name == phase_name]
    nets, given = networks(name), inputs(name)

    def loss(params):
        held = {n: {**variables, "params": params.get(n, variables["params"])} for n, variables in nets.items()}
        return phase.loss(held, given)

    descend = jax.jit(jax.value_and_grad(loss, has_aux=True))
    params = {n: nets[n]["params"] for n in phase.trains}
    (value, aux), gradient = descend(params)
    length = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))
    (after, _), _ = descend(jax.tree.map(lambda p, g: p - 1e-3 * g / length, params, gradient))
    return phase, value, aux, after


def labels(name, k=0):
    return {"label": jnp.full(4, k)} if name in CONDITIONAL else {}


@every_gan
def test_latents_change_the_image_and_the_key_decides_them(name):
    sample, nets = sampler(name), networks(name)
    one, again, other = (sample(nets, jax.random.key(k), 4, labels(name)) for k in (0, 0, 1))
    assert one.shape == (4, *SHAPE) and one.dtype == jnp.float32 and abs(one).max() <= 1
    np.testing.assert_array_equal(one, again)
    assert (abs(one - other).max(axis=(1, 2, 3)) > 1e-6).all()
    assert abs(one[0] - one[1]).max() > 1e-6


@every_conditional_gan
def test_label_changes_the_image(name):
    """Once scales and biases have left the start, at which SNGAN's are the same for all classes."""
    nets = networks(name)
    moved = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(KEY, p.shape), nets["generator"]["params"])
    nets = {**nets, "generator": {**nets["generator"], "params": moved}}
    one, other = (sampler(name)(nets, KEY, 4, labels(name, k)) for k in (0, 1))
    assert (abs(one - other).max(axis=(1, 2, 3)) > 1e-4).all()


@every_conditional_gan
def test_labels_are_asked_for(name):
    with pytest.raises(ValueError, match="label"):
        GANS[name].sample(networks(name), KEY, 4, {})
    with pytest.raises(ValueError, match="label"):
        GANS[name].init(KEY, {"image": jnp.zeros((2, *SHAPE))})


@every_gan
@pytest.mark.parametrize("phase", ["discriminator", "generator"])
def test_a_phase_changes_its_own_network_alone(name, phase):
    """Statistics come back for what it trains, in the structure and dtypes of the ones given; each kind has moved."""
    phase, _, aux, _ = stepped(name, phase)
    held = {c: v for c, v in networks(name)[phase.name].items() if c != "params"}
    assert phase.trains == (phase.name,) and set(aux.stats) == {phase.name}
    assert jax.tree.map(jax.typeof, aux.stats[phase.name]) == jax.tree.map(jax.typeof, held)
    for collection, before in held.items():
        after = aux.stats[phase.name][collection]
        assert any((a != b).any() for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True))


@every_gan
@pytest.mark.parametrize("phase", ["discriminator", "generator"])
def test_a_step_down_the_gradient_lowers_the_loss(name, phase):
    _, before, aux, after = stepped(name, phase)
    assert after < before
    assert float(aux.metrics["loss"]) == float(before)


@every_gan
def test_a_phase_shows_what_was_generated(name):
    images = stepped(name, "generator")[2].images
    assert images.shape == (ROWS * getattr(GANS[name], "generator_batches", 1), *SHAPE)


@every_gan
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_any_objective(name, objective):
    fields = {n: getattr(GANS[name], n) for n in GANS[name].__dataclass_fields__}
    model = type(GANS[name])(**{**fields, "objective": objective()})
    for phase in model.phases(None):
        value, _ = jax.eval_shape(phase.loss, networks(name), inputs(name))
        assert (value.shape, value.dtype) == ((), jnp.float32)
