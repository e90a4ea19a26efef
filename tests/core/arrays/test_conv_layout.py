"""Convolutions laid out for loops on a CPU: the same numbers, in one layout."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from imagegen_jax.core.arrays.conv_layout import NHWC, for_loops
from imagegen_jax.core.platform.target import made_for

pytestmark = pytest.mark.versions

LAYOUT = ("NHWC", "HWIO", "NHWC")
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
CASES = {
    "plain": {"window_strides": (1, 1), "padding": "SAME"},
    "strided": {"window_strides": (2, 2), "padding": [(0, 1), (1, 0)]},
    "spread": {"window_strides": (1, 1), "padding": [(2, 2), (1, 1)], "lhs_dilation": (2, 2)},
    "dilated": {"window_strides": (1, 2), "padding": "VALID", "rhs_dilation": (1, 2)},
    "grouped": {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 2},
}


def layouts(program):
    """The dimension numbers of all convolutions of a traced program."""
    found = []
    for step in program.eqns:
        if step.primitive.name == "conv_general_dilated":
            found.append(step.params["dimension_numbers"])
        elif "jaxpr" in step.params:
            found += layouts(step.params["jaxpr"].jaxpr)
    return found


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_the_same_in_one_layout(name):
    settings = CASES[name]
    x = jax.random.normal(jax.random.key(0), (2, 6, 7, 4))
    kernel = jax.random.normal(jax.random.key(1), (3, 2, 4 // settings.get("feature_group_count", 1), 6))

    def loss(arguments, by):
        x, kernel = arguments["x"], arguments["kernel"]
        h = nn.relu(lax.conv_general_dilated(x, kernel, dimension_numbers=LAYOUT, **settings))
        return jnp.sum(jax.jit(jnp.sin)(h * by))

    gradient = jax.grad(loss)
    arguments = {"x": x, "kernel": kernel}, jnp.float32(0.3)
    found, expected = jit(for_loops(gradient))(*arguments), jit(gradient)(*arguments)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), found, expected)
    laid_out = layouts(jax.make_jaxpr(for_loops(gradient))(*arguments).jaxpr)
    assert len(laid_out) == 3 and set(laid_out) == {NHWC}
    assert set(layouts(jax.make_jaxpr(gradient)(*arguments).jaxpr)) != {NHWC}


def test_what_is_laid_out_can_be_differentiated_and_mapped():
    """As guided samplers are: forwards by likelihoods, and by a gradient of what they draw."""
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, 1))
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 1))

    def square(x):
        return jnp.sum(lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT) ** 2)

    slope, laid_out = jax.grad(square), for_loops(jax.grad(square))
    for wrt in (lambda f: jax.jvp(f, (x,), (x,))[1], lambda f: jax.grad(lambda x: jnp.sum(f(x) ** 2))(x)):
        np.testing.assert_allclose(jit(lambda wrt=wrt: wrt(laid_out))(), jit(lambda wrt=wrt: wrt(slope))(), rtol=1e-4)
    rows = jit(jax.vmap(lambda row: laid_out(row[None])[0]))(x)
    np.testing.assert_allclose(rows, slope(x), rtol=1e-4, atol=1e-5)


def test_other_platforms_are_left_alone():
    with made_for("gpu"):
        assert for_loops(layouts) is layouts
