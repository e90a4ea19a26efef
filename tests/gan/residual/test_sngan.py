"""SNGAN and SAGAN: published sizes, the projection, the auxiliary classifier, attention, and what a step iterates."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.model import Inputs
from imagegen_jax.core.step import due_at
from imagegen_jax.gan.residual import conditional
from imagegen_jax.gan.residual.conditional import Head, Judgement, SelfAttention
from imagegen_jax.gan.residual.sngan import SNGAN, Discriminator, Generator
from imagegen_jax.nn.objectives import Hinge, RelativisticPairing

KEY = jax.random.key(0)


def tiny(**settings) -> SNGAN:
    defaults = {
        "image_shape": (8, 8, 2),
        "generator": Generator(4, (1, 1)),
        "discriminator": Discriminator(4, (1, 1), halvings=1),
        "latent_dim": 5,
        "num_classes": 3,
    }
    return SNGAN(**{**defaults, **settings})


def inputs(n=4, shape=(8, 8, 2)) -> Inputs:
    image = jnp.tanh(jax.random.normal(jax.random.key(1), (n, *shape)))
    keys = jax.random.split(KEY, n)
    return Inputs({"image": image, "label": jnp.arange(n) % 3}, KEY, keys, jnp.int32(0), {})


def counts(model) -> tuple[int, int]:
    image = jax.ShapeDtypeStruct((2, *model.image_shape), jnp.float32)
    nets = jax.eval_shape(model.init, KEY, {"image": image, "label": jax.ShapeDtypeStruct((2,), jnp.int32)})
    count = {name: sum(math.prod(p.shape) for p in jax.tree.leaves(v["params"])) for name, v in nets.items()}
    return count["generator"], count["discriminator"]


# --- sizes -----------------------------------------------------------------------------------------------------------

SAGAN = {"generator": Generator(spectral=True, attention=16), "discriminator": Discriminator(attention=16)}


@pytest.mark.parametrize(
    ("settings", "published"),
    [
        ({}, (4_276_739, 1_053_825)),  # pfnet-research/sngan_projection, whose last layer has no bias
        ({"num_classes": 10}, (4_304_387, 1_055_105)),  # StudioGAN
        ({"num_classes": 10, **SAGAN}, (4_386_308, 1_075_586)),  # StudioGAN
    ],
)
def test_published_parameter_counts(settings, published):
    assert counts(SNGAN(**settings)) == published


@pytest.mark.slow
@pytest.mark.parametrize(("wide", "discriminator"), [(True, 39_443_137), (False, 30_041_857)])
def test_published_parameter_counts_at_128(wide, discriminator):
    """As StudioGAN logs them; within blocks, the discriminator of sngan_projection is narrower: counted by hand."""
    networks = Generator(64, (16, 16, 8, 4, 2, 1)), Discriminator(64, (1, 2, 4, 8, 16, 16), halvings=5, wide=wide)
    assert counts(SNGAN((128, 128, 3), *networks, num_classes=1000)) == (41_996_931, discriminator)


def test_auxiliary_classifier_has_a_row_and_a_bias_for_each_class():
    classifier = SNGAN(num_classes=10, discriminator=Discriminator(labels="acgan"))
    assert counts(classifier)[1] == 1_053_825 + 10 * 128 + 10
    assert counts(SNGAN(num_classes=10, discriminator=Discriminator(labels="none")))[1] == 1_053_825


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (33, 70, 4), (48, 48, 3)])
def test_every_size(shape):
    model = tiny(image_shape=shape, generator=Generator(4, (2, 2, 1)), discriminator=Discriminator(4, (1, 2, 2)))
    batch = {"image": jnp.zeros((2, *shape)), "label": jnp.zeros(2, jnp.int32)}
    nets = jax.eval_shape(model.init, KEY, batch)
    sample = jax.eval_shape(lambda nets: model.sample(nets, KEY, 2, {"label": batch["label"]}), nets)
    assert (sample.shape, sample.dtype) == ((2, *shape), jnp.float32)
    for phase in model.phases(None):
        loss, _ = jax.eval_shape(phase.loss, nets, Inputs(batch, KEY, jax.random.split(KEY, 2), jnp.int32(0), {}))
        assert (loss.shape, loss.dtype) == ((), jnp.float32)


@pytest.mark.slow
def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="latent_dim=0"):
        tiny(latent_dim=0)
    with pytest.raises(ValueError, match="discriminator_steps=0"):
        tiny(discriminator_steps=0)
    with pytest.raises(ValueError, match="num_classes=-1"):
        tiny(num_classes=-1)
    with pytest.raises(ValueError, match="8x8: too small to be halved 4 times"):
        tiny(generator=Generator(4, (1,) * 5)).init(KEY, inputs().batch)
    with pytest.raises(ValueError, match=r"attention=16.*\[8\]"):
        tiny(generator=Generator(4, (1, 1), attention=16)).init(KEY, inputs().batch)
    with pytest.raises(ValueError, match=r"attention=8.*\[4\]"):
        tiny(discriminator=Discriminator(4, (1, 1), halvings=1, attention=8)).init(KEY, inputs().batch)
    with pytest.raises(ValueError, match="8x8x1.*8x8x2"):
        tiny().init(KEY, inputs(shape=(8, 8, 1)).batch)


# --- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_projection_adds_the_product_with_the_labels_row():
    head, h = Head(), jax.random.normal(KEY, (5, 7))
    variables = head.init(KEY, h, jnp.zeros(5, jnp.int32), 3)
    table = variables["params"]["embed"]["embedding"]
    vectors = variables["spectral"]["embed"]
    table = np.asarray(table / (vectors["u"] @ table @ vectors["v"]))
    logits = [head.apply(variables, h, jnp.full(5, k), 3).logits for k in range(3)]
    np.testing.assert_allclose(logits[1] - logits[0], h @ (table[1] - table[0]), rtol=1e-4, atol=1e-5)
    alone = head.apply(variables, h, None, 0)
    np.testing.assert_allclose(logits[2] - alone.logits, h @ table[2], rtol=1e-4, atol=1e-5)
    assert alone.classes is None


@pytest.mark.slow
def test_self_attention_is_nothing_at_first_and_then_what_the_paper_says():
    layer, x = SelfAttention(), jax.random.normal(KEY, (2, 4, 6, 16))
    variables = layer.init(KEY, x)
    np.testing.assert_array_equal(layer.apply(variables, x), x)
    found = layer.apply({**variables, "params": {**variables["params"], "gamma": jnp.float32(0.7)}}, x)

    def mapped(name, x):
        kernel, vectors = variables["params"][name]["kernel"][0, 0], variables["spectral"][name]
        return x @ (kernel / (vectors["v"] @ kernel @ vectors["u"]))

    def pooled(x):
        return x.reshape(2, 2, 2, 3, 2, -1).max(axis=(2, 4)).reshape(2, 6, -1)

    keys, values = pooled(mapped("key", x)), pooled(mapped("value", x))
    scores = np.asarray(mapped("query", x).reshape(2, 24, -1) @ keys.transpose(0, 2, 1))
    weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    expected = x + 0.7 * mapped("out", (weights @ values).reshape(2, 4, 6, -1))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_attention_of_narrow_and_odd_features():
    x = jnp.ones((1, 5, 3, 2))
    assert SelfAttention().init_with_output(KEY, x)[0].shape == x.shape


@pytest.mark.slow
def test_rows_joined_are_parted_again():
    real, fake = jnp.arange(12.0).reshape(4, 3), -jnp.arange(12.0).reshape(4, 3)
    both = Judgement(conditional.together(real, fake), conditional.together(fake, real))
    first, second = conditional.apart(both)
    np.testing.assert_array_equal([first.logits, second.logits], [real, fake])
    np.testing.assert_array_equal(first.classes, fake)


# --- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_auxiliary_classifiers_losses():
    """With equal logits for 4 classes each image costs log 4, real and generated alike."""
    even = Judgement(jnp.zeros(3), jnp.zeros((3, 4)))
    labels = jnp.array([0, 1, 2])
    loss, metrics = conditional.discriminator_loss(Hinge(), even, labels, even, labels)
    np.testing.assert_allclose(loss, 2 + 2 * math.log(4), rtol=1e-6)
    np.testing.assert_allclose(metrics["class_accuracy"], 1 / 3, rtol=1e-6)
    loss, metrics = conditional.generator_loss(Hinge(), even, labels, None)
    np.testing.assert_allclose([loss, metrics["class_loss"]], math.log(4), rtol=1e-6)


def test_generator_is_due_after_the_discriminators_steps():
    phases = tiny().phases(None)
    due = [due_at(phases, step) for step in range(10)]
    assert due.count(("discriminator",)) == 8 and due[4] == due[9] == ("discriminator", "generator")


@pytest.mark.slow
def test_latents_and_classes_follow_the_key_of_the_row():
    keys = jax.random.split(KEY, 3000)
    z, labels = conditional.draw(keys, 2, 3)
    np.testing.assert_array_equal(labels[2:5], conditional.draw(keys[2:5], 2, 3)[1])
    np.testing.assert_allclose(jnp.bincount(labels, length=3) / 3000, 1 / 3, atol=0.04)
    assert abs(z.std() - 1) < 0.03
    assert abs(jnp.corrcoef(z[:, 0], labels)[0, 1]) < 0.06
    assert conditional.draw(keys[:2], 2, 0)[1] is None


@pytest.mark.slow
def test_discriminator_iterates_once_a_step_and_the_generators_step_leaves_it():
    model, given = tiny(), inputs()
    nets = model.init(KEY, given.batch)
    _, aux = model.discriminator_loss(nets, given)
    old, new = (tree["spectral"]["head"]["project"] for tree in (nets["discriminator"], aux.stats["discriminator"]))
    kernel = nets["discriminator"]["params"]["head"]["project"]["kernel"]
    u = old["v"] @ kernel
    v = kernel @ (u / jnp.linalg.norm(u))
    np.testing.assert_allclose(new["v"], v / jnp.linalg.norm(v), atol=1e-6)
    assert "discriminator" not in model.generator_loss(nets, given)[1].stats


def test_unconditional_model_does_not_read_labels():
    model, given = tiny(num_classes=0), inputs()
    nets = jax.eval_shape(model.init, KEY, {"image": given.batch["image"]})
    assert "embed" not in nets["discriminator"]["params"]["head"]
    bare = given._replace(batch={"image": given.batch["image"]})
    for phase in model.phases(None):
        jax.eval_shape(phase.loss, nets, bare)
    jax.eval_shape(lambda nets: model.sample(nets, KEY, 2, {}), nets)


def test_generator_may_draw_more_rows_than_there_are_real_ones():
    model, given = tiny(generator_batches=3, objective=RelativisticPairing()), inputs()
    nets = jax.eval_shape(model.init, KEY, given.batch)
    _, aux = jax.eval_shape(model.generator_loss, nets, given)
    assert aux.images.shape == (12, 8, 8, 2)


def test_sampling_reads_the_running_statistics():
    """An image does not depend on the others drawn with it."""
    model, labels = tiny(), np.array([0, 1, 2, 0])
    nets = jax.jit(batch_draws(model.init))(KEY, inputs().batch)
    z = np.asarray(jax.random.normal(KEY, (4, 5)))[1:2]

    def generate(nets, z):
        return model.generator.apply(nets["generator"], z, labels[1:2], model.image_shape, 3, train=False)

    together = jax.jit(lambda nets: model.sample(nets, KEY, 4, {"label": labels}))(nets)
    np.testing.assert_allclose(together[1:2], jax.jit(generate)(nets, z), atol=1e-6)
