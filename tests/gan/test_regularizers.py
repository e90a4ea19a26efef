"""Regularisers of GANs against closed forms of linear and quadratic critics, NumPy, and finite differences."""

from __future__ import annotations

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.gan import regularizers
from imagegen_jax.gan.regularizers import (
    consistency,
    dragan_penalty,
    gradient_penalty,
    latent_diversity,
    lecam,
    orthogonality,
    path_lengths,
    zero_centred_penalty,
)
from imagegen_jax.gan.residual.spectral import SpectralConv
from imagegen_jax.gan.style import equalized, modulated, stylegan2_networks
from imagegen_jax.nn.objectives import squared_gradient

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


@pytest.mark.slow
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


def check_derivative(penalty, params, step=1e-5):
    """The derivative of `penalty(params)` along a random direction equals its central difference."""
    rng = np.random.default_rng(1)
    along = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), params)

    @jax.jit
    @jax.value_and_grad
    def value_and_slope(t):
        return penalty(jax.tree.map(lambda p, d: p + t * d, params, along))

    (after, _), (_, found), (before, _) = (value_and_slope(t) for t in (step, 0.0, -step))
    difference = (after - before) / (2 * step)
    assert found.dtype == np.float64 and abs(found) > 1e-3
    np.testing.assert_allclose(found, difference, rtol=1e-7)


@pytest.mark.parametrize("name", PENALTIES)
def test_second_derivatives_equal_finite_differences(name):
    """What the optimizer sees of a penalty is a second derivative; float64, along a random direction."""
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 3, 2, 4), "b": (4, 4, 4, 3), "bias": (3,), "c": (3,)}
    with jax.enable_x64(True):
        params = {k: jnp.asarray(rng.normal(size=s)) for k, s in shapes.items()}
        real, fake = (jnp.asarray(rng.normal(size=SHAPE)) for _ in range(2))
        check_derivative(lambda params: PENALTIES[name](critic_of(params), real, fake), params)


@pytest.fixture
def double(monkeypatch):
    """StyleGAN2's networks and penalties in float64, of which the package has some layers in float32 always."""
    wide = types.SimpleNamespace(**{**vars(jnp), "float32": jnp.float64})
    for module in (equalized, modulated, stylegan2_networks, regularizers):
        monkeypatch.setattr(module, "jnp", wide)
    for module in (equalized, modulated, stylegan2_networks):
        monkeypatch.setattr(module, "compute_dtype", lambda name: jnp.dtype("float64"))
    with jax.enable_x64(True):
        yield lambda tree: jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), tree)


@pytest.mark.slow
def test_r1_through_stylegan2s_discriminator_equals_finite_differences(double):
    """Second order through filters, strided convolutions, the residual sums and the minibatch deviation."""
    network = stylegan2_networks.Discriminator(channel_base=32, channel_max=4, group=2)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 3)))
    params = double(network.init(jax.random.key(0), images, None)["params"])

    def penalty(params):
        return zero_centred_penalty(lambda x: network.apply({"params": params}, x, None), images)

    check_derivative(penalty, params)


@pytest.mark.slow
def test_path_lengths_through_stylegan2s_generator_equal_finite_differences(double):
    """Second order through modulation, demodulation and what doubles the image."""
    network = stylegan2_networks.Generator(style_dim=5, mapping_layers=1, channel_base=32, channel_max=4)
    rng = np.random.default_rng(0)
    w, y = jnp.asarray(rng.normal(size=(3, 4, 5))), jnp.asarray(rng.normal(size=(3, 8, 8, 3)))
    variables = double(network.init(jax.random.key(0), w[:, 0], None, (8, 8, 3)))

    def penalty(params):
        def synthesise(w):
            return network.apply({**variables, "params": params}, w, (8, 8, 3), None, method="synthesise")

        return jnp.mean((path_lengths(synthesise, w, y) - 0.3) ** 2)

    check_derivative(penalty, variables["params"])


@pytest.mark.slow
@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_through_spectral_norms_equal_finite_differences(name):
    """Kernels divided by u^T W v, u and v held: the penalty's gradient goes through W in both places."""
    convolution = SpectralConv(4, dtype="float64"), SpectralConv(3, dtype="float64")
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        real, fake = (jnp.asarray(rng.normal(size=SHAPE)) for _ in range(2))
        first = convolution[0].init(jax.random.key(0), real)
        held = first, convolution[1].init(jax.random.key(1), convolution[0].apply(first, real))
        params = [jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), variables["params"]) for variables in held]

        def penalty(params):
            def critic(x):
                for layer, variables, weights in zip(convolution, held, params, strict=True):
                    x = jnp.tanh(layer.apply({**variables, "params": weights}, x))
                return x.sum((1, 2, 3))

            return PENALTIES[name](critic, real, fake)

        check_derivative(penalty, params)


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


def test_consistency_terms_of_both_networks():
    """bCR adds the term of generated images to that of real ones; zCR's two terms pull against each other."""
    real, real_changed, fake, fake_changed = (jnp.array([x, 2 * x]) for x in (1.0, 2.0, 0.5, -1.0))
    np.testing.assert_allclose(consistency(real, real_changed), (1 + 4) / 2)
    np.testing.assert_allclose(consistency(real, real_changed) + consistency(fake, fake_changed), 2.5 + 1.5**2 * 2.5)
    closer = jax.grad(lambda changed: consistency(fake, changed))(fake_changed)
    assert (closer < 0).all()  # less than `fake`, so the discriminator's step raises it
    apart = jax.grad(lambda changed: latent_diversity(REAL, changed))(FAKE)
    assert (jnp.sign(apart) == jnp.sign(REAL - FAKE)).all()  # the generator's step takes it away from `REAL`


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
