"""Small warps of images inside `jit`, so that few images of a class stand for more of them."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import NonNegative
from imagegen_jax.core.model import Batch, PRNGKey, PRNGKeys
from imagegen_jax.nn import affine


@dataclasses.dataclass(frozen=True)
class SmallWarps:
    """Turns, zooms, stretches, slants and moves images of some classes a little, as a writer or a camera would.

    Each is drawn by itself, from a normal distribution with the deviation given, and all are one interpolation; the
    image goes on beyond its border as its mirror image. Images of other classes stay as they are. Networks are not
    told, as `EDMAugment` tells them: what comes of it is to pass for an image of the class.
    """

    labels: tuple[int, ...] = ()  # the classes; (): all images
    turn: NonNegative = 6.0  # degrees
    zoom: NonNegative = 0.08  # of the logarithm of the factor
    stretch: NonNegative = 0.08  # likewise, across over down
    slant: NonNegative = 0.12  # columns a row
    shift: NonNegative = 0.05  # of the side, down and across

    def __call__(self, batch: Batch, keys: PRNGKeys) -> Batch:
        """Warps the images of a batch, each by its own key."""
        image = batch["image"]
        warped = jax.vmap(self._one)(image, keys)
        if not self.labels:
            return {**batch, "image": warped}
        chosen = jnp.isin(batch["label"], jnp.asarray(self.labels))
        return {**batch, "image": jnp.where(chosen[:, None, None, None], warped, image)}

    def _one(self, image: Float[Array, "h w c"], key: PRNGKey) -> Float[Array, "h w c"]:
        return jnp.clip(affine.warp(image, self.where_from(key, image.shape[:2])), -1, 1)

    def where_from(self, key: PRNGKey, size: tuple[int, int]) -> affine.PlaneMatrix:
        """Draws the matrix from a pixel of the new image to the place it comes from."""
        turn, zoom, stretch, slant, down, right = jax.random.normal(key, (6,))
        across = jnp.exp(self.zoom * zoom + self.stretch / 2 * stretch)
        along = jnp.exp(self.zoom * zoom - self.stretch / 2 * stretch)
        matrix = affine.scaling(1 / along, 1 / across) @ affine.rotation(math.radians(self.turn) * turn)
        matrix = matrix @ jnp.eye(3).at[1, 0].set(self.slant * slant)
        return matrix @ affine.translation(self.shift * size[0] * down, self.shift * size[1] * right)
