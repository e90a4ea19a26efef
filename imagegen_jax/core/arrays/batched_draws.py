"""Random draws of a program in batches: a network of a hundred arrays is compiled as the draws of each shape alone."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

_DRAWS = ("random_fold_in", "random_split", "random_bits")
_LARGE = 2**18  # numbers: what a draw of so many takes is not the compiler's time, and a copy of it would cost memory


def batch_draws(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function with its equal draws made at once, each from its own key: equal but for rounding.

    For functions that make arrays of random numbers under `jax.jit`, such as `init` of networks. On CPUs each draw
    costs the compiler about 50 ms; those that differ in their keys alone become one draw by `jax.vmap`. Large draws,
    those inside loops and branches, and those of other generators than jax's own stay as they are, and so does a
    function with side effects.
    """

    @functools.wraps(function)
    def batched(*arguments: Any) -> Any:
        program, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        if program.effects:
            return function(*arguments)
        values = _Values(program, jax.tree.leaves(arguments))
        for draws, rest in _levels(program.jaxpr):
            for group in draws:
                values.draw(group)
            values.compute(rest)
        return jax.tree.unflatten(jax.tree.structure(shapes), [values.read(v) for v in program.jaxpr.outvars])

    return batched


class _Values:
    """The values of a program's variables, as far as it has been computed."""

    def __init__(self, program: Any, arguments: Sequence[Any]) -> None:
        self._program = program
        self._known: dict[Any, Any] = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
        self._known |= zip(program.jaxpr.invars, arguments, strict=True)

    def read(self, variable: Any) -> Any:
        return variable.val if isinstance(variable, core.Literal) else self._known[variable]

    def compute(self, equations: Sequence[Any]) -> None:
        """Computes equations in their order."""
        made = [v for equation in equations for v in equation.outvars]
        read = dict.fromkeys(v for equation in equations for v in _variables(equation) if v in self._known)
        names = self._program.jaxpr.debug_info.with_unknown_names()
        part = self._program.jaxpr.replace(
            constvars=[], invars=list(read), outvars=made, eqns=list(equations), debug_info=names
        )
        values = core.jaxpr_as_fun(core.ClosedJaxpr(part, ()))(*map(self.read, read))
        self._known |= zip(made, values, strict=True)

    def draw(self, group: Sequence[Any]) -> None:
        """Computes draws that differ in their operands alone."""
        if len(group) == 1 or any(v.aval.size >= _LARGE for v in group[0].outvars):
            return self.compute(group)
        operands = [[self.read(v) for v in column] for column in zip(*(e.invars for e in group), strict=True)]
        axes = [None if _is_one(column) else 0 for column in operands]
        if not any(axis == 0 for axis in axes):
            return self.compute(group)
        given = [column[0] if axis is None else jnp.stack(column) for column, axis in zip(operands, axes, strict=True)]
        drawn = jax.vmap(_drawing(group[0]), axes)(*given)
        for row, equation in enumerate(group):
            self._known |= zip(equation.outvars, (values[row] for values in drawn), strict=True)


def _levels(jaxpr: Any) -> Iterable[tuple[list[list[Any]], list[Any]]]:
    """Yields the groups of draws that need no draw of a later level, and what can be computed after them."""
    depth: dict[Any, int] = {}
    draws: dict[int, dict[Hashable, list[Any]]] = collections.defaultdict(lambda: collections.defaultdict(list))
    rest: dict[int, list[Any]] = collections.defaultdict(list)
    for equation in _needed(jaxpr):
        level = max((depth.get(v, 0) for v in _variables(equation)), default=0) + _draws(equation)
        depth |= dict.fromkeys(equation.outvars, level)
        if _draws(equation):
            draws[level][_kind(equation) if _by_own_key(equation) else equation.outvars[0]].append(equation)
        else:
            rest[level].append(equation)
    return [(list(draws[level].values()), rest[level]) for level in sorted(draws.keys() | rest.keys())]


def _needed(jaxpr: Any) -> list[Any]:
    """Returns the equations that results depend on: all but what `init` computes to learn shapes."""
    wanted, kept = {v for v in jaxpr.outvars if not isinstance(v, core.Literal)}, []
    for equation in reversed(jaxpr.eqns):
        if not wanted.isdisjoint(equation.outvars):
            wanted |= _variables(equation)
            kept.append(equation)
    return kept[::-1]


def _variables(equation: Any) -> set[Any]:
    return {v for v in equation.invars if not isinstance(v, core.Literal)}


def _draws(equation: Any) -> bool:
    """Tells whether an equation is a draw: a primitive of keys, or a jitted function that has one."""
    inner = _jitted(equation)
    return equation.primitive.name in _DRAWS if inner is None else any(map(_draws, inner.jaxpr.eqns))


def _by_own_key(equation: Any) -> bool:
    """Tells whether a draw is the same by itself and under `jax.vmap`, as threefry promises and "rbg" does not."""
    keys = [v.aval.dtype for v in equation.invars if jax.dtypes.issubdtype(v.aval.dtype, jax.dtypes.prng_key)]
    return all(str(key) == "key<fry>" for key in keys)


def _jitted(equation: Any) -> Any:
    """Returns the program of the jitted function that an equation calls, or None where it calls none."""
    return equation.params["jaxpr"] if equation.primitive.name in ("jit", "pjit") else None


def _kind(equation: Any) -> Hashable:
    """Returns what is equal of draws that differ in their operands alone."""
    inner = _jitted(equation)
    what = tuple(sorted(equation.params.items())) if inner is None else id(inner)
    return equation.primitive, what, tuple((v.aval.shape, v.aval.dtype) for v in equation.invars)


def _drawing(equation: Any) -> Callable[..., Any]:
    inner = _jitted(equation)
    if inner is not None:
        return core.jaxpr_as_fun(inner)
    return lambda *operands: [equation.primitive.bind(*operands, **equation.params)]


def _is_one(values: Sequence[Any]) -> bool:
    """Tells whether operands are one value: the same array, or equal numbers of the program."""
    first = values[0]
    return all(value is first for value in values) or (
        not any(isinstance(value, jax.Array) for value in values) and all(value == first for value in values)
    )
