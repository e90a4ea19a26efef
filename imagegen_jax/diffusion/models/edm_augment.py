"""EDM's augmentation (Karras et al. 2022, arXiv 2206.00364, appendix F.2): the network is told, so that nothing leaks.

Each training image is mirrored, scaled, rotated, stretched and shifted at random, and the network is given numbers that
say how. All of them are 0 for an image that was not changed, and sampling asks for such images.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from imagegen_jax.core.config.bounds import Share
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import Image, PRNGKey, PRNGKeys, Scalar
from imagegen_jax.nn import affine

SPREAD = 0.2  # deviation of log2 of scale and stretch
SHIFT = 0.125  # deviation of shifts, as a share of the side


class Augmentation(Protocol):
    """What a diffusion model asks of an augmentation that its network is told of."""

    @property
    def labels(self) -> int:
        """The count of numbers that tell how an image was augmented; all are 0 where it was not."""
        ...

    def __call__(self, images: Image, keys: PRNGKeys) -> tuple[Image, Float[Array, "b a"]]:
        """Augments images, and tells how: [B H W C], [B] -> [B H W C], and these numbers [B A]"""
        ...


AnyAugmentation = Annotated[Augmentation, Choices("imagegen_jax.diffusion.models.edm_augment:EDMAugment")]


class Change(NamedTuple):
    """The changes of one image, in this order; all are 0 for an image that stays as it is."""

    mirrored: Bool[Array, ""]  # left to right
    inverted: Bool[Array, ""]  # upside down
    scale: Scalar  # a of 2^(0.2 a)
    turn: Scalar  # angle
    stretch: Scalar  # a of 2^(0.2 a), and its inverse across
    direction: Scalar  # angle along which it is stretched
    right: Scalar  # over 1/8 of the side
    down: Scalar

    def labels(self) -> Float[Array, " 9"]:
        """Returns the numbers that the network is given.

        These are the fields themselves, but for the turn its cosine less 1 and its sine, and for the stretch the vector
        along its direction.
        """
        _, _, scale, turn, stretch, direction, right, down = self
        numbers = [self.mirrored, self.inverted, scale, jnp.cos(turn) - 1, jnp.sin(turn)]
        numbers += [stretch * jnp.cos(direction), stretch * jnp.sin(direction), right, down]
        return jnp.stack([jnp.float32(x) for x in numbers])

    def where_from(self, height: int, width: int) -> affine.PlaneMatrix:
        """Returns the matrix from a pixel of the new image to the place it comes from, without the flips.

        It is the product of the inverses of all changes, the first one leftmost.
        """
        zoom, stretch = 2 ** (SPREAD * self.scale), 2 ** (SPREAD * self.stretch)
        along, back = affine.rotation(self.direction), affine.rotation(-self.direction)
        matrix = affine.scaling(1 / zoom, 1 / zoom) @ affine.rotation(-self.turn)
        matrix = matrix @ along @ affine.scaling(stretch, 1 / stretch) @ back
        return matrix @ affine.translation(-self.down * SHIFT * height, -self.right * SHIFT * width)


@dataclasses.dataclass(frozen=True)
class EDMAugment:
    """Six transforms, each applied on its own with a `probability` (Table 6).

    As in the authors' code, an image is mirrored left to right half of the time whatever the probability, unless this
    is 0, which leaves images as they are. Pixels from beyond the border are mirrored ones. Raises ValueError for a
    probability that is not from 0 to 1.
    """

    probability: Share = 0.12

    labels: ClassVar[int] = 9

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"augment.probability={self.probability}: must be from 0 to 1, as 0.12 for CIFAR-10")

    def __call__(self, images: Image, keys: PRNGKeys) -> tuple[Image, Float[Array, "b 9"]]:
        """Augments images, and tells how: [B H W C], [B] -> [B H W C], and the labels of `Change` [B 9]"""
        changes = jax.vmap(self.draw)(keys)
        return jax.vmap(changed)(images, changes), jax.vmap(Change.labels)(changes)

    def draw(self, key: PRNGKey) -> Change:
        """Draws a random change."""
        gate_key, flip_key, normal_key, angle_key, upright_key = jax.random.split(key, 5)
        rates = jnp.array([float(self.probability > 0), *[self.probability] * 5])
        mirrors, inverts, scales, turns, stretches, shifts = jax.random.bernoulli(gate_key, rates)
        mirrored, inverted = jax.random.bernoulli(flip_key, shape=(2,))
        scale, stretch, right, down = jax.random.normal(normal_key, (4,))
        turn, direction = jax.random.uniform(angle_key, (2,), minval=-jnp.pi, maxval=jnp.pi)
        direction *= stretches & jax.random.bernoulli(upright_key)  # half of the stretches are upright
        moved = (scale * scales, turn * turns, stretch * stretches, direction, right * shifts, down * shifts)
        return Change(mirrored & mirrors, inverted & inverts, *moved)


def changed(image: Float[Array, "h w c"], change: Change) -> Float[Array, "h w c"]:
    """Changes an image: flips move whole pixels, and all else is one interpolation, left out where nothing needs it."""
    height, width, _ = image.shape
    image = jnp.where(change.mirrored, image[:, ::-1], image)
    image = jnp.where(change.inverted, image[::-1], image)
    warped = affine.warp(image, change.where_from(height, width))
    return jnp.where(jnp.any(jnp.stack(change[2:]) != 0), warped, image)
