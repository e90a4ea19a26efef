"""The work of a traced program before it is split over devices: multiplications and additions of its products.

Matrix products, convolutions and cuDNN's attention are counted, twice for each multiply-add; everything else takes its
time by the memory that it moves. Padding counts as the values that it stands for, as in the counts that papers publish,
and the zeros between dilated values do not count, so that the gradient of a layer by its input, or by its weights,
takes as much as the layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.interpreters import partial_eval

_ATTENTION = {  # products of the size of queries x keys that cuDNN's kernels take: the gradient's computes one anew
    "dot_product_attention_fwd_wrapper": 2,
    "dot_product_attention_bwd_wrapper": 5,
}


def flops_of(program: ClosedJaxpr) -> float:
    """Counts the floating-point operations in the products of a traced program; what nothing reads is left out.

    The body of a loop of known length counts as often as it runs, of a loop of unknown length once, and of a choice the
    branch with the most.
    """
    jaxpr, _ = partial_eval.dce_jaxpr(program.jaxpr, [True] * len(program.jaxpr.outvars), instantiate=True)
    return _flops(jaxpr)


def _flops(jaxpr: Jaxpr) -> float:
    return math.fsum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> float:
    name = equation.primitive.name
    if name in _PRODUCTS:
        return _PRODUCTS[name](equation)
    if name in _ATTENTION:
        return _ATTENTION[name] * _pairs(equation)
    inside = [_flops(jaxpr) for jaxpr in _jaxprs(list(equation.params.values()))]
    if name == "scan":
        return float(equation.params["length"] * sum(inside))
    if name == "cond":
        return max(inside, default=0.0)
    if name == "shard_map":
        return float(equation.params["mesh"].size * sum(inside))
    return math.fsum(inside)


def _jaxprs(parameter: Any) -> Iterator[Jaxpr]:
    """Yields the programs in the parameters of an operation."""
    if isinstance(parameter, ClosedJaxpr):
        yield parameter.jaxpr
    elif isinstance(parameter, Jaxpr):
        yield parameter
    elif isinstance(parameter, tuple | list):
        for one in parameter:
            yield from _jaxprs(one)


def _matrix_product(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)


def _convolution(equation: Any) -> float:
    """Counts a convolution's products; by the input's size where a gradient pads it to all windows that touch it."""
    left, right = (variable.aval.shape for variable in equation.invars)
    out, settings = equation.outvars[0].aval.shape, equation.params
    numbers = settings["dimension_numbers"]
    batch, features = out[numbers.out_spec[0]], out[numbers.out_spec[1]]
    taps = [
        min(out[to] / spread, left[at] / stride) * right[tap]
        for at, tap, to, spread, stride in zip(
            numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], settings["lhs_dilation"],
            settings["window_strides"], strict=True,
        )
    ]  # fmt: skip
    return 2.0 * batch * features * right[numbers.rhs_spec[1]] * math.prod(taps)


def _pairs(equation: Any) -> float:
    """Counts the operations of one product of all queries with all keys, [B T N D] with [B S N D]."""
    queries, keys = (variable.aval.shape for variable in equation.invars[:2])
    sequence = 1 if equation.params["layout"] == 0 else 2  # of BTNH; else BNTH
    return 2.0 * math.prod(queries) * keys[sequence]


_PRODUCTS: dict[str, Callable[[Any], float]] = {
    "dot_general": _matrix_product,
    "conv_general_dilated": _convolution,
}
