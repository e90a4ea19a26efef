"""Modulated convolutions against a loop over images, equalised layers, noise, and derivatives in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from imagegen_jax.gan.style.equalized import EqualConv, EqualDense, bias_activation, normalise
from imagegen_jax.gan.style.modulated import StyledConv, ToImage, modulated_convolve
from imagegen_jax.nn.upfirdn import convolve, convolve_up

KEY = jax.random.key(0)


def arrays(dtype=jnp.float32):
    shapes = (3, 5, 4, 2), (3, 3, 2, 6), (3, 2)
    random = np.random.default_rng(0)
    return [jnp.asarray(random.standard_normal(shape), dtype) for shape in shapes]


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_equals_a_loop_over_images_with_their_own_weights(up, demodulate):
    x, kernel, style = map(np.asarray, arrays())
    found = jax.jit(modulated_convolve, static_argnums=(3, 4))(x, kernel, style, demodulate, up)
    convolved = jax.jit(convolve_up if up else convolve)
    for image, scale, one in zip(x, style, found, strict=True):
        weights = kernel * scale[:, None]
        if demodulate:
            weights = weights / np.sqrt(np.sum(weights**2, axis=(0, 1, 2)) + 1e-8)
        np.testing.assert_allclose(one, convolved(image[None], weights)[0], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("up", [False, True])
def test_first_and_second_derivatives_equal_finite_differences(up):
    """Of inputs, weights and styles: path lengths need all three."""
    with jax.enable_x64(True):
        x, kernel, style = arrays(jnp.float64)

        def value(x, kernel, style):
            return jnp.sum(jnp.sin(modulated_convolve(x, kernel, style, up=up)))

        check_grads(value, (x[:1, :3, :3], kernel[..., :2], style[:1]), order=2, rtol=1e-5)


@pytest.mark.slow
def test_demodulation_keeps_unit_variance_whatever_the_style():
    """Section 2.2: unit variance in, unit variance out, also for styles that are a thousand times as large."""
    x = jax.random.normal(KEY, (4, 64, 64, 8))
    kernel, style = jax.random.normal(KEY, (3, 3, 8, 16)), jax.random.normal(KEY, (4, 8))
    for scale in (1.0, 1000.0):
        deviation = modulated_convolve(x, kernel, scale * style)[:, 1:-1, 1:-1].std(axis=(1, 2))
        np.testing.assert_allclose(deviation, 1, atol=0.1)


def test_bfloat16_is_close_to_float32():
    x, kernel, style = arrays()
    found = modulated_convolve(x.astype(jnp.bfloat16), kernel, 50 * style)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), modulated_convolve(x, kernel, 50 * style), atol=0.05)


# --- layers ----------------------------------------------------------------------------------------------------------


def styled():
    layer = StyledConv(6, salt=3)
    x, w = jax.random.normal(KEY, (2, 4, 4, 5)), jax.random.normal(KEY, (2, 3))
    return layer, layer.init(KEY, x, w, None), x, w


@pytest.mark.slow
def test_noise_is_constant_without_keys_and_follows_the_row_with_them():
    layer, variables, x, w = styled()
    assert jax.tree.map(jnp.shape, variables["noise"]) == {"constant": (4, 4, 1)}
    keys = jax.random.split(KEY, 2)
    silent = layer.apply(variables, x, w, None)
    np.testing.assert_array_equal(silent, layer.apply(variables, x, w, keys))  # its strength starts at 0
    variables["params"]["noise_strength"] = jnp.float32(0.5)
    constant, own = layer.apply(variables, x, w, None), layer.apply(variables, x, w, keys)
    assert (constant != silent).any() and (own != constant).any()
    np.testing.assert_allclose(layer.apply(variables, x[1:], w[1:], keys[1:]), own[1:], atol=1e-6)
    other = StyledConv(6, salt=4).apply(variables, x, w, keys)
    assert (other != own).any()


@pytest.mark.slow
def test_noise_has_unit_variance_times_its_strength():
    layer = StyledConv(1, salt=0)
    x, w = jnp.zeros((1, 64, 64, 5)), jnp.zeros((1, 3))
    variables = layer.init(KEY, x, w, None)
    variables["params"]["noise_strength"] = jnp.float32(0.5)
    noise = layer.apply(variables, x, w, jax.random.split(KEY, 1)) / np.sqrt(2)
    noise = jnp.where(noise < 0, noise / 0.2, noise)
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 0.5], atol=0.04)


def test_to_image_is_float32_and_scaled_by_the_style():
    layer = ToImage(3, dtype="bfloat16")
    x, w = jax.random.normal(KEY, (2, 4, 4, 5)), jnp.ones((2, 3))
    variables = layer.init(KEY, x, w)
    image = layer.apply(variables, x, w)
    assert image.dtype == jnp.float32
    variables["params"]["style"]["kernel"] *= 0  # a style of 1, the bias's start
    plain = layer.apply(variables, x, w)
    variables["params"]["style"]["bias"] *= 3
    np.testing.assert_allclose(layer.apply(variables, x, w), 3 * plain, atol=0.05)


@pytest.mark.slow
def test_equalised_layers_keep_unit_variance():
    x = jax.random.normal(KEY, (2000, 50))
    dense = EqualDense(40)
    assert abs(dense.apply(dense.init(KEY, x), x).std() - 1) < 0.05
    image = jax.random.normal(KEY, (8, 32, 32, 20))
    conv = EqualConv(30, activate=False)
    assert abs(conv.apply(conv.init(KEY, image), image)[:, 1:-1, 1:-1].std() - 1) < 0.05
    squares = jnp.mean(bias_activation(x, jnp.zeros(50)) ** 2)
    assert abs(squares - 1.04) < 0.02  # 2 (1 + 0.2^2) / 2
    np.testing.assert_allclose(jnp.mean(normalise(7 * x) ** 2, axis=1), 1, rtol=1e-5)


@pytest.mark.slow
def test_rate_scales_what_a_step_of_adam_does():
    """The weights that are used start the same, and move by `rate` times as much."""
    x = jax.random.normal(KEY, (4, 10))
    moved = []
    for rate in (1.0, 0.01):
        layer = EqualDense(3, bias_init=1.0, rate=rate)
        params = layer.init(KEY, x)
        adam = optax.adam(1.0)  # far enough that nothing rounds: the layer is affine
        gradient = jax.grad(lambda p, layer=layer: jnp.sum(layer.apply(p, x)))(params)
        updates, _ = adam.update(gradient, adam.init(params))
        before, after = layer.apply(params, x), layer.apply(optax.apply_updates(params, updates), x)
        moved.append((before, after - before))
    np.testing.assert_allclose(moved[0][0], moved[1][0], rtol=1e-5)
    np.testing.assert_allclose(0.01 * moved[0][1], moved[1][1], rtol=1e-3)


@pytest.mark.slow
def test_gain_and_halving():
    image = jax.random.normal(KEY, (1, 6, 8, 2))
    one, half = EqualConv(3, down=True), EqualConv(3, down=True, gain=0.5)
    variables = one.init(KEY, image)
    assert one.apply(variables, image).shape == (1, 3, 4, 3)
    np.testing.assert_allclose(half.apply(variables, image), 0.5 * one.apply(variables, image), rtol=1e-6)
