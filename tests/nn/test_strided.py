"""Halving and doubling convolutions: their sizes, and linen's own transposed convolution."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.nn.strided import Double, Halve, pyramid

pytestmark = pytest.mark.versions


def test_pyramid_ends_between_4_and_7():
    for side in range(8, 257):
        sizes = [h for h, _ in pyramid(side, side)]
        assert sizes[0] == side and 4 <= sizes[-1] <= 7
        assert all(small == (large + 1) // 2 for large, small in zip(sizes, sizes[1:], strict=False))


def test_pyramid_of_published_sizes_and_of_rectangles():
    assert pyramid(64, 64) == ((64, 64), (32, 32), (16, 16), (8, 8), (4, 4))
    assert pyramid(33, 80) == ((33, 80), (17, 40), (9, 20), (5, 10))
    with pytest.raises(ValueError, match="image size 7x64: height and width must be at least 8"):
        pyramid(7, 64)


@pytest.mark.slow
@pytest.mark.parametrize("use_bias", [True, False])
def test_double_equals_the_transposed_convolution_with_gradients(use_bias):
    x = jax.random.normal(jax.random.key(0), (2, 5, 7, 3))
    settings = {"use_bias": use_bias, "bias_init": nn.initializers.normal(1.0)}
    ours, theirs = Double(4, **settings), nn.ConvTranspose(4, (4, 4), (2, 2), **settings)
    variables = ours.init(jax.random.key(1), x, (10, 14))
    weights = jax.random.normal(jax.random.key(2), (2, 10, 14, 4))

    def value(variables, x, layer, *size):
        return jnp.sum(weights * layer.apply(variables, x, *size))

    np.testing.assert_allclose(ours.apply(variables, x, (10, 14)), theirs.apply(variables, x), atol=1e-5)
    gradient = jax.jit(jax.grad(value, (0, 1)), static_argnums=(2, 3))
    found, wanted = gradient(variables, x, ours, (10, 14)), gradient(variables, x, theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, wanted)


def test_odd_sizes_round_up_and_crop_at_the_end():
    """Halving pads the end with zeros: 7 rows are as 8 with a row of zeros. Doubling leaves the last row out."""
    x = jax.random.normal(jax.random.key(0), (1, 7, 6, 2))
    halve = Halve(3)
    variables = halve.init(jax.random.key(1), x)
    padded = jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)))
    assert halve.apply(variables, x).shape == (1, 4, 3, 3)
    np.testing.assert_allclose(halve.apply(variables, x), halve.apply(variables, padded), atol=1e-6)
    double = Double(3)
    variables = double.init(jax.random.key(1), x, (14, 12))
    whole = double.apply(variables, x, (14, 12))
    np.testing.assert_array_equal(double.apply(variables, x, (13, 12)), whole[:, :13])
