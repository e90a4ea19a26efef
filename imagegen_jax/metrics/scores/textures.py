"""How much an image has the texture of another: Gram matrices of MobileNetV1's features, and patches that were copied.

A distance between patches alone is no judge: it takes noise that was averaged for a good texture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.image import to_float
from imagegen_jax.core.platform.target import cached_by_platform
from imagegen_jax.nn.backbones.mobilenet import before_relu6

SAME = 5.0  # grey levels: patches whose root mean square difference is less are copies
EVERY = 8  # pixels between two patches that are looked up
BLOCK = 4096  # patches that distances are taken to at a time


def gram(features: Float[Array, "... c"]) -> Float[Array, "c c"]:
    """Computes G = F^T F / n of n vectors of features (Gatys et al. 2015, arXiv 1505.07376, Eq. 1)."""
    rows = features.reshape(-1, features.shape[-1])
    return jnp.matmul(rows.T, rows, precision="highest") / len(rows)


def gram_distance(
    weights: Mapping[str, Array],
    image: UInt8[np.ndarray, "h w 3"],
    exemplar: UInt8[np.ndarray, "v u 3"],
    layers: Sequence[int],
) -> float:
    """Computes |G - G'| / |G'| in MobileNetV1's layers before ReLU6, the mean over `layers`.

    Layer 0 is conv1, layer k conv_pw_k; the sizes of both images may differ.
    """
    found = _gram_distance(tuple(layers))(weights, to_float(jnp.asarray(image)), to_float(jnp.asarray(exemplar)))
    return float(found)


@cached_by_platform
def _gram_distance(layers: tuple[int, ...]):  # type: ignore[no-untyped-def]
    def distance(weights: Mapping[str, Array], image: Array, exemplar: Array) -> Array:
        a, b = (before_relu6(weights, x[None], max(layers)) for x in (image, exemplar))
        pairs = [(gram(a[layer]), gram(b[layer])) for layer in layers]
        return jnp.mean(jnp.stack([jnp.linalg.norm(x - y) / jnp.linalg.norm(y) for x, y in pairs]))

    return compiling.jit(distance)


def distance_of_halves(
    weights: Mapping[str, Array], exemplar: UInt8[np.ndarray, "h w 3"], layers: Sequence[int]
) -> float:
    """Computes how far an exemplar's left half is from its right one, by `gram_distance`: what to expect of more."""
    half = exemplar.shape[1] // 2
    return gram_distance(weights, exemplar[:, :half], exemplar[:, -half:], layers)


def verbatim_share(image: UInt8[np.ndarray, "h w c"], exemplar: UInt8[np.ndarray, "v u c"], side: int = 16) -> float:
    """Counts the share of square patches of an image, one each 8 pixels, that an exemplar holds as they are.

    As they are: the nearest of all its patches differs by less than 5 of 255 in the root mean square. Raises ValueError
    where one of both is smaller than a patch.
    """
    for name, picture in (("image", image), ("exemplar", exemplar)):
        if min(picture.shape[:2]) < side:
            raise ValueError(f"{name} of {picture.shape[0]}x{picture.shape[1]} pixels: patches have {side}x{side}")
    asked, held = patches(image, side, EVERY), patches(exemplar, side)
    squares, nearest = (asked**2).sum(1), np.full(len(asked), np.inf, np.float32)
    for start in range(0, len(held), BLOCK):
        block = held[start : start + BLOCK]
        distance = squares[:, None] - 2 * asked @ block.T + (block**2).sum(1)
        nearest = np.minimum(nearest, distance.min(1))
    limit = SAME**2 * asked.shape[1]
    return float((nearest < limit).mean())


def patches(image: np.ndarray, side: int, every: int = 1) -> Float[np.ndarray, "n d"]:
    """Cuts out all square patches [side side c], as rows of float32 about the middle of 0..255, row by row."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (side, side), (0, 1))[::every, ::every]
    found = windows.transpose(0, 1, 3, 4, 2).reshape(-1, side * side * image.shape[2])
    return found.astype(np.float32) - 127.5  # small numbers, so that differences of squares keep their digits
