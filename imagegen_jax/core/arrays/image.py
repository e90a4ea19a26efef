"""The two conversions of pixel range: images are uint8 on disk and float32 in [-1, 1] inside."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8

from imagegen_jax.core.model import Batch


def to_float(image: UInt8[Array, "... c"]) -> Float[Array, "... c"]:
    """Converts uint8 in 0..255 to float32 in [-1, 1]: x / 127.5 - 1."""
    return jnp.asarray(image, jnp.float32) / 127.5 - 1.0


def to_uint8(image: Float[Array, "... c"]) -> UInt8[Array, "... c"]:
    """Converts floats in [-1, 1] to uint8 in 0..255, clipped and rounded: the inverse of `to_float`."""
    return jnp.clip(jnp.round((image + 1.0) * 127.5), 0, 255).astype(jnp.uint8)


def is_image(row_shape: Sequence[int], dtype: DTypeLike) -> bool:
    """Tells whether rows of this shape and type are images as the data hold them: uint8 [h w c]."""
    return len(row_shape) == 3 and np.dtype(dtype) == np.uint8


def images_to_float(batch: Batch) -> dict[str, Array]:
    """Converts the images of `batch` ("image", "source") by `to_float`; other leaves, and floats, stay as they are."""
    return {name: to_float(x) if is_image(x.shape[1:], x.dtype) else x for name, x in batch.items()}
