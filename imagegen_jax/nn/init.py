"""Initialisers of the papers' own code, where it differs from the framework's default."""

from __future__ import annotations

from flax.linen import initializers
from flax.typing import Initializer


def fan_avg_uniform(scale: float = 1.0) -> Initializer:
    """Uniform with variance `scale` / mean(fan in, fan out): the one initialiser of DDPM's code.

    A `scale` of 0 becomes 1e-10, as there: so small that the layer puts out zero, but its inputs get a gradient from
    the first step on.
    """
    return initializers.variance_scaling(max(scale, 1e-10), "fan_avg", "uniform")
