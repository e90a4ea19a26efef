"""Losses of generators and discriminators: pure functions of logits, averaged over the batch, in float32.

A logit is the discriminator's output before its sigmoid: D(x) = sigmoid(logit), high for real images.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.model import Scalar


def discriminator_logistic(real: Float[Array, " b"], fake: Float[Array, " b"]) -> Scalar:
    """-E[log D(x)] - E[log(1 - D(G(z)))]   (Goodfellow et al. 2014, arXiv 1406.2661, Eq. 1)"""
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))


def generator_non_saturating(fake: Float[Array, " b"]) -> Scalar:
    """-E[log D(G(z))]   (Goodfellow et al. 2014, arXiv 1406.2661, section 3)"""
    return jnp.mean(jax.nn.softplus(-fake))
