"""Regularisers of GANs as plain functions: gradient penalties, consistency, LeCam, orthogonality.

A critic maps images [B H W C] to logits [B]. Nothing here has a weight: the model multiplies. Where a norm layer lets
rows see each other, gradients are those of the sum over the batch, as in the references.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.random import streams, uniform_rows
from imagegen_jax.core.model import Image, PRNGKeys, Scalar
from imagegen_jax.nn.objectives import Critic, squared_gradient

Logits = Float[Array, " b"]


def zero_centred_penalty(critic: Critic, images: Image) -> Scalar:
    """E[|grad D(x)|^2]: R1 at real images, R2 at generated ones (Mescheder et al. 2018, arXiv 1801.04406, Eq. 9).

    The papers give it the weight gamma / 2.
    """
    return jnp.mean(squared_gradient(critic, images))


def gradient_penalty(critic: Critic, real: Image, fake: Image, keys: PRNGKeys, target: float = 1.0) -> Scalar:
    """E[(|grad D(x_hat)| - target)^2], x_hat uniform between row i of both (Gulrajani et al. 2017, 1704.00028, Eq. 3).

    With `target` 0 it is the zero-centred penalty (Thanh-Tung et al. 2019, arXiv 1902.03984).
    """
    epsilon = uniform_rows(keys, shape=(1, 1, 1))
    return _distance_to(target, squared_gradient(critic, epsilon * real + (1 - epsilon) * fake))


def dragan_penalty(critic: Critic, real: Image, keys: PRNGKeys, target: float = 1.0) -> Scalar:
    """E[(|grad D(x + delta)| - target)^2] around real images (Kodali et al. 2017, arXiv 1705.07215, Eq. 5).

    delta = u sigma alpha: u uniform in [0, 1) for each value, sigma half the batch's standard deviation, alpha uniform
    for each image, as in the authors' code.
    """
    pixel_keys, image_keys = streams(keys, 2)
    noise = uniform_rows(pixel_keys, shape=real.shape[1:]) * uniform_rows(image_keys, shape=(1, 1, 1))
    return _distance_to(target, squared_gradient(critic, real + 0.5 * jnp.std(real) * noise))


def _distance_to(target: float, squared: Float[Array, " b"]) -> Scalar:
    norm = jnp.sqrt(jnp.maximum(squared, 1e-12))  # keeps the derivative finite where the critic is flat
    return jnp.mean((norm - target) ** 2)


def path_lengths(
    generate: Callable[[Float[Array, "b ..."]], Image], w: Float[Array, "b ..."], noise: Image
) -> Float[Array, " b"]:
    """|J_w^T y| for each row, y = `noise` / sqrt(H W) (Karras et al. 2020, arXiv 1912.04958, Eq. 4).

    With a w for each layer, [B L D], the mean over layers is taken inside the root, as in the authors' code.
    """
    y = noise / jnp.sqrt(noise.shape[1] * noise.shape[2])
    grads = jax.grad(lambda w: jnp.sum(generate(w) * y))(w).astype(jnp.float32)
    return jnp.sqrt(jnp.sum(grads**2, axis=-1).reshape(len(w), -1).mean(axis=1))


def consistency(logits: Logits, logits_of_changed: Logits) -> Scalar:
    """E[(D(x) - D(T(x)))^2]: CR for real x, with generated ones bCR (Zhang et al. 2020, 1910.12027; Zhao 2002.04724).

    With G(z) and G(z + noise) for x and T(x) it is the discriminator's part of zCR.
    """
    return jnp.mean((logits - logits_of_changed) ** 2)


def latent_diversity(images: Image, images_of_changed: Image) -> Scalar:
    """-E[|G(z) - G(z + noise)|^2]: the generator's part of zCR (Zhao et al. 2020, arXiv 2002.04724, Eq. 5)."""
    return -jnp.mean(jnp.sum((images - images_of_changed) ** 2, axis=(1, 2, 3)))


def lecam(real: Logits, fake: Logits, mean_real: Scalar, mean_fake: Scalar) -> Scalar:
    """E[(D(x) - a_F)^2] + E[(D(G(z)) - a_R)^2], a_F and a_R moving averages (Tseng et al. 2021, arXiv 2104.03310).

    This is the paper's form; the authors' code takes the rectified differences D(x) - a_F and a_R - D(G(z)).
    """
    return jnp.mean((real - mean_fake) ** 2) + jnp.mean((fake - mean_real) ** 2)


def orthogonality(params: Any) -> Scalar:
    """sum |W^T W o (1 - I)|^2 over all kernels, W [inputs, outputs] (Brock et al. 2019, arXiv 1809.11096, Eq. 3)."""
    total = jnp.zeros(())
    for path, kernel in jax.tree.leaves_with_path(params):
        if kernel.ndim >= 2 and path[-1].key == "kernel":
            matrix = kernel.reshape(-1, kernel.shape[-1])
            gram = matrix.T @ matrix
            total += jnp.sum(jnp.square(gram - jnp.diag(jnp.diag(gram))))
    return total
