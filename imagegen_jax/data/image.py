"""The two conversions of pixel range, and the random flip. Images are uint8 on disk and float32 in [-1, 1] inside."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from imagegen_jax.core.model import Batch, PRNGKeys


def to_float(image: UInt8[Array, "... c"]) -> Float[Array, "... c"]:
    """uint8 in 0..255 to float32 in [-1, 1]: x / 127.5 - 1."""
    return jnp.asarray(image, jnp.float32) / 127.5 - 1.0


def to_uint8(image: Float[Array, "... c"]) -> UInt8[Array, "... c"]:
    """float in [-1, 1] to uint8 in 0..255, clipped and rounded: the inverse of `to_float`."""
    return jnp.clip(jnp.round((image + 1.0) * 127.5), 0, 255).astype(jnp.uint8)


@dataclasses.dataclass(frozen=True)
class HorizontalFlip:
    """Mirrors each image left to right with a probability, inside `jit`, from the key of its own row."""

    probability: float = 0.5

    def __call__(self, batch: Batch, keys: PRNGKeys) -> Batch:
        image = batch["image"]
        flip = jax.vmap(lambda key: jax.random.bernoulli(key, self.probability))(keys)
        return {**batch, "image": jnp.where(flip[:, None, None, None], image[:, :, ::-1], image)}
