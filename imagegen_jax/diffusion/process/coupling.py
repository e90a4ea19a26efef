"""Couplings: the choice of noise for each image of a batch."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def optimal_order(
    image: Float[Array, "b ..."], noise: Float[Array, "b ..."], label: Int[Array, " b"]
) -> Int[Array, " b"]:
    """Assigns a row of `noise` to each image, such that the sum of squared distances is least; returns the row numbers.

    Minibatch optimal transport (Tong et al. 2024, arXiv 2302.00482; Pooladian et al. 2023, arXiv 2304.14772): the
    exact assignment within a batch, by the Hungarian algorithm. Paths then cross less, and fewer steps can follow them.
    Noise stays with the `label` of its row. If it moved from class to class, it would depend on the class, while
    samples of every class begin with the same normal noise (Cheng & Schwing 2025, arXiv 2503.10636).
    """
    x, z = image.reshape(len(image), -1), noise.reshape(len(noise), -1)
    cost = -2 * x @ z.T  # the squares add as much to every assignment
    beyond = len(x) * (jnp.max(cost) - jnp.min(cost)) + 1.0  # more than all that a change of class could gain
    cost = jnp.where(label[:, None] == label, cost, cost + beyond)
    rows, columns = optax.assignment.hungarian_algorithm(cost)
    return columns[jnp.argsort(rows)]
