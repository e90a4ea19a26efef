"""Perceptual path length: measures how smoothly images change between latents (Karras et al. 2019, section 4.1).

arXiv 1812.04948. Lower is smoother. Published values use 100,000 pairs and LPIPS on VGG16 as distance, which is
quadratic in small changes; any other distance gives numbers of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagegen_jax.core.config.given import check_integer
from imagegen_jax.core.model import PRNGKey

Latents = Float[Array, "n *d"]
Images = Float[Array, "n h w c"]
Times = Float[Array, " n"]


def path_length(
    generate: Callable[[Latents], Images],
    distance: Callable[[Images, Images], Float[Array, " n"]],
    sample_latents: Callable[[PRNGKey, int], Latents],
    key: PRNGKey,
    space: Literal["z", "w"],
    sampling: Literal["full", "end"],
    samples: int = 100_000,
    batch_size: int = 100,
    epsilon: float = 1e-4,
    crop_faces: bool = False,
    trim: float = 0.01,
) -> float:
    """E[d(G(path(t)), G(path(t + epsilon))) / epsilon^2] over pairs of latents   (Eq. 2 and 3)

    `space` "z" goes along arcs (`slerp`) between latents [N D]; "w" along lines (`lerp`) between intermediate latents
    [N ...], which `sample_latents` then draws and `generate` takes. `sampling` "full" draws t from U(0, 1); "end" has t
    = 0. With `crop_faces`, `distance` sees only the face in square, aligned portraits, as for published values of
    faces; any resizing is up to `distance`. The lowest and the highest share `trim` of all distances are left out.
    `generate` must be a fixed function, with the same noise for the same row, and compute in float32: steps of 1e-4
    vanish in less. Raises ValueError for values outside their ranges and for distances that are not [N] or not finite.
    """
    _check(space, sampling, samples, batch_size, epsilon, trim)
    interpolate = slerp if space == "z" else lerp

    def images(a: Latents, b: Latents, t: Times) -> Images:
        made = generate(interpolate(a, b, t))
        return face_crop(made) if crop_faces else made

    found = []
    for batch in range(math.ceil(samples / batch_size)):
        of_a, of_b, of_t = jax.random.split(jax.random.fold_in(key, batch), 3)
        a, b = sample_latents(of_a, batch_size), sample_latents(of_b, batch_size)
        t = jax.random.uniform(of_t, (batch_size,)) if sampling == "full" else jnp.zeros(batch_size)
        moved = np.asarray(distance(images(a, b, t), images(a, b, t + epsilon)), np.float64)
        if moved.shape != (batch_size,) or not np.isfinite(moved).all():
            raise ValueError(f"distance of batch {batch}: shape {moved.shape}, must be ({batch_size},) and finite")
        found.append(moved / epsilon**2)
    return _trimmed_mean(np.concatenate(found)[:samples], trim)


def _check(space: str, sampling: str, samples: int, batch_size: int, epsilon: float, trim: float) -> None:
    if space not in ("z", "w") or sampling not in ("full", "end"):
        raise ValueError(f"space={space!r}, sampling={sampling!r}: must be 'z' or 'w', and 'full' or 'end'")
    check_integer(samples, "samples")
    check_integer(batch_size, "batch_size")
    if not 0 < epsilon < math.inf or not 0 <= trim < 0.5:
        raise ValueError(f"epsilon={epsilon}, trim={trim}: must be above 0, and from 0 to below 0.5")


def lerp(a: Latents, b: Latents, t: Times) -> Latents:
    """Goes along the line from a (t = 0) to b (t = 1)."""
    return a + (b - a) * t.reshape(-1, *(1,) * (a.ndim - 1))


def slerp(a: Float[Array, "n d"], b: Float[Array, "n d"], t: Times) -> Float[Array, "n d"]:
    """Goes along the arc from a (t = 0) to b (t = 1) about the origin (Shoemake 1985), with length linear between.

    StyleGAN's evaluation has arcs of length 1, which makes no difference to networks that normalise their latents.
    """
    length_a, length_b = (jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
    along = a / length_a
    across = b / length_b
    cosine = jnp.sum(along * across, axis=-1, keepdims=True)
    across = across - cosine * along
    sine = jnp.linalg.norm(across, axis=-1, keepdims=True)
    across = across / jnp.maximum(sine, jnp.finfo(a.dtype).tiny)  # parallel latents have no arc
    angle = jnp.arctan2(sine, cosine) * t[:, None]
    return lerp(length_a, length_b, t) * (along * jnp.cos(angle) + across * jnp.sin(angle))


def face_crop(images: Images) -> Images:
    """Crops the face of aligned portraits: the middle half of the columns, and half of the rows from 3/8 down."""
    eighth = images.shape[1] // 8
    return images[:, 3 * eighth : 7 * eighth, 2 * eighth : 6 * eighth]


def _trimmed_mean(values: Float[np.ndarray, " n"], trim: float) -> float:
    low = np.quantile(values, trim, method="lower")
    high = np.quantile(values, 1 - trim, method="higher")
    return float(values[(low <= values) & (values <= high)].mean())
