"""Images that a network goes by and sees beside the noisy one: of low resolution, in grey, or with a hole.

Concatenation, as SR3 has it (Saharia et al. 2022, arXiv 2104.07636, section 2) and ADM's upsampler (Dhariwal & Nichol
2021, arXiv 2105.05233). A model's `source_shape` is that of the source as the data hold it; the network enlarges it.
A source with a hole is RGBA, and transparent there (`data.Erased`): the network sees the mask as a channel.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from imagegen_jax.core.model import Batch, check_condition_rows

Shape = tuple[int, int, int]


def source_rows(shape: Shape | None) -> dict[str, jax.ShapeDtypeStruct]:
    """The `condition_rows` of a model whose sources have this shape; {} for None."""
    return {} if shape is None else {"source": jax.ShapeDtypeStruct(shape, np.uint8)}


def source_of(model: Any, batch: Batch) -> dict[str, Float[Array, "b h w s"]]:
    """What the network of `model` is told beside labels: its "source" in [-1, 1], or nothing.

    Raises ValueError where it is missing, or has another shape.
    """
    check_condition_rows(model, batch)
    return {} if model.source_shape is None else {"source": batch["source"]}


def check_source_shape(model: Any) -> None:
    """Raises ValueError where sources are larger than the images that are made from them.

    Checked by `init`, and not when the model is made: the two shapes are changed one after the other.
    """
    shape, image = model.source_shape, model.image_shape
    if shape is not None and not (1 <= shape[0] <= image[0] and 1 <= shape[1] <= image[1] and 1 <= shape[2]):
        raise ValueError(
            f"model.source_shape={shape}, model.image_shape={image}: height, width and channels of sources must be at "
            "least 1, and the first two at most those of the images"
        )
