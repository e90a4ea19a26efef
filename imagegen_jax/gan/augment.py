"""Augmentation of all images that a discriminator sees, so that it cannot learn a small training set by heart.

Real and generated images alike go through the same random transforms, and gradients pass through these to the
generator. Where an image is left unchanged often enough, the generator can match the augmented data only by matching
the data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.core.arrays.random import streams
from imagegen_jax.core.config.bounds import Count, Positive, Share
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import Image, PRNGKey, PRNGKeys, Scalar
from imagegen_jax.nn import affine

ADAState = Mapping[str, Any]


class Augmentation(Protocol):
    """Changes images at random, with a key for each. `Adaptive` ones are given the probability of a change too."""

    def __call__(self, images: Image, keys: PRNGKeys) -> Image:
        """Changes each image by its key: [B H W C] -> [B H W C]"""
        ...


@runtime_checkable
class Adaptive(Protocol):
    """An augmentation whose probability p follows the discriminator. All that it remembers is in its state."""

    @property
    def signed(self) -> bool:
        """Tells whether it reads the signs of logits, which must then be judgements (`nn.objectives`)."""
        ...

    def start(self) -> ADAState:
        """Returns the state before the first step, with "p" in it."""
        ...

    def follow(self, state: ADAState, real_logits: Float[Array, " b"], step: Int[Array, ""]) -> ADAState:
        """Returns the state after the discriminator judged a batch of real images."""
        ...

    def __call__(self, images: Image, keys: PRNGKeys, p: Scalar) -> Image:
        """Changes each image by its key, each transform with probability p: [B H W C] -> [B H W C]"""
        ...


AnyAugmentation = Annotated[Augmentation | Adaptive, Choices("imagegen_jax.gan.augment:DiffAugment, ADA")]

# --- DiffAugment -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class DiffAugment:
    """Changes every image each time: colour, translation, cutout (Zhao et al. 2020, arXiv 2006.10738, section 4.1)."""

    colour: bool = True  # brightness, saturation and contrast
    translation: Share = 0.125  # largest shift, as a share of the side; zeros come in
    cutout: Share = 0.5  # side of the square that becomes zero, as a share of the image's

    def __call__(self, images: Image, keys: PRNGKeys) -> Image:
        """Changes each image by its key: [B H W C] -> [B H W C]; colours may leave [-1, 1]"""
        return jax.vmap(self._one)(images, keys)

    def _one(self, image: Float[Array, "h w c"], key: PRNGKey) -> Float[Array, "h w c"]:
        of_colour, of_shift, of_cutout = jax.random.split(key, 3)
        if self.colour:
            brightness, saturation, contrast = jax.random.uniform(of_colour, (3,))
            image = image + (brightness - 0.5)
            grey = jnp.mean(image, axis=-1, keepdims=True)
            image = grey + 2 * saturation * (image - grey)
            mean = jnp.mean(image)
            image = mean + (0.5 + contrast) * (image - mean)
        if self.translation > 0:
            image = _shift(image, of_shift, self.translation)
        return image * _uncovered(image, of_cutout, self.cutout) if self.cutout > 0 else image


def _shift(image: Float[Array, "h w c"], key: PRNGKey, share: float) -> Float[Array, "h w c"]:
    """Shifts by whole pixels, drawn uniformly up to a share of the side; zeros come in.

    It multiplies by shifted identities, which needs neither gather nor scatter.
    """
    for axis, axis_key in enumerate(jax.random.split(key)):
        side = image.shape[axis]
        most = round(share * side)
        by = jax.random.randint(axis_key, (), -most, most + 1)
        shifted = (jnp.arange(side)[:, None] - by == jnp.arange(side)).astype(image.dtype)
        image = jnp.moveaxis(jnp.tensordot(shifted, image, (1, axis)), 0, axis)
    return image


def _uncovered(image: Float[Array, "h w c"], key: PRNGKey, share: float) -> Float[Array, "h w 1"]:
    """Returns 0 inside a square and 1 elsewhere.

    The square's centre is drawn uniformly from the image, so that it may hang over the border.
    """

    def inside(side: int, key: PRNGKey) -> Array:
        size = round(share * side)
        start = jax.random.randint(key, (), 0, side + (1 - size % 2)) - size // 2
        return (jnp.arange(side) >= start) & (jnp.arange(side) < start + size)

    rows, columns = (inside(side, k) for side, k in zip(image.shape[:2], jax.random.split(key), strict=True))
    return 1 - (rows[:, None] & columns)[..., None].astype(image.dtype)


# --- ADA -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ADA:
    """Adaptive discriminator augmentation (Karras et al. 2020, arXiv 2006.06676): blits, geometry and colour (bgc).

    Each transform is drawn with a probability p, which follows how sure the discriminator is of real images: r_t of
    Eq. 1. While p stays below about 0.8, the generator does not learn the transforms (section 2.2). Beyond the border,
    the image is mirrored. State: p, and the sums of signs and of rows since p last changed.
    """

    target: float | None = 0.6  # of r_t = E[sign(D(x))]; None: p stays as it is
    p: Share = 0.0  # at the start
    images: Positive = 500_000.0  # real images seen while p goes from 0 to 1 at its fastest
    every: Count = 4  # steps between two changes of p
    blits: bool = True  # flips, quarter turns, shifts by whole pixels
    geometry: bool = True  # scales, rotations, shifts by fractions of pixels
    colour: bool = True  # brightness, contrast, luma flips, hue, saturation

    def __post_init__(self) -> None:
        if not (0 <= self.p <= 1 and self.images > 0 and self.every >= 1):
            raise ValueError(f"{self}: p must be from 0 to 1, images above 0, every at least 1")

    @property
    def signed(self) -> bool:
        """Tells whether it reads the signs of logits: where p moves."""
        return self.target is not None

    def start(self) -> ADAState:
        """Returns the initial p, and empty sums."""
        return {"p": jnp.float32(self.p), "signs": jnp.float32(0), "rows": jnp.float32(0)}

    def follow(self, state: ADAState, real_logits: Float[Array, " b"], step: Int[Array, ""]) -> ADAState:
        """Moves p every few steps: up where r_t is above its target, else down.

        It moves by the rows seen since the last move, as a share of `images`.
        """
        if self.target is None:
            return state
        signs, rows = state["signs"] + jnp.sum(jnp.sign(real_logits)), state["rows"] + len(real_logits)
        moved = jnp.clip(state["p"] + jnp.sign(signs / rows - self.target) * rows / self.images, 0, 1)
        due = (step + 1) % self.every == 0
        return {
            "p": jnp.where(due, moved, state["p"]),
            "signs": jnp.where(due, 0.0, signs),
            "rows": jnp.where(due, 0.0, rows),
        }

    def __call__(self, images: Image, keys: PRNGKeys, p: Scalar) -> Image:
        """Changes each image by its key, each transform with probability p: [B H W C] -> [B H W C].

        Images have 1 or 3 channels; colours may leave [-1, 1].
        """
        _, height, width, _ = images.shape
        of_places, of_colours = streams(keys, 2)
        if self.blits or self.geometry:
            matrices = jax.vmap(lambda key: self._where_from(key, p, (height, width)))(of_places)
            images = jax.vmap(affine.warp)(images, matrices)
        if self.colour:
            images = jax.vmap(affine.recolour)(images, jax.vmap(lambda key: _colour(key, p))(of_colours))
        return images

    def _where_from(self, key: PRNGKey, p: Scalar, size: tuple[int, int]) -> affine.PlaneMatrix:
        """Maps a pixel of the new image to where it comes from: the transforms' inverses, the first one leftmost."""
        of_blits, of_geometry = jax.random.split(key)
        matrix = _blits(of_blits, p, size) if self.blits else jnp.eye(3)
        return matrix @ _geometry(of_geometry, p, size) if self.geometry else matrix


def _blits(key: PRNGKey, p: Scalar, size: tuple[int, int]) -> affine.PlaneMatrix:
    """Draws a flip along x, a rotation by quarter turns, and a translation by whole pixels   (appendix B)"""
    gate, draw = _keys(key, 3)
    flip = jnp.where(jax.random.bernoulli(next(draw)), -1.0, 1.0)
    turns = jax.random.randint(next(draw), (), 0, 4)
    shift = jnp.round(jax.random.uniform(next(draw), (2,), minval=-0.125, maxval=0.125) * jnp.asarray(size))
    matrix = _chosen(next(gate), p, affine.scaling(1.0, flip))
    matrix = matrix @ _chosen(next(gate), p, affine.rotation(turns * (jnp.pi / 2)))
    return matrix @ _chosen(next(gate), p, affine.translation(shift[0], shift[1]))


def _geometry(key: PRNGKey, p: Scalar, size: tuple[int, int]) -> affine.PlaneMatrix:
    """Draws a scale, a rotation, a stretch, another rotation, a translation by fractions of pixels   (appendix B)"""
    gate, draw = _keys(key, 5)
    scale, stretch = 2 ** (0.2 * jax.random.normal(next(draw), (2,)))
    angle, other = jax.random.uniform(next(draw), (2,), minval=-jnp.pi, maxval=jnp.pi)
    shift = 0.125 * jax.random.normal(next(draw), (2,)) * jnp.asarray(size)
    p_rotation = 1 - jnp.sqrt(1 - p)  # of each of two: an image is not rotated with probability 1 - p
    matrix = _chosen(next(gate), p, affine.scaling(1 / scale, 1 / scale))
    matrix = matrix @ _chosen(next(gate), p_rotation, affine.rotation(angle))
    matrix = matrix @ _chosen(next(gate), p, affine.scaling(1 / stretch, stretch))
    matrix = matrix @ _chosen(next(gate), p_rotation, affine.rotation(other))
    return matrix @ _chosen(next(gate), p, affine.translation(shift[0], shift[1]))


def _colour(key: PRNGKey, p: Scalar) -> affine.ColourMatrix:
    """Draws brightness, contrast, a luma flip, hue and saturation   (appendix B)"""
    gate, draw = _keys(key, 5)
    brightness, contrast, saturation = jnp.array([0.2, 0.5, 1.0]) * jax.random.normal(next(draw), (3,))
    angle = jax.random.uniform(next(draw), (), minval=-jnp.pi, maxval=jnp.pi)
    flip = jnp.where(jax.random.bernoulli(next(draw)), affine.luma_flip(), jnp.eye(4))
    matrix = _chosen(next(gate), p, affine.brightness(brightness))
    matrix = _chosen(next(gate), p, affine.contrast(2**contrast)) @ matrix
    matrix = _chosen(next(gate), p, flip) @ matrix
    matrix = _chosen(next(gate), p, affine.hue(angle)) @ matrix
    return _chosen(next(gate), p, affine.saturation(2**saturation)) @ matrix


def _keys(key: PRNGKey, n: int) -> tuple[Iterator[PRNGKey], Iterator[PRNGKey]]:
    """Splits a key in two times `n`: for whether each transform is done, and for how."""
    both = jax.random.split(key, (2, n))
    return iter(both[0]), iter(both[1])


def _chosen(key: PRNGKey, p: Scalar, matrix: Array) -> Array:
    """Returns the matrix with probability p, else the identity."""
    return jnp.where(jax.random.bernoulli(key, p), matrix, jnp.eye(len(matrix)))
