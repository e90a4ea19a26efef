"""The weight gradient of convolutions on a CPU: XLA's own, and what could take its place in a training step.

    python benchmarks/weight_gradient.py

The ways, each as one compiled program in float32:

    xla         the gradient of `lax.conv_general_dilated`, with the core's compiler options ("option") and without
    views       a matrix product for each place of the kernel, of the images shifted by that place
    rows        the same of all places of a row of the kernel at once
    parts of N  XLA's own of N parts of the batch, summed

Milliseconds of all processors for a call, the least of the turns: on a busy machine they say more than the clock, and
how evenly the work lies on both cores is not in them. Writes benchmarks/results/weight_gradient.json.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from kept import Kept, settings_of
from machine import write_result
from sides import described

from imagegen_jax.core.compile import compiler_options

LAYOUT = ("NHWC", "HWIO", "NHWC")
LAYERS = ((64, 32, 32, 3, 1), (32, 64, 64, 3, 1), (32, 64, 128, 4, 2), (32, 128, 128, 3, 1))  # as `gan.py` has them
Layer = tuple[int, int, int, int, int]  # side of the features, channels in and out, kernel, stride


def by_xla(layer: Layer, x: Any, slope: Any) -> Any:
    """Derives the convolution by its kernel."""
    _, inputs, outputs, kernel, stride = layer
    pad = ((kernel - 1) // 2,) * 2

    def convolved(weight: Any) -> Any:
        return jax.lax.conv_general_dilated(x, weight, (stride,) * 2, (pad, pad), dimension_numbers=LAYOUT)

    return jax.vjp(convolved, jnp.zeros((kernel, kernel, inputs, outputs)))[1](slope)[0]


def by_parts(parts: int, layer: Layer, x: Any, slope: Any) -> Any:
    """Sums XLA's gradients of parts of the batch."""
    pairs = zip(jnp.split(x, parts), jnp.split(slope, parts), strict=True)
    return functools.reduce(jnp.add, [by_xla(layer, *pair) for pair in pairs])


def by_products(together: bool, layer: Layer, x: Any, slope: Any) -> Any:
    """Multiplies shifted images with slopes; those of a row of the kernel `together`, or each by itself."""
    _, inputs, outputs, kernel, stride = layer
    pad, (height, width) = ((kernel - 1) // 2,) * 2, slope.shape[1:3]
    x, flat = jnp.pad(x, ((0, 0), pad, pad, (0, 0))), slope.reshape(-1, outputs)

    def view(i: int, j: int) -> Any:
        end = (len(x), i + stride * (height - 1) + 1, j + stride * (width - 1) + 1, inputs)
        return jax.lax.slice(x, (0, i, j, 0), end, (1, stride, stride, 1)).reshape(-1, inputs)

    def row(i: int) -> Any:
        views = [view(i, j) for j in range(kernel)]
        if together:
            return (jnp.concatenate(views, axis=1).T @ flat).reshape(kernel, inputs, outputs)
        return jnp.stack([one.T @ flat for one in views])

    return jnp.stack([row(i) for i in range(kernel)])


WAYS: dict[str, tuple[Callable[..., Any], bool]] = {  # way -> function, and whether the option is on
    "xla, option": (by_xla, True),
    "xla": (by_xla, False),
    "views": (functools.partial(by_products, False), False),
    "rows": (functools.partial(by_products, True), False),
    "parts of 2": (functools.partial(by_parts, 2), False),
    "parts of 4": (functools.partial(by_parts, 4), False),
}


def timed(layer: Layer, batch: int, turns: int) -> dict[str, Any]:
    """Milliseconds of each way, and the largest difference of their results from the first's, over its largest."""
    side, inputs, outputs, _, stride = layer
    random, small = np.random.default_rng(0), side // stride
    x = jnp.asarray(random.standard_normal((batch, side, side, inputs)), jnp.float32)
    slope = jnp.asarray(random.standard_normal((batch, small, small, outputs)), jnp.float32)
    milliseconds: dict[str, float] = {}
    first, difference = None, 0.0
    for name, (way, option) in WAYS.items():
        options = compiler_options() if option else {}
        compiled = jax.jit(functools.partial(way, layer), compiler_options=options).lower(x, slope).compile()
        found = np.asarray(compiled(x, slope))
        first = found if first is None else first
        difference = max(difference, float(np.abs(found - first).max() / np.abs(first).max()))
        milliseconds[name] = round(min(_one(compiled, x, slope) for _ in range(turns)), 1)
    return {"milliseconds": milliseconds, "largest_difference": difference}


def _one(compiled: Any, *arguments: Any) -> float:
    start = time.process_time()
    jax.block_until_ready(compiled(*arguments))
    return 1000 * (time.process_time() - start)


def main() -> None:
    """Times all layers, and stores each as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    kept = Kept("weight_gradient", settings_of(options))
    layers = {
        described(layer): kept.part(described(layer), functools.partial(timed, layer, options.batch, options.turns))
        for layer in LAYERS
    }
    write_result("weight_gradient", {"batch": options.batch, "layers": layers})
    kept.done()


if __name__ == "__main__":
    main()
