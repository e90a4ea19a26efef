"""What makes a recipe tiny, so that it runs in seconds on a CPU: mappings that the `smoke` of a recipe begins with.

A `smoke` maps an experiment's fields to values. Where a recipe is small already, it needs no more than this:

    smoke = {**TINY, "model.network.width": 8}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagegen_jax.data import Digits

TINY: Mapping[str, Any] = {"batch_size": 8, "steps": 8}

UNET: Mapping[str, Any] = {  # for any U-Net, on images of 8x8
    "model.network.width": 8,
    "model.network.multipliers": (1, 2),
    "model.network.blocks": 1,
    "model.network.attention_at": (4,),
}

ONE_LEVEL: Mapping[str, Any] = {"model.network.multipliers": (1,), "model.network.attention_at": ()}  # of a U-Net

TRANSFORMER: Mapping[str, Any] = {"model.network.depth": 1, "model.network.width": 16, "model.network.heads": 2}


def on_digits(size: int = 8, channels: int = 1) -> dict[str, Any]:
    """Returns `TINY`, and overrides that put a recipe on digits [size size channels], which need no download."""
    return {
        "data": Digits(size=size, channels=channels),
        "model.image_shape": (size, size, channels),
        **TINY,
    }
