"""How often a function is traced: a second time for a number that should have been data is a second compilation."""

from __future__ import annotations

import functools

import jax


def counted(function, **options):
    """The function under ``jax.jit`` with these options, and a list that grows by one at each tracing."""
    traces = []

    @functools.partial(jax.jit, **options)
    def program(*arguments):
        traces.append(arguments)
        return function(*arguments)

    return program, traces
