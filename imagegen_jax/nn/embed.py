"""Embeddings of scalars, such as the diffusion time, and of places in an image."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Num


def sinusoidal(
    t: Num[Array, " b"], width: int, max_period: float = 10_000.0, endpoint: bool = True
) -> Float[Array, "b w"]:
    """Returns sines, then cosines of `t` at width / 2 frequencies from 1 to 1 / `max_period` (Vaswani et al. 2017).

    With `endpoint` both ends are included, as in DDPM's code; later code bases divide by width / 2 instead of
    width / 2 - 1, and miss the lowest frequency. Raises ValueError unless `width` is even and at least 4.
    """
    if width < 4 or width % 2:
        raise ValueError(f"a sinusoidal embedding of width {width} is not possible: use an even width of 4 or more")
    angle = t[:, None].astype(jnp.float32) * frequencies(width // 2, max_period, endpoint)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def frequencies(count: int, max_period: float, endpoint: bool) -> Float32[np.ndarray, " n"]:
    """Returns frequencies from 1 to 1 / `max_period`, exp(-log(max_period) i / count) with an exponent in float32.

    The last digit of a frequency is 6e-5 of an angle at time 1000, and networks see it: models were trained with that
    of this order of operations, in DDPM's code, ADM's and that of the library diffusers.
    """
    exponent = np.float32(-math.log(max_period)) * np.arange(count, dtype=np.float32) / np.float32(count - endpoint)
    return np.exp(exponent.astype(np.float64)).astype(np.float32)


def positions(
    height: int,
    width: int,
    features: int,
    first: tuple[float, float] = (0, 0),
    step: tuple[float, float] = (1, 1),
) -> Float[Array, "hw d"]:
    """Embeds the places of a grid, row by row: half of the features a place's column, the other half its row.

    The `first` row and column are at these places, and neighbours a `step` apart. This is the fixed embedding of MAE
    (He et al. 2021, arXiv 2111.06377), whose code has columns first. Raises ValueError unless `features` is a multiple
    of 4 and at least 8.
    """
    if features < 8 or features % 4:
        raise ValueError(f"a place cannot be embedded in {features} features: use a multiple of 4 that is 8 or more")
    row, column = jnp.divmod(jnp.arange(height * width), width)
    places = (first[1] + step[1] * column, first[0] + step[0] * row)
    return jnp.concatenate([sinusoidal(place, features // 2, endpoint=False) for place in places], axis=-1)


def rotary(height: int, width: int, features: int, base: float = 10_000.0) -> Float[Array, "hw r 2"]:
    """Returns the cosine and sine of angles that tell the places of a grid apart, row by row, for `multihead.rotated`.

    The first half of the `features` / 2 pairs turns with the row, the other with the column, in frequencies from 1 to
    nearly 1 / `base`: rotary positions (Su et al. 2021, arXiv 2104.09864) in two dimensions, as in LlamaGen's code.
    Raises ValueError unless `features` is a multiple of 4.
    """
    if features < 4 or features % 4:
        raise ValueError(f"heads of {features} channels cannot be rotated by row and column: use a multiple of 4")
    frequency = base ** -jnp.linspace(0.0, 1.0, features // 4, endpoint=False)
    row, column = jnp.divmod(jnp.arange(height * width), width)
    angle = jnp.concatenate([place[:, None].astype(jnp.float32) * frequency for place in (row, column)], axis=-1)
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
