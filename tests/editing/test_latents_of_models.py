"""Latents and styles: who has them, what is made of them and in how many compilations, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from latent_models import KEY, MODELS, SHAPE, Painter, networks

from imagegen_jax.core.arrays.image import to_uint8
from imagegen_jax.core.drawing.draw import check_conditions
from imagegen_jax.editing import latents
from imagegen_jax.gan.dcgan import DCGAN
from imagegen_jax.gan.residual.biggan import BigGAN
from imagegen_jax.gan.style import stylegan2_networks
from imagegen_jax.gan.style.stylegan2 import StyleGAN2
from imagegen_jax.gan.translation.pix2pix import Pix2Pix
from imagegen_jax.gan.truncation import check_truncation


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "r3gan")) for n in MODELS])
def test_samples_are_the_images_of_latents(name):
    model = MODELS[name]
    conditions = {"label": jnp.array([0, 2, 1])} if getattr(model, "num_classes", 0) else {}

    @jax.jit
    def both(nets, key):
        z = latents.draw(latents.latent_model(model), key, 3, conditions)
        return model.sample(nets, key, 3, conditions), model.generate(nets, z, conditions)

    sampled, made = both(networks(name), jax.random.key(1))
    np.testing.assert_array_equal(sampled, made)
    assert made.shape == (3, *SHAPE) and abs(made).max() <= 1 and np.ptp(made, axis=0).max() > 0


def test_biggan_draws_its_latents_truncated():
    model = BigGAN(latent_dim=4)
    z = latents.draw(model, KEY, 1000, {"truncation": 0.383})
    assert 0.4 < abs(z).max() <= 0.5001
    np.testing.assert_allclose(latents.draw(model, KEY, 2, {}), jax.random.normal(KEY, (2, 4)), atol=1e-6)


def test_rendering_compiles_once_and_keeps_the_order():
    """Whatever the number of rows is, in chunks that are a whole number of rows on each of the eight devices."""
    model, z = Painter(), np.random.default_rng(0).uniform(-0.5, 0.5, (21, 3)).astype(np.float32)
    label = np.arange(21) % 3
    batches = list(latents.render(model, {}, {"z": z, "label": label, "truncation": np.float32(0.5)}, chunk=5))
    assert [len(batch) for batch in batches] == [8, 8, 5] and model.traced == 1
    wanted = np.broadcast_to(to_uint8(z[:, :1, None, None] + 0.05 * label[:, None, None, None]), (21, 2, 2, 1))
    np.testing.assert_array_equal(np.concatenate(batches), wanted)


def test_mixed_and_truncated_styles():
    of_rows, of_columns = np.full((2, 4, 3), 1.0), np.full((5, 4, 3), 2.0)
    mixed = latents.mixed(of_rows, of_columns, 1, 3)
    assert mixed.shape == (2, 5, 4, 3)
    np.testing.assert_array_equal(mixed[0, 0, :, 0], [1, 2, 2, 1])
    for start, end in ((0, 5), (2, 2), (-1, 3)):
        with pytest.raises(ValueError, match="this model has layers 0 to 3"):
            latents.mixed(of_rows, of_columns, start, end)
    swept = latents.truncated(of_rows, np.zeros((2, 4, 3)), jnp.array([-1.0, 0.0, 2.0]))
    np.testing.assert_allclose(swept[1, :, 2, 0], [-1, 0, 2])


def test_who_has_latents_and_styles():
    with pytest.raises(TypeError, match="a Pix2Pix does not make its images of latents alone"):
        latents.latent_model(Pix2Pix())
    with pytest.raises(TypeError, match="a Pix2Pix has no styles"):
        latents.style_model(Pix2Pix())
    with pytest.raises(TypeError, match="a DCGAN has no styles.*interpolation in z and directions work"):
        latents.style_model(DCGAN())
    assert latents.style_model(StyleGAN2()) is not None


@pytest.mark.parametrize("wrong", [1.5, -0.1, float("nan"), np.array([0.5, 2.0])])
def test_truncation_out_of_range_is_refused_before_compiling(wrong):
    model = StyleGAN2((8, 8, 3), stylegan2_networks.Generator(style_dim=4), latent_dim=4)
    with pytest.raises(ValueError, match=r"truncation .*from 0 .* to 1"):
        check_conditions(model, 2, {"truncation": wrong})


def test_truncation_in_range_is_accepted():
    for given in ({}, {"truncation": 0}, {"truncation": np.array([0.0, 1.0])}):
        check_truncation(given)


def test_classes_out_of_range_are_refused_before_compiling():
    for labels in ([0, 3], [-1, 0]):
        with pytest.raises(ValueError, match=r"labels: (3|-1) is out of range: this model knows 0 to 2"):
            check_conditions(MODELS["sngan"], 2, {"label": np.array(labels)})
    with pytest.raises(ValueError, match="this model knows no classes"):
        check_conditions(MODELS["dcgan"], 2, {"label": np.array([0, 1])})
