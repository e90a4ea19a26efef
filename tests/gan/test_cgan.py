"""Conditional GAN: DCGAN's networks but for what they are told of the class, and samples of the classes asked for."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.svm import SVC

import imagegen_jax as ig
from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.model import Inputs
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import Digits
from imagegen_jax.gan import dcgan
from imagegen_jax.gan.cgan import CGAN, Discriminator, Generator, MLPDiscriminator, MLPGenerator
from imagegen_jax.nn.objectives import RelativisticPairing

KEY = jax.random.key(0)
SHAPE = (16, 16, 2)


def tiny(**settings) -> CGAN:
    defaults = {"image_shape": SHAPE, "latent_dim": 6, "num_classes": 3}
    return CGAN(**{**defaults, **settings}, generator=Generator(3, label_dim=4), discriminator=Discriminator(3))


def inputs(labels=(0, 1, 2, 0), key=KEY) -> Inputs:
    image = jnp.tanh(jax.random.normal(jax.random.key(1), (len(labels), *SHAPE)))
    batch = {"image": image, "label": jnp.asarray(labels, jnp.int32)}
    return Inputs(batch, key, jax.random.split(key, len(labels)), jnp.int32(0), {})


@pytest.fixture(scope="module")
def nets():
    return jax.jit(batch_draws(tiny().init))(KEY, inputs().batch)


def answer(network, variables, *arrays, shape=None):
    """What a network makes of arrays once it is trained, by one program."""
    shapes = () if shape is None else (shape,)
    return jax.jit(lambda variables, *arrays: network.apply(variables, *arrays, *shapes, train=False))(
        variables, *arrays
    )


def count(variables) -> int:
    return sum(math.prod(p.shape) for p in jax.tree.leaves(variables["params"]))


# --- what the networks are told --------------------------------------------------------------------------------------


def test_parameters_are_dcgans_and_those_of_the_class():
    """A vector of 4 and its rows of the projection; a map of 16x16 and its kernel of the first convolution."""
    model = tiny()
    batch = {"image": jax.ShapeDtypeStruct((2, *SHAPE), jnp.float32), "label": jax.ShapeDtypeStruct((2,), jnp.int32)}
    found = jax.eval_shape(model.init, KEY, batch)
    plain = dcgan.DCGAN(SHAPE, dcgan.Generator(3), dcgan.Discriminator(3), latent_dim=6)
    wanted = jax.eval_shape(plain.init, KEY, batch)
    assert count(found["generator"]) == count(wanted["generator"]) + 3 * 4 + 4 * (4 * 4 * 6)
    assert count(found["discriminator"]) == count(wanted["discriminator"]) + 3 * 16 * 16 + 4 * 4 * 1 * 3


def test_without_a_class_they_are_dcgans(nets):
    """One-hot rows of zeros join zeros, so that the weights which the class meets do not matter."""
    z, image, none = jax.random.normal(KEY, (4, 6)), inputs().batch["image"], jnp.zeros((4, 3))
    found = answer(tiny().generator, nets["generator"], z, none, shape=SHAPE)
    inner = {name: dict(part["network"]) for name, part in nets["generator"].items()}
    inner["params"]["Dense_0"] = {"kernel": inner["params"]["Dense_0"]["kernel"][:6]}
    np.testing.assert_allclose(found, answer(dcgan.Generator(3), inner, z, shape=SHAPE), atol=1e-6)

    found = answer(tiny().discriminator, nets["discriminator"], image, none)
    inner = {name: dict(part["network"]) for name, part in nets["discriminator"].items()}
    inner["params"]["Halve_0"] = {"conv": {"kernel": inner["params"]["Halve_0"]["conv"]["kernel"][:, :, :2]}}
    np.testing.assert_allclose(found, answer(dcgan.Discriminator(3), inner, image), atol=1e-6)


def test_both_networks_read_the_class(nets):
    model, batch = tiny(), inputs().batch
    same_z = jnp.broadcast_to(jax.random.normal(KEY, (1, 6)), (3, 6))
    made = answer(model.generator, nets["generator"], same_z, jnp.eye(3), shape=SHAPE)
    assert len(np.unique(np.asarray(made).reshape(3, -1), axis=0)) == 3
    image = jnp.broadcast_to(batch["image"][:1], (3, *SHAPE))
    assert len(np.unique(answer(model.discriminator, nets["discriminator"], image, jnp.eye(3)))) == 3


@pytest.mark.slow
def test_the_papers_own_networks():
    """Their parameters, and maxout as the largest of its pieces."""
    model = CGAN((28, 28, 1), MLPGenerator(), MLPDiscriminator())
    image = jnp.tanh(jax.random.normal(KEY, (4, 28, 28, 1)))
    batch = {"image": image, "label": jnp.arange(4)}
    nets = jax.jit(batch_draws(model.init))(KEY, batch)
    assert count(nets["generator"]) == 101 * 200 + 11 * 1000 + 1201 * 1200 + 1201 * 784
    assert count(nets["discriminator"]) == 785 * 1200 + 11 * 250 + 291 * 960 + 241
    for phase in model.phases(None):
        value, aux = jax.jit(phase.loss)(nets, inputs()._replace(batch=batch))
        assert np.isfinite(value) and aux.stats == {phase.trains[0]: {}}

    def maxout(x, name, pieces):
        layer = nets["discriminator"]["params"][name]
        return np.max((x @ layer["kernel"] + layer["bias"]).reshape(4, -1, pieces), axis=-1)

    joint = np.concatenate([maxout(image.reshape(4, -1), "image", 5), maxout(np.eye(10)[:4], "label", 5)], axis=1)
    last = nets["discriminator"]["params"]["logit"]
    wanted = (maxout(joint, "joint", 4) @ last["kernel"] + last["bias"])[:, 0]
    judge = jax.jit(lambda *given: model.discriminator.apply(*given, train=True))
    found = judge(nets["discriminator"], image, jnp.eye(10)[:4])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


# --- phases and samples ----------------------------------------------------------------------------------------------


def test_generated_images_are_of_the_classes_of_the_batch(nets):
    model, given = tiny(), inputs()
    _, aux = jax.jit(model.generator_loss)(nets, given)
    z = model._latents(given.keys)
    by_hand, _ = jax.jit(model._generate)(nets["generator"], z, jax.nn.one_hot(given.batch["label"], 3))
    np.testing.assert_allclose(aux.images, by_hand, atol=1e-6)
    logits, _ = jax.jit(model._discriminate)(nets["discriminator"], by_hand, jax.nn.one_hot(given.batch["label"], 3))
    np.testing.assert_allclose(aux.metrics["fake_logit"], jnp.mean(logits), rtol=1e-5)


@pytest.mark.parametrize("objective", [CGAN().objective, RelativisticPairing()])
def test_losses_follow_the_labels_and_keep_statistics(nets, objective):
    model = tiny(objective=objective)
    for phase in model.phases(None):
        loss = jax.jit(phase.loss)
        value, aux = loss(nets, inputs())
        assert np.isfinite(value) and value != loss(nets, inputs((2, 0, 1, 1)))[0]
        assert tuple(aux.stats) == phase.trains
        assert (aux.images is None) == (phase.name == "discriminator")


def test_samples_are_of_the_classes_asked_for(nets):
    model = tiny()
    sample = jax.jit(model.sample, static_argnums=2)
    found = sample(nets, KEY, 4, {"label": jnp.array([0, 0, 1, 2])})
    assert found.shape == (4, *SHAPE) and found.dtype == jnp.float32
    other = sample(nets, KEY, 4, {"label": jnp.array([0, 1, 1, 2])})
    changed = (found != other).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(changed, [False, True, False, False])


def test_what_cannot_be_is_refused(nets):
    with pytest.raises(ValueError, match="num_classes=3, but the batch has no 'label'"):
        tiny().sample(nets, KEY, 4, {})
    with pytest.raises(ValueError, match="num_classes=3, but the batch has no 'label'"):
        tiny().init(KEY, {"image": jnp.zeros((2, *SHAPE))})
    with pytest.raises(ValueError, match="num_classes=0: must be at least 1"):
        CGAN(num_classes=0)
    with pytest.raises(ValueError, match="16x16x1.*16x16x2"):
        tiny().init(KEY, {"image": jnp.zeros((2, 16, 16, 1)), "label": jnp.zeros(2, jnp.int32)})


@pytest.mark.slow
def test_the_class_starts_small_beside_the_latent():
    """With as large an embedding as the latent, each class soon has one image alone."""
    model = CGAN((16, 16, 1), Generator(8), Discriminator(3))
    batch = {"image": jnp.zeros((2, 16, 16, 1)), "label": jnp.zeros(2, int)}
    nets = jax.jit(batch_draws(model.init))(jax.random.key(0), batch)

    @jax.jit
    def images(z, label):
        one_hot = jax.nn.one_hot(label, 10)
        return model.generator.apply(nets["generator"], z, one_hot, model.image_shape, train=False)

    z, label = jax.random.normal(jax.random.key(1), (64, model.latent_dim)), jnp.arange(64) % 10
    of_latents = jnp.mean(jnp.var(images(z, jnp.zeros_like(label)), axis=0))
    of_classes = jnp.mean(jnp.var(images(jnp.tile(z[:1], (64, 1)), label), axis=0))
    assert 0 < of_classes < 0.1 * of_latents


# --- what is learnt --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.optimised
def test_digits_are_those_asked_for(tmp_path):
    """A classifier of the real 8x8 digits agrees with more than four of five requests; 0.98 when this was written."""
    model = CGAN((8, 8, 1), MLPGenerator(64, 64, 128), MLPDiscriminator(64, 32, 64), latent_dim=16)
    experiment = ig.Experiment(
        name="cgan_digits",
        model=model,
        data=Digits(),
        optim={"generator": Adam(1e-3, b1=0.5), "discriminator": Adam(1e-3, b1=0.5)},
        steps=2_500,
        batch_size=64,
        mesh=MeshShape(data=1),
        log_every=500,
        checkpoint_every=2_500,
        samples=10,
    )
    run = ig.fit(experiment, tmp_path, quiet=True)
    labels = np.arange(500) % 10
    images = run.sample(500, labels, seed=1).reshape(500, -1)
    pixels, digits = load_digits(return_X_y=True)
    assert np.mean(SVC(C=10.0).fit(pixels / 16, digits).predict(images / 255) == labels) > 0.8
    assert len(np.unique(images, axis=0)) == 500
