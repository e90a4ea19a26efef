"""Which noise goes with which image of a batch."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def optimal_order(image: Float[Array, "b ..."], noise: Float[Array, "b ..."]) -> Int[Array, " b"]:
    """For each image the row of `noise` that it goes with, so that the sum of squared distances is least.

    Minibatch optimal transport (Tong et al. 2024, arXiv 2302.00482; Pooladian et al. 2023, arXiv 2304.14772): the
    exact assignment within a batch, by the Hungarian algorithm. Paths then cross less, and fewer steps follow them.
    """
    x, z = image.reshape(len(image), -1), noise.reshape(len(noise), -1)
    cost = jnp.sum(x**2, axis=1)[:, None] + jnp.sum(z**2, axis=1) - 2 * x @ z.T
    rows, columns = optax.assignment.hungarian_algorithm(cost)
    return columns[jnp.argsort(rows)]
