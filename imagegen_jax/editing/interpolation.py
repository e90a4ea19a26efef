"""Interpolation videos: closed, smooth paths through latents, along arcs in z or along lines in w."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from imagegen_jax.core.capabilities import FromLatents, StyleBased
from imagegen_jax.core.model import Batch, Nets
from imagegen_jax.editing.latents import render, style_model
from imagegen_jax.metrics.scores.path_length import lerp, slerp

Between = Callable[[Array, Array, Float[Array, " n"]], Array]  # `slerp` or `lerp`


def loop(points: Float[Array, "k ..."], frames: int, between: Between) -> Float[Array, "k*frames ..."]:
    """Makes a closed path through `points`, `frames` from each to the next; frame i * `frames` is point i.

    It leaves and reaches each point with speed 0, so that there is no kink. Raises ValueError for fewer than
    two points or one frame.
    """
    if len(points) < 2 or frames < 1:
        raise ValueError(f"a loop through {len(points)} points, {frames} frames each: at least 2 points and 1 frame")
    t = (1 - jnp.cos(jnp.pi * jnp.arange(frames) / frames)) / 2
    start, end = (jnp.repeat(x, frames, axis=0) for x in (points, jnp.roll(points, -1, axis=0)))
    return between(start, end, jnp.tile(t, len(points)))


def interpolate(
    model: FromLatents,
    nets: Nets,
    z: Float[Array, "k m d"],
    frames: int,
    space: Literal["z", "w"] = "z",
    conditions: Batch | None = None,
    chunk: int = 64,
) -> Iterator[UInt8[np.ndarray, "m h w c"]]:
    """Makes the k * `frames` frames of `m` videos, each a loop through its `k` latents.

    Space "z" goes along arcs between latents (`slerp`), "w" along lines between their styles, for style-based models.
    `conditions` have a row for each video, or are scalars. Images are made `chunk` at a time. Raises ValueError for
    fewer than two latents or one frame, and TypeError where a model without styles should go through "w".
    """
    videos, given = z.shape[1], {name: jnp.asarray(values) for name, values in (conditions or {}).items()}
    if space == "z":
        path = jax.vmap(lambda points: loop(points, frames, slerp), in_axes=1, out_axes=1)(z)
        rows = {"z": path.reshape(-1, z.shape[2])}
        rows |= {name: jnp.tile(x, len(path)) if x.ndim else x for name, x in given.items()}
    else:
        path = loop(_styles(style_model(model), nets, z, given), frames, lerp)
        rows = {"w": path.reshape(-1, *path.shape[2:])}
    images = (image for batch in render(model, nets, rows, chunk) for image in batch)
    return (np.stack(frame) for frame in zip(*[images] * videos, strict=True))


def _styles(model: StyleBased, nets: Nets, z: Float[Array, "k m d"], conditions: Batch) -> Float[Array, "k m l d"]:
    def of_point(z: Float[Array, "m d"]) -> Float[Array, "m l d"]:
        return model.styles(nets, z, conditions.get("label"), conditions.get("truncation", 1.0))

    return jnp.stack([of_point(z_k) for z_k in z])
