"""Likelihoods of continuous models as bits per dimension of 8-bit images.

One convention: level v of 0..255 is the interval [v, v + 1), uniform noise makes it continuous, and the 256 intervals
are stretched over the model's range (low, high). A density p of such an image bounds the probability of its levels:
log2 P >= E log2 p + D log2((high - low) / 256), with D values in an image (Theis et al. 2016, arXiv 1511.01844,
section 3.1). So the uniform density costs 8 bits per dimension in any range.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float, UInt8

from imagegen_jax.core.arrays.random import uniform_rows
from imagegen_jax.core.model import PRNGKeys

LEVELS = 256
STEP = 2 / (LEVELS - 1)  # between neighbouring values of an 8-bit image in [-1, 1]


def dequantize(
    images: UInt8[Array, "n h w c"], keys: PRNGKeys, data_range: tuple[float, float]
) -> Float[Array, "n h w c"]:
    """Makes 8-bit images continuous: low + (high - low) (v + u) / 256, with u from U(0, 1) drawn by the row's key.

    Returns float32 in [low, high].

    Raises ValueError for images that are not uint8 and for a range that is not low < high, both finite.
    """
    low, high = _checked(data_range)
    if images.dtype != np.uint8:
        raise ValueError(f"images of type {images.dtype}: must be uint8, the levels that noise is added to")
    noise = uniform_rows(keys, shape=images.shape[1:])
    return low + (high - low) / LEVELS * (jnp.float32(images) + noise)


def bits_per_dim(nats: Float[Array, "*shape"], image_shape: tuple[int, ...]) -> Float[Array, "*shape"]:
    """Turns -log P of whole 8-bit images, in nats, into bits for each channel of each pixel: nats / (D log 2)."""
    return nats / (math.prod(image_shape) * math.log(2))


def density_to_bits_per_dim(
    nats: Float[Array, "*shape"], image_shape: tuple[int, ...], data_range: tuple[float, float]
) -> Float[Array, "*shape"]:
    """Turns -log p of whole dequantised images in `data_range`, in nats, into bits per dimension.

    (nats / D + log(256 / (high - low))) / log 2

    The second term is log 256 in [0, 1] and log 128 in [-1, 1]. Raises ValueError for a range that is not low < high,
    both finite.
    """
    low, high = _checked(data_range)
    return bits_per_dim(nats + math.prod(image_shape) * math.log(LEVELS / (high - low)), image_shape)


def log_prob_of_level(
    x: Float[Array, "*shape"], mean: Float[Array, "*shape"], log_variance: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Returns log P that a normal value rounds to the level of the 8-bit image `x` in [-1, 1].

    The outermost levels take in the tails: Ho et al. (2020, arXiv 2006.11239, Eq. 13).
    """
    scale = jnp.exp(-log_variance / 2)
    above, below = (x + STEP / 2 - mean) * scale, (x - STEP / 2 - mean) * scale
    # log(cdf(above) - cdf(below)), on the side of the mean where neither is near 1
    flip = above + below > 0
    high, low = jnp.where(flip, -below, above), jnp.where(flip, -above, below)
    inside = log_ndtr(high) + jnp.log1p(-jnp.exp(jnp.minimum(log_ndtr(low) - log_ndtr(high), -1e-7)))
    return jnp.where(x < -0.999, log_ndtr(above), jnp.where(x > 0.999, log_ndtr(-below), inside))


def mean_and_standard_error(values: Float[Array | np.ndarray, " n"]) -> tuple[float, float]:
    """Returns the mean of independent values and its standard error: their deviation (n - 1) over sqrt(n).

    Raises ValueError for values that are not [N] with N of at least 2, or not finite.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"values of shape {values.shape}: a standard error needs [N] with N of at least 2")
    if not np.isfinite(values).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(values))} of {len(values)} values are NaN or infinite")
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def _checked(data_range: tuple[float, float]) -> tuple[float, float]:
    low, high = data_range
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"data_range={data_range}: must be (low, high) with low < high, both finite")
    return low, high
