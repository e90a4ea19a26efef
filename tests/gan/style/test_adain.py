"""Adaptive instance normalisation against its formula."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.gan.style.adain import AdaIN

KEY = jax.random.key(0)
X = 3 + 2 * jax.random.normal(KEY, (4, 6, 5, 3))
W = jax.random.normal(jax.random.key(1), (4, 7))


def test_equals_the_formula():
    """(1 + s) (x - mean) / sqrt(variance + epsilon) + b, (s, b) = w A / sqrt(7) + (biases)."""
    module = AdaIN(epsilon=0.1)
    variables = module.init(KEY, X, W)
    style = variables["params"]["style"]
    style["bias"] = jnp.arange(6.0)
    x, w, kernel = (np.asarray(a, np.float64) for a in (X, W, style["kernel"]))
    s, b = np.split(w @ kernel / np.sqrt(7) + np.arange(6), 2, axis=1)
    mean, variance = x.mean(axis=(1, 2), keepdims=True), x.var(axis=(1, 2), keepdims=True)
    wanted = (1 + s[:, None, None]) * (x - mean) / np.sqrt(variance + 0.1) + b[:, None, None]
    np.testing.assert_allclose(module.apply(variables, X, W), wanted, atol=1e-5)


def test_without_style_channels_have_mean_0_and_deviation_1():
    variables = AdaIN().init(KEY, X, W)
    found = AdaIN().apply(variables, X, jnp.zeros_like(W))
    np.testing.assert_allclose(found.mean(axis=(1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=(1, 2)), 1, atol=1e-5)
    assert sum(p.size for p in jax.tree.leaves(variables)) == 7 * 6 + 6


def test_scale_and_mean_of_the_input_are_forgotten():
    variables = AdaIN().init(KEY, X, W)
    np.testing.assert_allclose(AdaIN().apply(variables, 5 * X + 3, W), AdaIN().apply(variables, X, W), atol=1e-4)


@pytest.mark.slow
def test_constant_channels_and_their_gradients_are_finite():
    """As those of a learned constant are before the first step."""
    variables, flat = AdaIN().init(KEY, X, W), jnp.ones((1, 4, 4, 3))
    found = AdaIN().apply(variables, flat, jnp.zeros((1, 7)))
    np.testing.assert_allclose(found, 0, atol=1e-2)
    slope = jax.grad(lambda x: jnp.sum(AdaIN().apply(variables, x, W[:1]) ** 2))(flat)
    assert jnp.isfinite(slope).all()


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_computes_in_the_dtype_asked_for(name):
    variables = AdaIN(dtype=name).init(KEY, X, W)
    found = AdaIN(dtype=name).apply(variables, X, W)
    assert found.dtype == name
    np.testing.assert_allclose(found.astype(jnp.float32), AdaIN().apply(variables, X, W), atol=0.1)
