"""The attention that networks compute here in bfloat16, against the plain one in float32: values and gradients.

Both are given the same bfloat16 numbers. The error is the norm of the difference over that of the float32 result. What
bfloat16 rounds (relative 2^-9 each: it keeps 8 bits): the softmax's weights before their product with the values, and
the result; backward the same weights, the slope of the logits, and the result. Errors of that size that are independent
of one another add up to no more than 2^-9 x sqrt(3); the limit is 2^-7, two more bits, since those of the weights of
one row depend on one another. A wrong scale, a transposed head or a mask would give errors of the order of 1.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from imagegen_jax.nn.multihead import attend
from on_accelerator.parts import Settings, Tell
from on_accelerator.speed import timed

LIMIT = 2.0**-7
SHAPES = {  # images, places, heads and channels of a head
    "DiT-XL/2 at 256": (32, 256, 16, 72),
    "ADM, heads of 64 at 32x32": (8, 1024, 8, 64),
    "heads of 128": (8, 256, 4, 128),
    "DDPM and EDM on CIFAR-10, too wide for cuDNN": (32, 256, 1, 256),
}
TINY = {"tiny": (2, 64, 2, 8), "tiny, one head": (2, 64, 1, 32)}
NAMES = ("values", "slope of queries", "slope of keys", "slope of values")


def measure(settings: Settings, tell: Tell) -> None:
    """Tells of errors and times of each shape. Raises SystemExit, when all are told, where one is above the limit."""
    tell({"limit": LIMIT})
    wrong = []
    for name, shape in (TINY if settings.dry_run else SHAPES).items():
        found = of_shape(shape, budget=0.01 if settings.dry_run else 0.5)
        tell({name: found})
        wrong += [f"{name}: {what} off by {error:.4f}" for what, error in found["errors"].items() if not error <= LIMIT]
    if wrong:
        raise SystemExit(f"attention differs from the reference by more than {LIMIT:.4f}: {'; '.join(wrong)}")


def of_shape(shape: tuple[int, ...], budget: float) -> dict[str, Any]:
    """Errors, the kernels at work, and seconds of values with gradients, beside those of the plain product."""
    *given, slope = drawn(shape)
    compiled = {name: with_gradients(name).lower(*given, slope).compile() for name in ("auto", "xla")}
    want = reference(*given, slope)
    got = compiled["auto"](*given, slope)
    return {
        "shape": shape,
        "fused": "fmha" in compiled["auto"].as_text(),  # what cuDNN's custom calls are called
        "errors": {name: error(a, b) for name, a, b in zip(NAMES, got, want, strict=True)},
        "seconds": {name: timed(repeated(program, *given, slope), budget) for name, program in compiled.items()},
    }


def drawn(shape: tuple[int, ...]) -> list[Any]:
    """Queries, keys, values and the slope of what is computed of them, rounded to bfloat16."""
    return [jax.random.normal(key, shape, jnp.bfloat16) for key in jax.random.split(jax.random.key(0), 4)]


@functools.cache
def with_gradients(implementation: Any) -> Any:
    """A compiled function: (queries, keys, values, slope) -> the values and three slopes."""

    def both(q: Any, k: Any, v: Any, slope: Any) -> Any:
        value, back = jax.vjp(functools.partial(attend, implementation=implementation), q, k, v)
        return value, *back(slope)

    return jax.jit(both)


def reference(*given: Any) -> Any:
    """The same in float32, its products too."""
    with jax.default_matmul_precision("highest"):
        return with_gradients("xla")(*(array.astype(jnp.float32) for array in given))


def error(got: Any, want: Any) -> float:
    """The norm of the difference over that of what is wanted."""
    return float(jnp.linalg.norm((got.astype(jnp.float32) - want).ravel()) / jnp.linalg.norm(want.ravel()))


def repeated(program: Any, *given: Any) -> Any:
    """A function that runs a program so many times and waits."""

    def take(times: int) -> None:
        for _ in range(times):
            done = program(*given)
        jax.block_until_ready(done)

    return take
