"""SeFa (Shen & Zhou 2021, arXiv 2007.06600): the directions in latents that move an image the most, in closed form.

The first layer that sees a latent is affine, y = A z + b, and moving z to z + alpha n moves y by alpha A n. The n of
length 1 that move y the most are the eigenvectors of A^T A. In a style-based model, A joins the affine maps from style
to features of all layers, or of some.

The authors' code scales each row of A to length 1, which the paper does not do; here A is left as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.module import InterceptorContext
from jaxtyping import Array, Float

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.capabilities import FromLatents, StyleBased
from imagegen_jax.core.model import Batch, Image, Nets

Weights = Float[Array | np.ndarray, "o d"]


def directions(a: Weights, count: int) -> tuple[Float[np.ndarray, "k d"], Float[np.ndarray, " k"]]:
    """Returns the `count` unit eigenvectors n of A^T A with the largest eigenvalues |A n|^2, and these, falling.

    The largest component of each n is positive. Raises ValueError where there are fewer than `count`.
    """
    matrix = np.asarray(a, np.float64)
    if not 1 <= count <= matrix.shape[1]:
        raise ValueError(f"{count} directions: latents of {matrix.shape[1]} numbers have 1 to {matrix.shape[1]}")
    values, vectors = np.linalg.eigh(matrix.T @ matrix)
    n = vectors.T[::-1][:count]
    largest = np.take_along_axis(n, np.abs(n).argmax(axis=1, keepdims=True), axis=1)
    return n * np.sign(largest), values[::-1][:count]


def latent_weights(model: FromLatents, nets: Nets, conditions: Batch) -> Weights:
    """Returns A of the first affine layer that sees the latent. `conditions` are those of one image.

    Raises ValueError where there is none.
    """

    def outputs(nets: Nets, z: Float[Array, " d"]) -> list[Float[Array, " o"]]:
        return _of_vectors(lambda: model.generate(nets, z[None], conditions))

    @compiling.jit
    def moved(nets: Nets, z: Float[Array, " d"]) -> list[Float[Array, " o"]]:
        return jax.jvp(functools.partial(outputs, nets), (z,), (jnp.ones_like(z),))[1]

    z = jnp.zeros(model.latent_dim)
    # Layers that see the label alone may come before: these do not move with z.
    first = next((i for i, tangent in enumerate(moved(nets, z)) if np.any(tangent)), None)
    if first is None:
        raise ValueError(f"a {type(model).__name__} has no dense layer that its latent goes through: SeFa reads one")
    return compiling.jit(jax.jacfwd(lambda nets, z: outputs(nets, z)[first], argnums=1))(nets, z)


def style_weights(model: StyleBased, nets: Nets, style_dim: int, layers: Sequence[int]) -> Weights:
    """Returns A of the maps from the styles of `layers` to features, one below the other; other layers' rows are 0."""
    chosen = jnp.isin(jnp.arange(model.layers), jnp.asarray(layers))[:, None]

    def outputs(nets: Nets, w: Float[Array, " d"]) -> Float[Array, " o"]:
        return jnp.concatenate(_of_vectors(lambda: model.synthesise(nets, jnp.where(chosen, w, 0.0)[None])))

    return compiling.jit(jax.jacfwd(outputs, argnums=1))(nets, jnp.zeros(style_dim))


def _of_vectors(make: Callable[[], Image]) -> list[Float[Array, " o"]]:
    """Runs `make`, which makes one image, and returns the outputs of its dense layers over vectors, in order.

    It leaves out passes that only gather batch statistics.
    """
    found: list[Array] = []

    def record(call: Callable[..., Any], args: Any, kwargs: Any, context: InterceptorContext) -> Any:
        y, layer = call(*args, **kwargs), context.module
        multiplies = context.method_name == "__call__" and layer.has_variable("params", "kernel") and y.ndim == 2
        if multiplies and not layer.is_mutable_collection("batch_stats"):
            found.append(y[0])
        return y

    with nn.intercept_methods(record):
        make()
    return found


def moved(
    start: Float[Array, "... d"],
    n: Float[Array | np.ndarray, "k d"],
    strengths: Float[Array, " s"],
    layers: Sequence[int] | None = None,
) -> Float[Array, "k s ... d"]:
    """Returns start + alpha n for each direction n and strength alpha.

    Styles [L D] move in `layers` alone (None: in all).
    """
    steps = strengths[:, None] * jnp.asarray(n)[:, None]  # [K S D]
    if start.ndim == 1:
        return start + steps
    chosen = jnp.ones(len(start), bool) if layers is None else jnp.isin(jnp.arange(len(start)), jnp.asarray(layers))
    return start + chosen[:, None] * steps[:, :, None]
