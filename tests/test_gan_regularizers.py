"""Regularisers of GANs against closed forms of linear and quadratic critics, NumPy, and finite differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.gan.regularizers import (
    consistency,
    dragan_penalty,
    gradient_penalty,
    latent_diversity,
    lecam,
    orthogonality,
    path_lengths,
    squared_gradient,
    zero_centred_penalty,
)

SHAPE = (6, 4, 3, 2)
KEYS = jax.random.split(jax.random.key(0), 6)
REAL, FAKE, WEIGHTS = (jax.random.normal(key, SHAPE) for key in jax.random.split(jax.random.key(1), 3))
SLOPE = WEIGHTS[0]
NORM = float(jnp.linalg.norm(SLOPE))


def linear(x):
    return jnp.einsum("bhwc,hwc->b", x, SLOPE)


def quadratic(x):
    """1/2 |x|^2, whose gradient is x."""
    return 0.5 * jnp.sum(x**2, axis=(1, 2, 3))


# --- penalties on gradients ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [1.0, 0.0, 7.5])
def test_penalties_of_a_linear_critic(target):
    """Its gradient is its slope w everywhere: (|w| - target)^2, and |w|^2 for the zero-centred one."""
    np.testing.assert_allclose(squared_gradient(linear, REAL), [NORM**2] * 6, rtol=1e-5)
    np.testing.assert_allclose(zero_centred_penalty(linear, REAL), NORM**2, rtol=1e-5)
    found = gradient_penalty(linear, REAL, FAKE, KEYS, target), dragan_penalty(linear, REAL, KEYS, target)
    np.testing.assert_allclose(found, [(NORM - target) ** 2] * 2, rtol=1e-5)


def test_zero_centred_penalty_of_a_quadratic_critic():
    """1/2 sum w x^2 has the gradient w x."""
    found = zero_centred_penalty(lambda x: 0.5 * jnp.einsum("bhwc,hwc->b", x**2, SLOPE), REAL)
    np.testing.assert_allclose(found, np.mean(np.sum(np.square(SLOPE * REAL), axis=(1, 2, 3))), rtol=1e-5)


def test_gradient_penalty_is_taken_uniformly_between_the_rows():
    """Between 0 and c, |x_hat| is uniform in [0, |c|]: E |x_hat|^2 = |c|^2 / 3, E |x_hat| = |c| / 2."""
    keys = jax.random.split(jax.random.key(0), 20_000)
    c = jnp.full((20_000, 1, 2, 1), 3.0)
    squared = gradient_penalty(quadratic, jnp.zeros_like(c), c, keys, target=0.0)
    np.testing.assert_allclose(squared, 18 / 3, rtol=0.03)
    np.testing.assert_allclose(gradient_penalty(quadratic, jnp.zeros_like(c), c, keys), 6 - 18**0.5 + 1, rtol=0.04)
    alone = [gradient_penalty(quadratic, REAL[i : i + 1], FAKE[i : i + 1], KEYS[i : i + 1]) for i in range(6)]
    np.testing.assert_allclose(gradient_penalty(quadratic, REAL, FAKE, KEYS), np.mean(alone), rtol=1e-5)
    np.testing.assert_allclose(
        gradient_penalty(quadratic, REAL, REAL, KEYS, 0.0), jnp.mean(jnp.sum(REAL**2, axis=(1, 2, 3))), rtol=1e-5
    )


def test_dragan_penalty_is_taken_around_real_images():
    """Of images of -1 and of 1, whose deviation is 1: delta = u alpha / 2, E delta = 1/8 and E delta^2 = 1/36.

    The critic looks at positive pixels alone, so at half of the images: E (1 + delta)^2 = 1 + 1/4 + 1/36 a pixel.
    """
    n = 20_000
    images = jnp.where(jnp.arange(n) % 2, 1.0, -1.0)[:, None, None, None] * jnp.ones((1, 1, 3, 1))
    keys = jax.random.split(jax.random.key(0), n)
    found = dragan_penalty(lambda x: quadratic(jax.nn.relu(x)), images, keys, target=0.0)
    np.testing.assert_allclose(found, 3 * (1 + 1 / 4 + 1 / 36) / 2, rtol=0.01)
    flat = jnp.full((4, 1, 3, 1), 0.5)  # no deviation, so no noise
    np.testing.assert_allclose(dragan_penalty(quadratic, flat, keys[:4], target=0.0), 3 * 0.25, rtol=1e-6)


@pytest.mark.parametrize("target", [1.0, 0.0])
def test_a_flat_critic_has_finite_gradients(target):
    """|grad D| = 0 has no derivative, but the penalty must have one: at the start some critics are constant."""

    def penalty(scale):
        return gradient_penalty(lambda x: scale * linear(x), REAL, FAKE, KEYS, target)

    value, gradient = jax.value_and_grad(penalty)(0.0)
    np.testing.assert_allclose(value, target**2, atol=1e-5)
    assert np.isfinite(gradient)


def critic_of(params):
    """Two convolutions with biases and a projection, in the dtype of the parameters."""

    def critic(x):
        dimensions = ("NHWC", "HWIO", "NHWC")
        x = jnp.tanh(jax.lax.conv_general_dilated(x, params["a"], (1, 1), "SAME", dimension_numbers=dimensions))
        x = jax.lax.conv_general_dilated(x, params["b"], (2, 2), "SAME", dimension_numbers=dimensions)
        return jax.nn.softplus(x + params["bias"]).mean((1, 2)) @ params["c"]

    return critic


PENALTIES = {
    "zero-centred": lambda critic, real, fake: zero_centred_penalty(critic, real),
    "WGAN-GP": lambda critic, real, fake: gradient_penalty(critic, real, fake, KEYS),
    "DRAGAN": lambda critic, real, fake: dragan_penalty(critic, real, KEYS),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_second_derivatives_equal_finite_differences(name):
    """What the optimizer sees of a penalty is a second derivative; float64, along a random direction."""
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 3, 2, 4), "b": (4, 4, 4, 3), "bias": (3,), "c": (3,)}
    with jax.enable_x64(True):
        params, along = ({k: jnp.asarray(rng.normal(size=s)) for k, s in shapes.items()} for _ in range(2))
        real, fake = (jnp.asarray(rng.normal(size=SHAPE)) for _ in range(2))

        def value(step):
            moved = jax.tree.map(lambda p, d: p + step * d, params, along)
            return PENALTIES[name](critic_of(moved), real, fake)

        found = jax.jit(jax.grad(value))(0.0)
        difference = (value(1e-5) - value(-1e-5)) / 2e-5
        assert found.dtype == np.float64 and abs(found) > 1e-3
        np.testing.assert_allclose(found, difference, rtol=1e-7)


def test_gradients_through_a_norm_are_those_of_the_sum():
    """Centring by the batch leaves a linear critic's gradient of the sum at 0, whatever its slope."""
    np.testing.assert_allclose(squared_gradient(lambda x: linear(x - x.mean(0)), REAL), np.zeros(6), atol=1e-10)


# --- the others ------------------------------------------------------------------------------------------------------


def test_path_lengths_of_a_linear_map():
    """J is the map A itself: |A^T y| with y = noise / sqrt(H W); over layers, the root of the mean of squares."""
    matrix = jax.random.normal(jax.random.key(2), (5, 4 * 3 * 2))
    w = jax.random.normal(jax.random.key(3), (6, 5))
    found = path_lengths(lambda w: (w @ matrix).reshape(SHAPE), w, REAL)
    pulled = REAL.reshape(6, -1) @ matrix.T / np.sqrt(4 * 3)
    np.testing.assert_allclose(found, np.linalg.norm(pulled, axis=1), rtol=1e-5)

    scales = np.array([1.0, 2.0, 3.0])  # of three layers, each with a w of its own
    layered = path_lengths(
        lambda w: jnp.einsum("bld,l,dp->bp", w, scales, matrix).reshape(SHAPE), jnp.stack([w] * 3, 1), REAL
    )
    np.testing.assert_allclose(layered, np.linalg.norm(pulled, axis=1) * np.sqrt(14 / 3), rtol=1e-5)


def test_consistency_and_diversity():
    a, b = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.0, 1.0, 0.5])
    np.testing.assert_allclose(consistency(a, b), (1 + 9 + 0) / 3, rtol=1e-6)
    wanted = -np.mean(np.sum(np.square(REAL - FAKE), axis=(1, 2, 3)))
    np.testing.assert_allclose(latent_diversity(REAL, FAKE), wanted, rtol=1e-6)


def test_lecam_pulls_each_side_to_the_average_of_the_other():
    real, fake = jnp.array([1.0, 3.0]), jnp.array([-1.0, 0.0])
    np.testing.assert_allclose(lecam(real, fake, 2.0, -0.5), (1.5**2 + 3.5**2) / 2 + (9 + 4) / 2, rtol=1e-6)
    of_real, of_fake = jax.grad(lecam, (0, 1))(real, fake, 2.0, -0.5)
    assert (of_real > 0).all() and (of_fake < 0).all()


def test_orthogonality_equals_numpy():
    """Over kernels alone, as matrices [inputs, outputs]; columns of any lengths that are orthogonal cost nothing."""
    rng = np.random.default_rng(0)
    conv, dense, bias = (rng.normal(size=s).astype(np.float32) for s in ((3, 3, 2, 4), (5, 3), (4,)))
    params = {"conv": {"kernel": conv, "bias": bias}, "deep": {"dense": {"kernel": dense}, "norm": {"scale": bias}}}
    wanted = 0.0
    for matrix in (conv.reshape(18, 4), dense):
        gram = matrix.T @ matrix
        wanted += np.sum((gram * (1 - np.eye(len(gram)))) ** 2)
    np.testing.assert_allclose(orthogonality(params), wanted, rtol=1e-5)
    columns = np.linalg.qr(dense)[0] * np.array([1.0, 2.0, 3.0], np.float32)
    np.testing.assert_allclose(orthogonality({"dense": {"kernel": columns}}), 0, atol=1e-9)
