"""Distributions of pixels: probabilities that sum to 1, loops in NumPy, a port's losses, and draws that follow them."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from official import jit, mixture_by_loop, official_to_ours

from imagegen_jax.nn.distributions.logistic_mixture import LogisticMixture
from imagegen_jax.nn.distributions.pixel import Categorical

LEVELS = np.arange(256) / 127.5 - 1
KEY = jax.random.key(0)


@pytest.mark.parametrize("distribution", [LogisticMixture(3), Categorical()])
def test_probabilities_of_all_levels_sum_to_1(distribution):
    """Also where components are far narrower than a level, and far wider than all."""
    output = 2 * jax.random.normal(KEY, (20, distribution.outputs(1)))
    if isinstance(distribution, LogisticMixture):
        output = output.at[:, 6:].set(jnp.linspace(-9, 4, 20)[:, None])
    log_p = jit(distribution.log_prob)(output[:, None], jnp.float32(LEVELS)[None, :, None])
    np.testing.assert_allclose(jax.nn.logsumexp(log_p, axis=1), 0, atol=5e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_mixture_equals_a_loop(channels):
    mixture = LogisticMixture(4)
    random = np.random.default_rng(channels)
    output = random.normal(size=(30, mixture.outputs(channels)))
    x = LEVELS[random.integers(0, 256, (30, channels))]
    x[:4] = [[-1.0] * channels, [1.0] * channels, [LEVELS[1]] * channels, [LEVELS[254]] * channels]
    wanted = [mixture_by_loop(*row, 4) for row in zip(output, x, strict=True)]
    np.testing.assert_allclose(jit(mixture.log_prob)(jnp.float32(output), jnp.float32(x)), wanted, rtol=1e-5)


@pytest.mark.parametrize(("case", "channels"), [("grey", 1), ("colours", 3)])
def test_mixture_equals_the_port(root, case, channels):
    """Sum of all images, and its gradient to the outputs, of tests/reference/make_pixelcnn.py."""
    with np.load(root / "tests/reference/pixelcnn.npz") as arrays:
        x, out, loss, gradient = (arrays[f"{case}/{name}"] for name in ("x", "out", "loss", "gradient"))
    x, out, gradient = (np.moveaxis(a, 1, -1) for a in (x, out, gradient))
    ours = jnp.float32(official_to_ours(out, channels))
    found, slope = jit(jax.value_and_grad(lambda o: -LogisticMixture(5).log_prob(o, jnp.float32(x)).sum()))(ours)
    np.testing.assert_allclose(found, loss, rtol=1e-6)
    wanted = official_to_ours(gradient, channels)
    np.testing.assert_allclose(slope, wanted, atol=1e-5 * np.abs(wanted).max())


def test_a_probability_too_small_for_a_difference_of_sigmoids_is_exact():
    """(x - mu) / s = 60: log p = -60 + log(e^(h) - e^(-h)), h = 1 / 255 / s, up to e^-60."""
    x = jnp.zeros((1, 1)) + LEVELS[200]
    scale = 0.02
    output = jnp.array([[0.0, float(x[0, 0]) - 60 * scale, math.log(scale)]])
    wanted = -60 + math.log(2 * math.sinh(1 / 255 / scale))
    np.testing.assert_allclose(LogisticMixture(1).log_prob(output, x), [wanted], rtol=1e-6)


@pytest.mark.parametrize("distribution", [LogisticMixture(2), Categorical()])
def test_draws_have_the_probabilities(distribution):
    """Of the 256 levels of a grey pixel, by chi-square per level."""
    output = jax.random.normal(KEY, (distribution.outputs(1),))
    drawn = jit(distribution.draw)(jnp.broadcast_to(output, (20_000, len(output))), jax.random.key(1))
    p = np.exp(jit(distribution.log_prob)(output[None], jnp.float32(LEVELS)[:, None]))
    counts = np.bincount(np.round((np.asarray(drawn[:, 0]) + 1) * 127.5).astype(int), minlength=256)
    likely = p * len(drawn) > 5
    chi = ((counts - p * len(drawn)) ** 2 / (p * len(drawn)))[likely].sum()
    assert abs(chi - likely.sum()) < 4 * math.sqrt(2 * likely.sum())


def test_colours_are_drawn_in_order():
    """With narrow components and coefficients of 1 and -1: green = red / 2, blue = red - green."""
    parts = [[0.0], [0.3, 0.0, 0.0], [-7.0] * 3, [math.atanh(0.5), 9.0, -9.0]]
    output = jnp.broadcast_to(jnp.concatenate([jnp.array(part) for part in parts]), (500, 10))
    drawn = jit(LogisticMixture(1).draw)(output, KEY)
    assert drawn.shape == (500, 3)
    np.testing.assert_allclose(drawn[:, 0].mean(), 0.3, atol=0.005)
    np.testing.assert_allclose(drawn[:, 1], drawn[:, 0] / 2, atol=0.02)
    np.testing.assert_allclose(drawn[:, 2], drawn[:, 0] - drawn[:, 1], atol=0.02)


def test_a_channel_does_not_see_those_after_it():
    """The probability of red alone, green and blue summed over, is that of a mixture without them."""
    mixture, k = LogisticMixture(2), 2
    output = jax.random.normal(KEY, (mixture.outputs(2),)) - 1
    red = jnp.float32(LEVELS[90])
    both = jnp.stack([jnp.full(256, red), jnp.float32(LEVELS)], axis=-1)
    of_red = jax.nn.logsumexp(jit(mixture.log_prob)(output[None], both))
    alone = jnp.concatenate([output[:k], output[k : 2 * k], output[3 * k : 4 * k]])
    np.testing.assert_allclose(of_red, mixture.log_prob(alone[None], red[None, None])[0], rtol=1e-5)


def test_categorical_is_of_grey_alone():
    with pytest.raises(ValueError, match="one channel, but images have 3: use LogisticMixture"):
        Categorical().outputs(3)
