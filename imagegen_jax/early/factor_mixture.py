"""Mixture of factor analysers over pixels, trained by gradients (Richardson & Weiss 2018, arXiv 1805.12462).

p(x) = sum_k pi_k N(x; mu_k, A_k A_k^T + D_k), D_k diagonal: Gaussians of all pixels, whose covariances are of low rank
beside the noise of each pixel. Classes have their own shares pi_k of the same Gaussians.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.bits_per_dim import STEP, density_to_bits_per_dim
from imagegen_jax.core.arrays.random import uniform_rows
from imagegen_jax.core.config.bounds import Count, Natural, Positive, Shape
from imagegen_jax.core.model import (
    Aux,
    Batch,
    Image,
    Inputs,
    Nets,
    Phase,
    PRNGKey,
    Scalar,
    Variables,
    check_images,
    check_labels,
)

RANGE = (-1 - STEP / 2, 1 + STEP / 2)  # of images with the noise that makes their levels continuous


@dataclasses.dataclass(frozen=True)
class FactorMixture:
    """Gaussians of whole images, each around an image that training starts from."""

    image_shape: Shape = (28, 28, 1)
    components: Count = 100
    factors: Count = 10  # columns of A_k
    noise: Positive = 0.3  # deviation of each pixel that training begins with
    least_noise: Positive = 0.01  # below it a pixel that never changes would have any density
    num_classes: Natural = 0

    @property
    def starts_from_data(self) -> bool:
        """Tells that the means begin as images of the first batch."""
        return True

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Takes the means from the first batch, in turn. Raises ValueError where images or labels do not fit."""
        check_images(self, batch)
        check_labels(self, batch)
        rows = jnp.arange(self.components) % len(batch["image"])
        d = math.prod(self.image_shape)
        of_means, of_factors = jax.random.split(key)
        means = batch["image"].reshape(-1, d)[rows]
        params = {
            "shares": jnp.zeros((max(1, self.num_classes), self.components)),
            "means": means + 0.01 * jax.random.normal(of_means, means.shape),
            "factors": 0.1 * jax.random.normal(of_factors, (self.components, d, self.factors)),
            "log_noise": jnp.full((self.components, d), math.log(self.noise)),
        }
        return {"network": {"params": params}}

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step: the likelihood rises."""
        return (Phase(("network",), self.loss, "likelihood"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """-log p(x) of dequantised images, in nats for each value; the metric is in bits per dimension."""
        noise = uniform_rows(inputs.keys, -STEP / 2, STEP / 2, self.image_shape)
        nats = -jnp.mean(self.log_prob(nets, {**inputs.batch, "image": inputs.batch["image"] + noise}))
        bits = density_to_bits_per_dim(nats, self.image_shape, RANGE)
        return nats / math.prod(self.image_shape), Aux({"bits_per_dim": bits})

    def log_prob(self, nets: Nets, batch: Batch) -> Float[Array, " b"]:
        """Returns log p(x), given the classes where the model has them, of continuous images [B H W C]."""
        params = nets["network"]["params"]
        x = batch["image"].reshape(len(batch["image"]), -1)
        each = jax.vmap(_log_normal, (None, 0, 0, 0), 1)(x, params["means"], params["factors"], self._deviation(params))
        return jax.nn.logsumexp(each + jax.nn.log_softmax(self._logits(params, batch, len(x))), axis=1)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images: a Gaussian by its share, then mu + A z + D^(1/2) epsilon, clipped to [-1, 1]."""
        check_labels(self, conditions)
        params = nets["network"]["params"]
        of_component, of_factors, of_noise = jax.random.split(key, 3)
        k = jax.random.categorical(of_component, self._logits(params, conditions, n))
        z = jax.random.normal(of_factors, (n, self.factors))
        noise = self._deviation(params)[k] * jax.random.normal(of_noise, params["means"][k].shape)
        x = params["means"][k] + jnp.einsum("ndl,nl->nd", params["factors"][k], z) + noise
        return jnp.clip(x, -1, 1).reshape(n, *self.image_shape)

    def _logits(self, params: Variables, batch: Batch, n: int) -> Float[Array, "n k"]:
        rows = batch["label"] if self.num_classes else jnp.zeros(n, jnp.int32)
        return params["shares"][rows]

    def _deviation(self, params: Variables) -> Float[Array, "k d"]:
        return jnp.exp(params["log_noise"]) + self.least_noise


def _log_normal(
    x: Float[Array, "b d"], mean: Float[Array, " d"], factors: Float[Array, "d l"], deviation: Float[Array, " d"]
) -> Float[Array, " b"]:
    """log N(x; mu, A A^T + D) by L = I + A^T D^-1 A, so that nothing of size d x d is made (Eq. 3 to 5)."""
    d, rank = factors.shape
    scaled, white = factors / deviation[:, None], (x - mean) / deviation
    cholesky = jnp.linalg.cholesky(jnp.eye(rank) + scaled.T @ scaled)
    inner = jax.scipy.linalg.solve_triangular(cholesky, (white @ scaled).T, lower=True)
    square = jnp.sum(white**2, axis=1) - jnp.sum(inner**2, axis=0)
    log_det = 2 * jnp.sum(jnp.log(deviation)) + 2 * jnp.sum(jnp.log(jnp.diagonal(cholesky)))
    return -0.5 * (square + log_det + d * math.log(2 * math.pi))
