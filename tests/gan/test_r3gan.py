"""R3GAN: published parameter counts, its blocks by hand, what its phases do, and grouped convolutions."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from latent_models import filled

from imagegen_jax.core.model import Inputs
from imagegen_jax.gan.grouped import _by_shifts, grouped_convolve
from imagegen_jax.gan.r3gan import R3GAN, Block, Discriminator, Generator, Stages

KEY = jax.random.key(0)
SMALL = Stages((8, 4), (2, 2), (1, 2))
FFHQ = Stages((768, 768, 768, 768, 384, 192, 96), (96, 96, 96, 96, 48, 24, 12), (2,) * 7)
IMAGENET = Stages((1536,) * 5, (96,) * 5, (2,) * 5)


def small(**settings) -> R3GAN:
    return R3GAN((8, 8, 3), 3, Generator(SMALL, 4), Discriminator(SMALL, 5), 6, gamma_steps=10, **settings)


def batch_of(model: R3GAN, n: int = 4) -> dict:
    return {"image": jax.random.uniform(KEY, (n, *model.image_shape), minval=-1), "label": jnp.arange(n) % 3}


def inputs(batch, step=0) -> Inputs:
    n = len(batch["image"])
    return Inputs(batch, KEY, jax.random.split(KEY, n), jnp.int32(step), {})


@pytest.mark.parametrize(
    ("model", "generator", "discriminator"),
    [
        (R3GAN(num_classes=10), 20_781_952, 21_280_512),
        (R3GAN((256, 256, 3), 0, Generator(FFHQ), Discriminator(FFHQ)), 23_057_952, 23_009_568),
        (R3GAN((64, 64, 3), 1000, Generator(IMAGENET), Discriminator(IMAGENET, 1536)), 103_570_432, 107_205_120),
    ],
    ids=["CIFAR-10", "FFHQ-256", "ImageNet-64"],
)
def test_sizes_are_the_published_ones(model, generator, discriminator):
    batch = {"image": jax.ShapeDtypeStruct((2, *model.image_shape), jnp.float32), "label": jnp.zeros(2, int)}
    nets = jax.eval_shape(model.init, KEY, batch)
    count = {name: sum(leaf.size for leaf in jax.tree.leaves(net)) for name, net in nets.items()}
    assert count == {"generator": generator, "discriminator": discriminator}


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_grouped_convolutions_equal_xla(groups):
    x, kernel = jax.random.normal(KEY, (2, 5, 7, 12)), jax.random.normal(KEY, (3, 3, 12 // groups, 6))
    wanted = lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )
    np.testing.assert_allclose(_by_shifts(x, kernel, groups), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(grouped_convolve(x, kernel, groups), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_blocks_start_as_the_identity_with_scaled_weights():
    """Fixup: N(0, gain^2 / fan in) with gain sqrt(2 / 1.04) / depth^(1/4), and zeros in the last layer."""
    x = jax.random.normal(KEY, (1, 4, 4, 64))
    block = Block(groups=16, depth=16)
    variables = block.init(KEY, x)
    np.testing.assert_array_equal(block.apply(variables, x), x)
    gain = np.sqrt(2 / 1.04) / 2
    params = variables["params"]
    np.testing.assert_allclose(jnp.std(params["kernel"]), gain / np.sqrt(9 * 8), rtol=0.05)
    np.testing.assert_allclose(jnp.std(params["Linear_0"]["kernel"]), gain / np.sqrt(64), rtol=0.05)


def test_gamma_falls_along_half_a_cosine():
    model = small(gamma=(2.0, 0.2))
    found = [model._gamma(jnp.int32(step)) for step in (0, 5, 10, 20)]
    np.testing.assert_allclose(found, [2.0, 1.1, 0.2, 0.2], rtol=1e-6)


@pytest.mark.slow
def test_the_discriminators_loss_has_both_penalties():
    model = small(gamma=(0.5, 0.5))
    batch = batch_of(model)
    nets = model.init(KEY, batch)
    loss, aux = model.discriminator_loss(nets, inputs(batch))
    found = aux.metrics
    assert found["r1"] > 0 and found["r2"] > 0
    np.testing.assert_allclose(loss, found["adversarial"] + 0.25 * (found["r1"] + found["r2"]), rtol=1e-6)
    free, _ = dataclasses.replace(model, gamma=(0.0, 0.0)).discriminator_loss(nets, inputs(batch))
    np.testing.assert_allclose(free, found["adversarial"], rtol=1e-6)


def test_labels_and_latents_change_images():
    model = small()
    nets, sample = filled(model.init, KEY, batch_of(model)), jax.jit(model.sample, static_argnums=2)
    one, same, other = (np.asarray(sample(nets, KEY, 4, {"label": np.full(4, label)})) for label in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert abs(one - other).max() > 1e-3 and abs(one[0] - one[1]).max() > 1e-3
    assert one.shape == (4, 8, 8, 3) and abs(one).max() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_shape": (12, 12, 3)}, "2 stages make 8x8"),
        ({"generator": Generator(Stages((8, 6), (2, 4), (1, 1)))}, "not divisible by groups"),
        ({"generator": Generator(Stages((8, 6), (2,), (1, 1)))}, "one of each a stage"),
    ],
)
def test_stages_that_do_not_fit_are_refused(change, message):
    model = dataclasses.replace(small(), **change)
    with pytest.raises(ValueError, match=message):
        model.init(KEY, batch_of(model))
