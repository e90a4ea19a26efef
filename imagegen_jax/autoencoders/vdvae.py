"""VDVAE, the very deep VAE (Child 2020, arXiv 2011.10650): tens of layers of latents, from coarse to fine.

Prior and posterior of each layer follow from the latents before it, and the bound is a sum over layers. As in the
authors' code, openai/vdvae, the loss is in nats a dimension, and so are limits of its gradient's norm, such as
`clip_norm`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagegen_jax.autoencoders.vae import ELBO
from imagegen_jax.autoencoders.vdvae_network import Terms, TopDownNetwork
from imagegen_jax.core.arrays.bits_per_dim import bits_per_dim
from imagegen_jax.core.arrays.random import fold_rows, normal_rows
from imagegen_jax.core.config.bounds import Positive, Shape
from imagegen_jax.core.model import (
    Aux,
    Batch,
    Image,
    Inputs,
    Nets,
    Phase,
    PRNGKey,
    PRNGKeys,
    Scalar,
    check_images,
)
from imagegen_jax.nn.distributions.logistic_mixture import LogisticMixture
from imagegen_jax.nn.distributions.pixel import AnyDistribution

Noise = tuple[Float[Array, "b s s d"], ...]


@dataclasses.dataclass(frozen=True)
class VDVAE:
    """A hierarchical variational autoencoder of 8-bit images, of any distribution of a pixel.

    Its latents z are the standard normal noise of all layers, one after another.
    """

    image_shape: Shape = (32, 32, 3)
    network: TopDownNetwork = TopDownNetwork()
    distribution: AnyDistribution = LogisticMixture(10)
    data_mean: float = 0.0  # of values in [-1, 1]: the encoder sees them less this, over `data_deviation`
    data_deviation: Positive = 0.5

    optional_conditions: ClassVar[tuple[str, ...]] = ("temperature",)

    @property
    def latent_dim(self) -> int:
        """The number of values in the latents of an image."""
        return sum(map(math.prod, self.network.latent_shapes))

    def for_images(self, image_shape: tuple[int, int, int], num_classes: int) -> VDVAE:
        """Returns this model with levels for images of that shape; it knows no classes.

        Sizes are halved while they are even and above 4; the last is 1. A size has the blocks of the level at its place
        before, counted from the finest; the last those of the last, and more sizes than there were those of the last
        but one. Raises ValueError for images that are not square.
        """
        height, width, _ = image_shape
        if height != width:
            raise ValueError(f"images of {height}x{width}: a VDVAE's are square")
        sizes = [height]
        while sizes[-1] % 2 == 0 and sizes[-1] > 4:
            sizes.append(sizes[-1] // 2)
        *finer, coarsest = self.network.levels
        finer = finer or [coarsest]
        levels = [(size, *finer[min(i, len(finer) - 1)][1:]) for i, size in enumerate(sizes)]
        levels += [(1, *coarsest[1:])] if height > 1 else []
        return dataclasses.replace(self, image_shape=image_shape, network=self.network.clone(levels=tuple(levels)))

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the network. Raises ValueError where images or levels do not fit."""
        self.network.check(self.image_shape)
        check_images(self, batch)
        x, noise = jnp.zeros((1, *self.image_shape)), self._noise(jnp.zeros((1, self.latent_dim)))
        return {"network": self.network.init(key, noise, self._outputs, x)}

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step, which trains the network."""
        return (Phase(("network",), self.loss, "elbo"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """-E[log p(x|z)] + sum over layers of E[KL(q(z_i|z_<i, x) || p(z_i|z_<i))], over dimensions   (Eq. 1, 5)

        Metrics are means in nats an image, and bits per dimension.
        """
        reconstruction, kl = (jnp.mean(term) for term in self.elbo(nets, inputs.batch["image"], inputs.keys))
        negative = reconstruction + kl
        bits = bits_per_dim(negative, self.image_shape)
        metrics = {"elbo": -negative, "reconstruction": reconstruction, "kl": kl, "bits_per_dim": bits}
        return negative / math.prod(self.image_shape), Aux(metrics)

    def elbo(self, nets: Nets, image: Image, keys: PRNGKeys) -> ELBO:
        """Returns the bound on log p(x) of 8-bit images, with one draw from the posterior, by the row's key."""
        output, terms = self._through(nets, image, self._noise_rows(keys))
        return ELBO(-self._log_prob(output, image), terms.kl)

    def nll(self, nets: Nets, image: Image, keys: PRNGKeys, samples: int) -> Float[Array, " b"]:
        """Estimates -log p(x) in nats, from above, by importance sampling (Burda et al. 2016, arXiv 1509.00519, Eq. 8).

        Latents of all layers are drawn from the posterior, `samples` times, for the whole batch each time.
        """

        def log_weight(s: Array) -> Float[Array, " b"]:
            output, terms = self._through(nets, image, self._noise_rows(fold_rows(keys, s)))
            return self._log_prob(output, image) - terms.log_ratio

        log_weights = jax.lax.map(log_weight, jnp.arange(samples))
        return math.log(samples) - jax.nn.logsumexp(log_weights, axis=0)

    def reconstruct(self, nets: Nets, image: Image) -> Image:
        """Returns E[x|z], each layer's z at its posterior's mean: [B H W C] -> [B H W C]"""
        noise = self._noise(jnp.zeros((len(image), self.latent_dim)))
        return self.distribution.mean(self._through(nets, image, noise)[0])

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1], at levels of 8 bits: latents from the prior, then pixels.

        With "temperature" in `conditions`, deviations of latents are that many times as large (section 4.3).
        """
        latents_key, pixels_key = jax.random.split(key)
        z = jax.random.normal(latents_key, (n, self.latent_dim))
        z = z * jnp.reshape(jnp.asarray(conditions.get("temperature", 1.0)), (-1, 1))
        return self.distribution.draw(self._decode(nets, z), pixels_key)

    def generate(self, nets: Nets, z: Float[Array, "b d"], conditions: Batch) -> Image:
        """Returns E[x|z] in [-1, 1] for latents z; `conditions` is not read."""
        return self.distribution.mean(self._decode(nets, z))

    def check_conditions(self, conditions: Batch) -> None:
        """Raises ValueError for a temperature below 0."""
        temperature = np.asarray(conditions.get("temperature", 1.0))
        if not (temperature >= 0).all():
            raise ValueError(f"temperature={temperature.min()}: must be at least 0, which takes the prior's means")

    @property
    def _outputs(self) -> int:
        return self.distribution.outputs(self.image_shape[2])

    def _through(self, nets: Nets, image: Image, noise: Noise) -> tuple[Float[Array, "b h w o"], Terms]:
        """Returns what the distribution wants of pixels, by latents of the posterior, and the latents' terms."""
        x = (image - self.data_mean) / self.data_deviation
        return self.network.apply(nets["network"], noise, self._outputs, x)

    def _decode(self, nets: Nets, z: Float[Array, "b d"]) -> Float[Array, "b h w o"]:
        return self.network.apply(nets["network"], self._noise(z), self._outputs)[0]

    def _log_prob(self, output: Float[Array, "b h w o"], image: Image) -> Float[Array, " b"]:
        return jnp.sum(self.distribution.log_prob(output, image), axis=(1, 2))

    def _noise(self, z: Float[Array, "b d"]) -> Noise:
        """Returns each layer's part of the latents."""
        shapes = self.network.latent_shapes
        ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
        return tuple(part.reshape(-1, *shape) for part, shape in zip(jnp.split(z, ends, axis=1), shapes, strict=True))

    def _noise_rows(self, keys: PRNGKeys) -> Noise:
        return self._noise(normal_rows(keys, (self.latent_dim,)))
