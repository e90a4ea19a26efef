"""Derivatives by convolutions inside loops of a compiled program, which the CPU backend takes ten times as long for.

XLA has fast convolutions on CPUs for one layout, NHWC x HWIO -> NHWC. It brings others to that one where they stand
outside of loops, but inside of them it takes a slow path, and the convolutions that derivatives are made of have other
layouts. (Six of 32x8x8x32 and the gradient of their input, in `lax.scan` on two busy cores: 138 ms a step as they are,
8 ms laid out as here, and 18 ms without a loop.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal
from jax.extend.core.primitives import conv_general_dilated_p, jit_p

# Which axes are (rows, channels, *space), (outputs, inputs, *space) and again (rows, channels, *space).
NHWC = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))


def for_loops(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of arrays, with the convolutions that it comes to in the layout that is fast inside a loop.

    Whatever takes gradients in a step of `lax.scan` goes through here. On other backends it is `function` itself.
    """
    if jax.default_backend() != "cpu":
        return function

    def laid_out(*arguments: Any) -> Any:
        jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        found = _evaluated(jaxpr, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), found)

    return laid_out


def _evaluated(closed: Any, arguments: Sequence[Any]) -> list[Any]:
    """What a closed jaxpr gives, its convolutions laid out; what is jitted within it is taken apart as well."""
    jaxpr = closed.jaxpr
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *arguments], strict=True))

    def value(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        given, primitive, params = [value(x) for x in equation.invars], equation.primitive, equation.params
        if primitive is conv_general_dilated_p and len(params["window_strides"]) == 2:
            found = [_convolution(*given, **params)]
        elif primitive is jit_p:
            found = _evaluated(params["jaxpr"], given)
        else:
            found = primitive.bind(*given, **primitive.get_bind_params(params))
            found = found if primitive.multiple_results else [found]
        values.update(zip(equation.outvars, found, strict=True))
    return [value(x) for x in jaxpr.outvars]


def _convolution(x: Any, kernel: Any, *, dimension_numbers: lax.ConvDimensionNumbers, **settings: Any) -> Any:
    """As `lax` has it, by way of `NHWC`."""
    (n, c, *space), (o, i, *taps), (rows, channels, *places) = dimension_numbers
    x, kernel = jnp.transpose(x, (n, *space, c)), jnp.transpose(kernel, (*taps, i, o))
    y = conv_general_dilated_p.bind(x, kernel, dimension_numbers=NHWC, **settings)
    return jnp.transpose(y, np.argsort((rows, *places, channels)).tolist())
