"""Affine maps of one image's pixel coordinates and colours, for augmentation inside `jit`, and small ones of a batch.

Coordinates are (row, column, 1), in pixels from the centre of the image; colours are (red, green, blue, 1).
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from imagegen_jax.core.config.bounds import NonNegative
from imagegen_jax.core.model import Batch, PRNGKey, PRNGKeys, Scalar
from imagegen_jax.nn.upfirdn import Taps, normalised, upfirdn

PlaneMatrix = Float[Array, "3 3"]
ColourMatrix = Float[Array, "4 4"]
OneImage = Float[Array, "h w c"]

# The low pass of the wavelet sym6, which is orthogonal to its own shifts by 2 (Daubechies 1992): doubling with it and
# halving with its mirror image gives each pixel back.
SYM6: Taps = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
_MARGIN = len(SYM6) // 2  # of finer pixels around the image, where the filter sees the mirrored image
# Finer pixel j is where pixel (j - _OFFSET) / 2 would be: the wavelet is not quite symmetric, or this would be 1/2.
_OFFSET = sum(k * tap for k, tap in enumerate(SYM6)) / sum(SYM6) - (_MARGIN - 1)

# --- coordinates -----------------------------------------------------------------------------------------------------


def scaling(rows: float | Scalar, columns: float | Scalar) -> PlaneMatrix:
    """Scales away from the centre, by a factor for rows and one for columns."""
    return jnp.diag(jnp.stack([jnp.float32(rows), jnp.float32(columns), jnp.float32(1)]))


def translation(rows: float | Scalar, columns: float | Scalar) -> PlaneMatrix:
    """Moves by so many rows and columns of pixels."""
    return jnp.eye(3).at[0, 2].set(rows).at[1, 2].set(columns)


def rotation(angle: Scalar) -> PlaneMatrix:
    """Rotates about the centre."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.eye(3).at[:2, :2].set(jnp.array([[cos, -sin], [sin, cos]]))


def warp(image: OneImage, where_from: PlaneMatrix) -> OneImage:
    """Returns the image whose pixel at x is the given image's at `where_from` x; beyond its border that is mirrored.

    As in ADA (arXiv 2006.06676, appendix B), the image is doubled, read bilinearly on the finer grid, and halved. The
    identity gives the image back.

    It differs from the authors' code in where the mirror stands: at the edge of the outermost pixels, which then occur
    twice, where theirs stands in their middle. Whatever lies beyond the border is shifted by a pixel.
    """
    pad = ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0))
    fine = upfirdn(jnp.pad(image, pad, mode="symmetric")[None], normalised(SYM6, 2.0), up=2, pad=(0, -1))[0]
    height, width = image.shape[:2]
    rows, columns = (_fine_positions(side) for side in (height, width))
    at = jnp.stack([*jnp.meshgrid(rows, columns, indexing="ij"), jnp.ones((len(rows), len(columns)))])
    row, column, _ = jnp.einsum("ij,jrc->irc", where_from, at)
    moved = _bilinear(fine, 2 * row + height - 1 + _OFFSET, 2 * column + width - 1 + _OFFSET)
    return upfirdn(moved[None], normalised(SYM6[::-1]), down=2)[0]


def _fine_positions(side: int) -> Float[Array, " n"]:
    """Returns where the finer pixels that halving reads lie, in whole pixels from the centre."""
    margin = _MARGIN - 1
    return (jnp.arange(-margin, 2 * side + margin) - _OFFSET - (side - 1)) / 2


def _bilinear(fine: OneImage, row: Float[Array, "r c"], column: Float[Array, "r c"]) -> OneImage:
    """Interpolates between the four finer pixels around a place; places count from the first one that is not margin."""
    row, column = _mirrored(row, fine.shape[0]), _mirrored(column, fine.shape[1])
    top, left = jnp.floor(row), jnp.floor(column)
    down, right = (row - top)[..., None], (column - left)[..., None]
    rows, columns = top.astype(jnp.int32) + _MARGIN, left.astype(jnp.int32) + _MARGIN

    def line(rows: Int[Array, "r c"]) -> OneImage:
        one, two = fine[rows, columns], fine[rows, columns + 1]
        return one + right * (two - one)

    above, below = line(rows), line(rows + 1)
    return above + down * (below - above)


def _mirrored(place: Float[Array, "r c"], length: int) -> Float[Array, "r c"]:
    """Mirrors places beyond an axis of `length` and its margins at the image's border; leaves the others alone."""
    side, border = length - 2 * _MARGIN, _OFFSET - 1  # where -1/2, in whole pixels, lies
    along = jnp.mod(place - border, 2 * side)
    folded = border + jnp.minimum(along, 2 * side - along)
    return jnp.where((place >= -_MARGIN) & (place <= side + _MARGIN - 1), place, folded)


# --- colours ---------------------------------------------------------------------------------------------------------

_GREY = np.full((3, 3), 1 / 3, np.float32)  # the projection on the grey axis


def _homogeneous(matrix: Array | np.ndarray) -> ColourMatrix:
    return jnp.eye(4).at[:3, :3].set(matrix)


def brightness(by: Scalar) -> ColourMatrix:
    """Adds the same amount to all channels."""
    return jnp.eye(4).at[:3, 3].set(by)


def contrast(by: Scalar) -> ColourMatrix:
    """Scales colours away from middle grey."""
    return _homogeneous(by * jnp.eye(3))


def luma_flip() -> ColourMatrix:
    """Swaps black for white, and keeps hue and saturation."""
    return _homogeneous(jnp.eye(3) - 2 * _GREY)


def hue(angle: Scalar) -> ColourMatrix:
    """Rotates colours about the grey axis (Rodrigues' formula)."""
    cross = jnp.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return _homogeneous(jnp.cos(angle) * jnp.eye(3) + (1 - jnp.cos(angle)) * _GREY + jnp.sin(angle) * cross)


def saturation(by: Scalar) -> ColourMatrix:
    """Scales colours away from the grey axis."""
    return _homogeneous(_GREY + by * (jnp.eye(3) - _GREY))


def recolour(image: OneImage, matrix: ColourMatrix) -> OneImage:
    """Multiplies each pixel's colour by the matrix.

    A grey image is taken as three equal channels, and their mean is the result.

    Raises ValueError where there are neither 1 nor 3 channels.
    """
    if image.shape[-1] == 3:
        return image @ matrix[:3, :3].T + matrix[:3, 3]
    if image.shape[-1] == 1:
        row = jnp.mean(matrix[:3], axis=0)
        return image * jnp.sum(row[:3]) + row[3]
    raise ValueError(f"colours of {image.shape[-1]} channels cannot be augmented: 1 or 3 can")


# --- as an augmentation -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class SmallWarps:
    """Turns, zooms, stretches, slants and moves images of some classes a little, as a writer or a camera would.

    Each is drawn by itself, from a normal distribution with the deviation given, and all are one interpolation; the
    image goes on beyond its border as its mirror image. Images of other classes stay as they are. Networks are not
    told, as `EDMAugment` tells them: what comes of it is to pass for an image of the class.
    """

    labels: tuple[int, ...] = ()  # the classes; (): all images
    turn: NonNegative = 5.0  # degrees
    zoom: NonNegative = 0.05  # of the logarithm of the factor
    stretch: NonNegative = 0.07  # likewise, across over down
    slant: NonNegative = 0.08  # columns a row
    shift: NonNegative = 0.03  # of the side, down and across

    def __call__(self, batch: Batch, keys: PRNGKeys) -> Batch:
        """Warps the images of a batch, each by its own key."""
        image = batch["image"]
        warped = jax.vmap(self._one)(image, keys)
        if not self.labels:
            return {**batch, "image": warped}
        chosen = jnp.isin(batch["label"], jnp.asarray(self.labels))
        return {**batch, "image": jnp.where(chosen[:, None, None, None], warped, image)}

    def _one(self, image: Float[Array, "h w c"], key: PRNGKey) -> Float[Array, "h w c"]:
        height, width, _ = image.shape
        return jnp.clip(warp(image, self.where_from(key, (height, width))), -1, 1)

    def where_from(self, key: PRNGKey, size: tuple[int, int]) -> PlaneMatrix:
        """Draws the matrix from a pixel of the new image to the place it comes from."""
        turn, zoom, stretch, slant, down, right = jax.random.normal(key, (6,))
        across = jnp.exp(self.zoom * zoom + self.stretch / 2 * stretch)
        along = jnp.exp(self.zoom * zoom - self.stretch / 2 * stretch)
        matrix = scaling(1 / along, 1 / across) @ rotation(math.radians(self.turn) * turn)
        matrix = matrix @ jnp.eye(3).at[1, 0].set(self.slant * slant)
        return matrix @ translation(self.shift * size[0] * down, self.shift * size[1] * right)
