"""Resizing before feature extraction. A Frechet distance depends on the filter, so each one here has a name.

Parmar et al. 2022 measured by how much: "On Aliased Resizing and Surprising Subtleties in GAN Evaluation", arXiv
2104.11222.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, UInt8
from numpy import ndarray

CUBIC = -0.5  # Pillow's `a` (Keys 1981); TensorFlow and torch take -0.75


def resize(images: UInt8[ndarray | Array, "n h w c"], size: int, kind: str) -> Float[Array, "n s s c"]:
    """Resizes images to size x size, whatever their proportions, as float32 in 0..255. It works inside `jit`.

    Args:
      images: uint8, [N H W C].
      size: height and width of the result; "none" does not look at it.
      kind: one of
        "clean": Pillow's antialiased bicubic on uint8 images. Both passes are rounded and clipped to whole grey levels,
          so the result equals a file that was resized by Pillow and saved.
        "clean_float": the same filter without rounding, clipped at the end. The clean-fid package does this, since it
          resizes each channel as a float image. Take it to compare with clean-fid's figures, and "clean" wherever
          results must equal images resized before.
        "legacy_tf": TensorFlow 1's bilinear without antialiasing or half-pixel centres, as in the first FID code.
        "legacy_torch": torch's bilinear (align_corners=False) without antialiasing, as in pytorch-fid.
        "none": the images as they are.

    Raises:
      ValueError: another kind, a size below 1, or images that are not uint8 [N H W C].
    """
    if kind not in KINDS:
        raise ValueError(f"resize {kind!r}: must be one of {', '.join(KINDS)}")
    if images.ndim != 4 or images.dtype != jnp.uint8:
        raise ValueError(f"images are {images.dtype} {list(images.shape)}: resize takes uint8 [n h w c]")
    if kind != "none" and size < 1:
        raise ValueError(f"size={size}: must be at least 1")
    x = jnp.asarray(images, jnp.float32)
    if kind == "none":
        return x
    h, w = x.shape[1:3]
    # Only rounding makes the order matter. Pillow 13 starts with the width, unless the height loses more than twice as
    # many pixels as the width; older versions always start with the width.
    for axis in ("h", "w") if size < h and h - size > 2 * (w - size) else ("w", "h"):
        weights = _FILTERS[kind](h if axis == "h" else w, size).astype(np.float32)
        x = jnp.einsum(f"nhwc,s{axis}->{'nhwc'.replace(axis, 's')}", x, weights, precision="highest")
        if kind == "clean":
            x = jnp.clip(jnp.floor(x + 0.5), 0, 255)
    return jnp.clip(x, 0, 255)


def _bicubic(old: int, new: int) -> Float64[ndarray, "new old"]:
    """Makes Pillow's filter: as wide as a new pixel where the image shrinks, and cut at the borders."""
    scale = old / new
    width = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    first = np.maximum((centres - 2 * width + 0.5).astype(int), 0)
    last = np.minimum((centres + 2 * width + 0.5).astype(int), old)
    columns = np.arange(old)
    t = np.abs(columns + 0.5 - centres[:, None]) / width
    near = ((CUBIC + 2) * t - (CUBIC + 3)) * t**2 + 1
    far = CUBIC * (((t - 5) * t + 8) * t - 4)
    weights = np.where(t < 1, near, np.where(t < 2, far, 0.0))
    weights = np.where((columns >= first[:, None]) & (columns < last[:, None]), weights, 0.0)
    return weights / weights.sum(1, keepdims=True)


def _bilinear(positions: Float64[ndarray, " new"], old: int) -> Float64[ndarray, "new old"]:
    """Interpolates between the two old pixels around each position; beyond the end it takes the last pixel."""
    low = np.floor(positions).astype(int)
    high = np.minimum(low + 1, old - 1)
    share = (positions - low)[:, None]
    return np.eye(old)[low] * (1 - share) + np.eye(old)[high] * share


def _bilinear_tf(old: int, new: int) -> Float64[ndarray, "new old"]:
    return _bilinear(np.arange(new) * (old / new), old)


def _bilinear_torch(old: int, new: int) -> Float64[ndarray, "new old"]:
    return _bilinear(np.maximum((np.arange(new) + 0.5) * (old / new) - 0.5, 0.0), old)


_FILTERS: dict[str, Callable[[int, int], Float64[ndarray, "new old"]]] = {
    "clean": _bicubic,
    "clean_float": _bicubic,
    "legacy_tf": _bilinear_tf,
    "legacy_torch": _bilinear_torch,
}
KINDS = (*_FILTERS, "none")
