"""Parts of a batch, which a gradient is accumulated over to save memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from imagegen_jax.core.platform.target import platform


def scan_parts(
    step: Callable[[Any, Any], tuple[Any, Any]], start: Any, rows: Any, microbatches: int
) -> tuple[Any, Any]:
    """Goes through a batch in so many parts, by `jax.lax.scan`: `step` takes what was carried and a part.

    Rows are split interleaved: each device then keeps its own, where contiguous parts would have to be moved between
    devices.
    """
    parts = jax.tree.map(lambda x: x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1), rows)
    # Convolution gradients inside a loop are ten times slower on the CPU backend: there, no loop is left.
    unroll = microbatches if platform() == "cpu" else 1
    return jax.lax.scan(step, start, parts, unroll=unroll)
