"""A mixture of Gaussians in the plane, whose density at every noise level and whose best denoiser are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

MEANS = np.array([[-0.5, -0.3], [0.5, -0.3], [0.0, 0.5]])
WEIGHTS = np.array([0.5, 0.3, 0.2])
STD = 0.1


def draw(rng, n):
    which = rng.choice(3, n, p=WEIGHTS)
    return MEANS[which] + STD * rng.standard_normal((n, 2))


def _parts(x, sigma):
    """Logarithms of the weighted densities [B 3] of x_0 + sigma epsilon, and the variance [B 1]."""
    x = jnp.asarray(x)
    variance = STD**2 + jnp.square(jnp.broadcast_to(sigma, x.shape[:1]))[:, None]
    square = jnp.sum((x[:, None] - jnp.asarray(MEANS, x.dtype)) ** 2, axis=-1)
    return jnp.log(jnp.asarray(WEIGHTS, x.dtype)) - square / (2 * variance) - jnp.log(2 * jnp.pi * variance), variance


def log_density(x, sigma=0.0):
    """[B 2], [] or [B] -> [B], the logarithm of the density of x_0 + sigma epsilon."""
    return jax.nn.logsumexp(_parts(x, sigma)[0], axis=-1)


def denoise(x, sigma):
    """[B 2], [B] -> [B 2], E[x_0 | x_0 + sigma epsilon = x]: the parts' estimates, by their share in x."""
    parts, variance = _parts(x, sigma)
    mean = jnp.sum(jax.nn.softmax(parts, axis=-1)[..., None] * jnp.asarray(MEANS, x.dtype), axis=1)
    return mean + STD**2 / variance * (x - mean)
