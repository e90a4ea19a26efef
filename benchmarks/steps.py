"""What is timed on this project's side: training steps, and single convolutions with their gradients."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from sides import Step

from imagegen_jax.core.state import create
from imagegen_jax.core.step import RunConstants, StepSpec, train_step


def compiled_step(spec: StepSpec, due: tuple[str, ...], batch: Any, options: dict[str, str]) -> Any:
    """The step of these phases, compiled for a batch of these shapes: no array is made."""
    key = jax.random.key(0)
    state = jax.eval_shape(functools.partial(_start, spec), key, batch)
    step = functools.partial(train_step, spec, None, due)
    run = RunConstants(key, jnp.int32(1000))
    return jax.jit(step, donate_argnums=0, compiler_options=options).lower(state, batch, run).compile()


def training_step(spec: StepSpec, due: tuple[str, ...], batch: Any, options: dict[str, str]) -> Step:
    """A function that takes one step of these phases, on images that are given."""
    key = jax.random.key(0)
    run = RunConstants(key, jnp.int32(1000))
    compiled = compiled_step(spec, due, batch, options)
    state = [jax.jit(functools.partial(_start, spec))(key, batch)]

    def one() -> None:
        state[0], _ = jax.block_until_ready(compiled(*state, batch, run))

    return one


def _start(spec: StepSpec, key: Any, batch: Any) -> Any:
    return create(spec.model.init(key, batch), spec.optim, spec.averages)


def convolution(part: str, layer: tuple[int, ...], batch: int, dtype: str, options: dict[str, str]) -> Step:
    """A function that takes one of `sides.PARTS`; a layer is the side of its features, channels, kernel and stride."""
    side, inputs, outputs, kernel, stride = layer
    x, weight = jnp.ones((batch, side, side, inputs), dtype), jnp.ones((kernel, kernel, inputs, outputs), dtype)

    def forward(x: Any, weight: Any) -> Any:
        pad = ((kernel - 1) // 2,) * 2
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, weight, (stride,) * 2, (pad, pad), dimension_numbers=layout)

    def gradient(which: int, x: Any, weight: Any, slope: Any) -> Any:
        return jax.vjp(forward, x, weight)[1](slope)[which]

    if part == "forward":
        function: Any = forward
        given: tuple[Any, ...] = (x, weight)
    else:
        function = functools.partial(gradient, {"input gradient": 0, "weight gradient": 1}[part])
        given = (x, weight, jax.jit(forward)(x, weight))
    compiled = jax.jit(function, compiler_options=options).lower(*given).compile()
    return lambda: jax.block_until_ready(compiled(*given))
