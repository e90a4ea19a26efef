"""What makes a recipe tiny, so that it runs in seconds on a CPU: where the `smoke` of a recipe starts from.

A `smoke` is a mapping of an experiment's fields to values. It needs no more than this where a recipe is small already:

    smoke = {**TINY, "model.network.width": 8}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagegen_jax.data import Digits

TINY: Mapping[str, Any] = {"batch_size": 8, "steps": 8}

UNET: Mapping[str, Any] = {  # of any U-Net, for images of 8x8
    "model.network.width": 8,
    "model.network.multipliers": (1, 2),
    "model.network.blocks": 1,
    "model.network.attention_at": (4,),
}

TRANSFORMER: Mapping[str, Any] = {"model.network.depth": 1, "model.network.width": 16, "model.network.heads": 2}


def on_digits(size: int = 8, channels: int = 1) -> dict[str, Any]:
    """Returns overrides that bring a recipe to the digits that need no download, [size size channels], and `TINY`."""
    return {
        "data": Digits(size=size, channels=channels),
        "model.image_shape": (size, size, channels),
        **TINY,
    }
