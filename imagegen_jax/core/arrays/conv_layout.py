"""The layout of convolutions in loops of compiled programs, where the CPU backend is slow at their derivatives.

XLA has fast convolutions on CPUs for one layout, NHWC x HWIO -> NHWC. Outside of loops it brings other layouts to that
one, but inside of loops it takes a path that is ten times as slow, and derivatives are made of convolutions in other
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

from imagegen_jax.core.platform.target import platform

# Which axes are (rows, channels, *space), (outputs, inputs, *space) and again (rows, channels, *space).
NHWC = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))


def for_loops(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of arrays with all its convolutions in the layout that is fast inside a loop.

    Whatever takes gradients in a step of `lax.scan` goes through here. Other platforms get `function` as it is.
    """
    if platform() != "cpu":
        return function

    def laid_out(*arguments: Any) -> Any:
        jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        found = _evaluated(jaxpr, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), found)

    return laid_out


def _evaluated(closed: Any, arguments: Sequence[Any]) -> list[Any]:
    """Evaluates a closed jaxpr with its convolutions laid out; functions that are jitted in it are taken apart too."""
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
    """Convolves as `lax` does, but in the layout `NHWC`."""
    (n, c, *space), (o, i, *taps), (rows, channels, *places) = dimension_numbers
    x, kernel = jnp.transpose(x, (n, *space, c)), jnp.transpose(kernel, (*taps, i, o))
    y = conv_general_dilated_p.bind(x, kernel, dimension_numbers=NHWC, **settings)
    return jnp.transpose(y, np.argsort((rows, *places, channels)).tolist())
