"""Likelihoods against torch's distributions, values by hand, and probabilities of 8-bit values."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.autoencoders.likelihood import LEVELS, Bernoulli, Gaussian
from imagegen_jax.core.arrays.bits_per_dim import bits_per_dim
from imagegen_jax.core.arrays.image import to_float

KEYS = jax.random.split(jax.random.key(0), 20_000)


def pixels(values):
    """[N D] -> images [N D 1 1]."""
    return jnp.asarray(values, jnp.float32)[:, :, None, None]


@pytest.fixture(scope="module")
def torch(root):
    """Values of torch's losses and distributions (tests/reference/make_torch.py), [6 5] each."""
    with np.load(root / "tests/reference/torch_losses.npz") as arrays:
        return {name.removeprefix("at/"): arrays[name] for name in arrays.files}


# --- Bernoulli -------------------------------------------------------------------------------------------------------


def test_bernoulli_by_hand():
    """Logits of 1/4 and 9/10; white then black: log 1/4 + log 1/10."""
    logits = pixels([[math.log(1 / 3), math.log(9)]])
    np.testing.assert_allclose(Bernoulli().log_prob(logits, pixels([[1, 0]])), [math.log(1 / 40)], rtol=1e-6)
    np.testing.assert_allclose(Bernoulli().mean(logits)[0, :, 0, 0], [-0.5, 0.8], rtol=1e-6)


def test_bernoulli_equals_torch(torch):
    found = Bernoulli().log_prob(pixels(torch["logits"]), pixels(torch["target"]))
    np.testing.assert_allclose(found, -torch["bce_target"].sum(1), rtol=1e-6)


def test_bernoulli_is_finite_at_large_logits():
    np.testing.assert_allclose(Bernoulli().log_prob(pixels([[200.0, -200.0]]), pixels([[0, 0]])), [-200.0])


def test_binarisation_draws_white_with_the_intensity():
    image = jnp.broadcast_to(to_float(jnp.uint8([[[0], [51], [204], [255]]])), (len(KEYS), 1, 4, 1))
    x = Bernoulli().observe(image, KEYS)
    assert set(np.unique(x)) == {0.0, 1.0}
    np.testing.assert_allclose(x.mean(0).ravel(), [0, 0.2, 0.8, 1], atol=0.015)  # five standard errors
    np.testing.assert_array_equal(Bernoulli().observe(image[:1], None).ravel(), [0, 0, 1, 1])
    np.testing.assert_allclose(Bernoulli(binarize=False).observe(image, KEYS)[0].ravel(), [0, 0.2, 0.8, 1], atol=1e-6)


# --- Gaussian --------------------------------------------------------------------------------------------------------


def test_gaussian_with_the_decoders_scale_equals_torch(torch):
    least = -math.log(2 * LEVELS)
    raw = least + np.log(np.expm1(torch["log_sigma"] - least))
    output = jnp.concatenate([pixels(torch["mean"]), pixels(raw)], axis=-1)
    per_level = torch["normal_log_prob"].sum(1) - 5 * math.log(127.5)
    np.testing.assert_allclose(Gaussian().log_prob(output, pixels(torch["x"])), per_level, rtol=2e-5)
    np.testing.assert_allclose(Gaussian().mean(output)[..., 0, 0], torch["mean"].clip(-1, 1))


def test_the_decoders_scale_stays_above_half_a_level():
    sure = Gaussian().log_prob(jnp.zeros((1, 1, 1, 2)).at[..., 1].set(-1e6), jnp.zeros((1, 1, 1, 1)))
    np.testing.assert_allclose(sure, math.log(2 / math.sqrt(2 * math.pi)), rtol=1e-4)


@pytest.mark.parametrize("sigma", [0.1, 0.7])
def test_bits_per_dim_of_a_known_gaussian(sigma):
    """Entropy 1/2 log2(2 pi e sigma^2) in units of [-1, 1], and log2(127.5) more in units of levels."""
    x = sigma * jax.random.normal(jax.random.key(1), (2000, 3, 4, 2))
    nats = -Gaussian(scale=sigma, dequantize=False).log_prob(jnp.zeros_like(x), x)
    wanted = 0.5 * math.log2(2 * math.pi * math.e * sigma**2) + math.log2(127.5)
    np.testing.assert_allclose(bits_per_dim(nats, (3, 4, 2)).mean(), wanted, atol=0.02)


@pytest.mark.parametrize("level", [110, 140, 160])
def test_dequantised_density_bounds_the_probability_of_the_level(level):
    """E log p(x + noise) is below log P(level), an integral of the density, and close where the density is smooth."""
    mu, sigma = 0.1, 0.05
    likelihood = Gaussian(scale=sigma)
    image = jnp.broadcast_to(to_float(jnp.uint8([[[level]]])), (len(KEYS), 1, 1, 1))
    found = likelihood.log_prob(jnp.full_like(image, mu), likelihood.observe(image, KEYS)).mean()
    low, high = ((level + side) / 127.5 - 1 for side in (-0.5, 0.5))
    probability = 0.5 * (math.erf((high - mu) / (sigma * 2**0.5)) - math.erf((low - mu) / (sigma * 2**0.5)))
    assert -0.03 < found - math.log(probability) < 0.003


def test_dequantisation_fills_one_level():
    noise = (Gaussian().observe(jnp.zeros((len(KEYS), 1, 1, 1)), KEYS)) * LEVELS
    assert -0.5 <= noise.min() < -0.499 and 0.499 < noise.max() <= 0.5
    np.testing.assert_allclose(noise.std(), 12**-0.5, rtol=0.02)
    for silent in (Gaussian(dequantize=False).observe(noise, KEYS), Gaussian().observe(noise, None)):
        np.testing.assert_array_equal(silent, noise)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_scales_that_cannot_be_are_refused(scale):
    with pytest.raises(ValueError, match="Gaussian.scale="):
        Gaussian(scale=scale)
