"""Similarity of pairs of images: PSNR, SSIM and MS-SSIM.

Images are [N H W C], uint8 or float, with the range of their values given as (low, high): (0, 255) for uint8, (-1, 1)
for models' images. They are moved to [0, 1] first, since SSIM's luminance term depends on where black is. Values
outside the range are an error and not clipped. Everything is computed in float32, in blocks of bounded memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.platform.target import cached_by_platform

Images = Num[Array | np.ndarray, "n h w c"]

WINDOW = 11  # pixels
SIGMA = 1.5  # of the window, in pixels
K1, K2 = 0.01, 0.03
# Exponents of the five scales, finest first (Wang et al. 2003).
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SMALLEST_MS_SSIM = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1  # the coarsest scale still holds a window
BLOCK_VALUES = 2**22  # in a block of each side: 16 MB, and some ten times that in temporary arrays


def psnr(a: Images, b: Images, data_range: tuple[float, float]) -> Float[np.ndarray, " n"]:
    """Computes the peak signal to noise ratio in decibels; inf for equal images.

    It is 10 log10((high - low)^2 / mean squared error).

    Raises ValueError for unequal shapes, values outside `data_range` or not finite.
    """
    low, high = data_range
    error = _of_pairs(_mean_squared_error, a, b, data_range)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(np.float64(high - low) ** 2 / error)


def ssim(a: Images, b: Images, data_range: tuple[float, float]) -> Float[np.ndarray, " n"]:
    """Computes structural similarity, at most 1 (Wang et al. 2004, IEEE TIP 13(4), Eq. 13).

    It is the mean over channels and over every place where the 11x11 Gaussian window of sigma 1.5 fits into the image.
    Raises ValueError for unequal shapes, sides below 11, values outside `data_range` or not finite.
    """
    _check_side(a, WINDOW, "ssim")
    return _of_pairs(_ssim, a, b, data_range)


def ms_ssim(a: Images, b: Images, data_range: tuple[float, float]) -> Float[np.ndarray, " n"]:
    """Computes structural similarity over five scales, 0 to 1 (Wang, Simoncelli & Bovik 2003, Asilomar, Eq. 7).

    Between scales 2x2 pixels are averaged; an odd side first repeats its last row. Where contrast and structure
    disagree on average, their term is negative and counts as 0, since it has no real power.
    Raises ValueError for unequal shapes, sides below 161, values outside `data_range` or not finite.
    """
    _check_side(a, SMALLEST_MS_SSIM, "ms_ssim")
    return _of_pairs(_ms_ssim, a, b, data_range)


def _check_side(images: Images, smallest: int, what: str) -> None:
    if images.ndim == 4 and min(images.shape[1:3]) < smallest:
        raise ValueError(f"{what} of images {images.shape}: height and width must be at least {smallest}")


def _checked(images: Images, name: str, data_range: tuple[float, float]) -> np.ndarray:
    images = np.asarray(images)
    low, high = data_range
    if images.ndim != 4 or images.size == 0:
        raise ValueError(f"{name} has shape {images.shape}: must be [N H W C] with at least one image")
    if images.dtype == np.uint8 and (low, high) != (0, 255):
        raise ValueError(f"{name} is uint8 with data_range={data_range}: the range of uint8 images is (0, 255)")
    least, most = images.min(), images.max()  # NaN if any value is
    if not (np.isfinite(least) and np.isfinite(most)):
        raise ValueError(f"{name} holds NaN or infinity")
    if least < low or most > high:
        raise ValueError(f"{name} has values from {least} to {most}, outside data_range={data_range}: clip them first")
    return images


def _of_pairs(
    measure: Callable[..., Any], a: Images, b: Images, data_range: tuple[float, float]
) -> Float[np.ndarray, " n"]:
    """Applies `measure` to all images, block by block: (block of a, block of b, low, high) -> [block]."""
    low, high = data_range
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"data_range={data_range}: must be (low, high) with low < high, both finite")
    if a.shape != b.shape:
        raise ValueError(f"a and b have shapes {a.shape} and {b.shape}: must be equal")
    a, b = _checked(a, "a", data_range), _checked(b, "b", data_range)
    block = max(1, BLOCK_VALUES // math.prod(a.shape[1:]))
    compiled = _compiled(measure)
    results = [compiled(a[i : i + block], b[i : i + block], low, high) for i in range(0, len(a), block)]
    return np.concatenate([np.asarray(result, np.float64) for result in results])


@cached_by_platform
def _compiled(measure: Callable[..., Any]) -> Any:
    return compiling.jit(measure)


def _mean_squared_error(a: Images, b: Images, low: float, high: float) -> Float[Array, " n"]:
    """Computes the error in the images' own units, where the difference of two 8-bit values is exact."""
    return jnp.mean((jnp.float32(a) - jnp.float32(b)) ** 2, axis=(1, 2, 3))


def _ssim(a: Images, b: Images, low: float, high: float) -> Float[Array, " n"]:
    luminance, contrast_structure = _terms(_planes(a, low, high), _planes(b, low, high))
    return jnp.mean(luminance * contrast_structure, axis=(1, 2)).reshape(len(a), -1).mean(1)


def _ms_ssim(a: Images, b: Images, low: float, high: float) -> Float[Array, " n"]:
    x, y = _planes(a, low, high), _planes(b, low, high)
    product: Any = 1.0
    for weight in SCALE_WEIGHTS[:-1]:
        product *= jax.nn.relu(jnp.mean(_terms(x, y)[1], axis=(1, 2))) ** weight
        x, y = _halved(x), _halved(y)
    luminance, contrast_structure = _terms(x, y)
    product *= jax.nn.relu(jnp.mean(luminance * contrast_structure, axis=(1, 2))) ** SCALE_WEIGHTS[-1]
    return product.reshape(len(a), -1).mean(1)


def _planes(images: Images, low: float, high: float) -> Float[Array, "nc h w"]:
    """Puts every channel of every image by itself, in [0, 1]."""
    n, h, w, c = images.shape
    return (jnp.float32(images).transpose(0, 3, 1, 2).reshape(n * c, h, w) - low) / (high - low)


def _terms(x: Float[Array, "p h w"], y: Float[Array, "p h w"]) -> tuple[Float[Array, "p v u"], Float[Array, "p v u"]]:
    """l = (2 mu_x mu_y + C1) / (mu_x^2 + mu_y^2 + C1), cs = (2 sigma_xy + C2) / (sigma_x^2 + sigma_y^2 + C2)."""
    c1, c2 = K1**2, K2**2  # C = (K L)^2 with L = 1
    # Means are taken off first, which leaves variances alone: else flat bright areas had rounding errors as big as C2.
    mean_x, mean_y = (jnp.mean(z, axis=(1, 2), keepdims=True) for z in (x, y))
    x, y = x - mean_x, y - mean_y
    dx, dy, xx, yy, xy = _smoothed(jnp.stack([x, y, x * x, y * y, x * y]))
    mu_x, mu_y = mean_x + dx, mean_y + dy
    luminance = (2 * mu_x * mu_y + c1) / (mu_x**2 + mu_y**2 + c1)
    contrast_structure = (2 * (xy - dx * dy) + c2) / (xx - dx**2 + yy - dy**2 + c2)
    return luminance, contrast_structure


def _smoothed(x: Float[Array, "k p h w"]) -> Float[Array, "k p v u"]:
    """Averages with the Gaussian window, wherever it fits."""
    k, p, h, w = x.shape
    offsets = np.arange(WINDOW) - WINDOW // 2
    window = np.exp(-(offsets**2) / (2 * SIGMA**2))
    taps = jnp.float32(window / window.sum())
    x = x.reshape(k * p, 1, h, w)
    for kernel in (taps[None, None, :, None], taps[None, None, None, :]):
        # Some accelerators' default precision has ten bits, and variances are small differences here.
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", precision=jax.lax.Precision.HIGHEST)
    return x.reshape(k, p, *x.shape[2:])


def _halved(x: Float[Array, "p h w"]) -> Float[Array, "p v u"]:
    p, h, w = x.shape
    x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2)), mode="edge")
    return x.reshape(p, (h + 1) // 2, 2, (w + 1) // 2, 2).mean((2, 4))
