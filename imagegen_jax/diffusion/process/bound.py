"""The variational bound in discrete time, term by term (Nichol & Dhariwal 2021, arXiv 2102.09672, Eq. 4 to 7)."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.core.arrays.bits_per_dim import bits_per_dim
from imagegen_jax.core.model import Image, PRNGKey
from imagegen_jax.diffusion.process.prediction import broadcast_rows
from imagegen_jax.nn.distributions.noise_steps import Step, StepTable, backward, bound_terms, rows_of, x_0_of

Predictor = Callable[[Image, Array], tuple[Image, Image]]  # (x_t, t) -> the noise, and where the variance lies


def step_bits(row: StepTable, x_0: Image, x_t: Image, p: Step, first: Array) -> Float[Array, " b"]:
    """Computes a term, in bits per dimension of 8-bit images: L_0 at the first time, L_{t-1} at later ones.

    L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p), and L_0 = -log p(x_0 | x_1).
    """
    nats = bound_terms(row, x_0, x_t, p, broadcast_rows(first, x_0))
    return bits_per_dim(jnp.sum(nats, axis=(1, 2, 3)), x_0.shape[1:])


def bound_bits(table: StepTable, left: float, predict: Predictor, x_0: Image, key: PRNGKey) -> Float[Array, " b"]:
    """Adds up all terms, with one draw of noise each; `left` is the share of the image's variance at the last time.

    `table` has the step of each time. Estimates are clipped to [-1, 1].
    """

    def term(total: Float[Array, " b"], i: Int[Array, ""]) -> tuple[Float[Array, " b"], None]:
        epsilon = jax.random.normal(jax.random.fold_in(key, i), x_0.shape)
        t = jnp.full(x_0.shape[:1], i)
        row = rows_of(table, t, x_0.ndim)
        x_t = row.signal * x_0 + row.noise * epsilon
        predicted, between = predict(x_t, t)
        p = backward(row, x_t, jnp.clip(x_0_of(row, x_t, predicted), -1.0, 1.0), between)
        return total + step_bits(row, x_0, x_t, p, t == 0), None

    total, _ = jax.lax.scan(term, jnp.zeros(x_0.shape[:1]), jnp.arange(len(table.t)))
    prior = 0.5 * jnp.sum(left * x_0**2 - left - math.log1p(-left), axis=(1, 2, 3))  # KL(q(x_T | x_0) || N(0, 1))
    return total + bits_per_dim(prior, x_0.shape[1:])
