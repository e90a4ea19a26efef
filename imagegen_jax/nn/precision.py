"""Mixed precision: parameters, losses and normalisation statistics in float32, the rest in a compute dtype."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp

from imagegen_jax.core.platform.target import platform

Dtype = Literal["auto", "float32", "bfloat16"]


def compute_dtype(name: Dtype) -> jnp.dtype:
    """Returns the dtype that a network computes in; "auto" is bfloat16 on accelerators and float32 on a CPU."""
    if name == "auto":
        name = "float32" if platform() == "cpu" else "bfloat16"
    return jnp.dtype(name)
