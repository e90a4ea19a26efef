"""VAE (Kingma & Welling 2013, arXiv 1312.6114): an encoder and a decoder trained on a bound of the likelihood."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.autoencoders.likelihood import AnyLikelihood, Bernoulli
from imagegen_jax.autoencoders.networks import AnyDecoder, AnyEncoder, MLPDecoder, MLPEncoder
from imagegen_jax.core.arrays.bits_per_dim import bits_per_dim
from imagegen_jax.core.arrays.random import fold_rows, normal_rows, streams
from imagegen_jax.core.config.bounds import Count, NonNegative, Shape
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


class ELBO(NamedTuple):
    """The two terms of the evidence lower bound, in nats a row: log p(x) >= -(reconstruction + kl)."""

    reconstruction: Float[Array, " b"]  # -log p(x|z), z one draw from q(z|x)
    kl: Float[Array, " b"]  # KL(q(z|x) || p(z))


@dataclasses.dataclass(frozen=True)
class VAE:
    """Variational autoencoder with a standard normal prior and a diagonal normal posterior.

    The likelihood makes the observation x of an image (`Bernoulli.observe`); encoder and bound see the same x.
    """

    image_shape: Shape = (28, 28, 1)
    encoder: AnyEncoder = MLPEncoder()
    decoder: AnyDecoder = MLPDecoder()
    likelihood: AnyLikelihood = Bernoulli()
    latent_dim: Count = 64
    kl_weight: NonNegative = 1.0  # 1: the evidence lower bound; above: beta-VAE (Higgins et al. 2017)

    def __post_init__(self) -> None:
        if self.latent_dim < 1:
            raise ValueError(f"latent_dim={self.latent_dim}: must be at least 1")
        if not 0 <= self.kl_weight < math.inf:
            raise ValueError(f"kl_weight={self.kl_weight}: must be a finite number that is not negative")

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises both networks. Raises ValueError where the images have another shape."""
        check_images(self, batch)
        encoder_key, decoder_key = jax.random.split(key)
        x, z = jnp.zeros((1, *self.image_shape)), jnp.zeros((1, self.latent_dim))
        return {
            "encoder": self.encoder.init(encoder_key, x, self.latent_dim),
            "decoder": self.decoder.init(decoder_key, z, self._output_shape),
        }

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step, which trains both networks."""
        return (Phase(("encoder", "decoder"), self.loss, "elbo"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """-E[log p(x|z)] + kl_weight KL(q(z|x) || p(z)), with the default weight the negative of Eq. 10.

        Metrics are means in nats an image; `elbo` and `bits_per_dim` leave the weight out.
        """
        reconstruction, kl = (jnp.mean(term) for term in self.elbo(nets, inputs.batch["image"], inputs.keys))
        loss, elbo = reconstruction + self.kl_weight * kl, -(reconstruction + kl)
        bits = bits_per_dim(-elbo, self.image_shape)
        return loss, Aux({"elbo": elbo, "reconstruction": reconstruction, "kl": kl, "bits_per_dim": bits})

    def elbo(self, nets: Nets, image: Image, keys: PRNGKeys) -> ELBO:
        """Returns the bound on log p(x) with one draw from q(z|x); x and z are drawn by the row's key."""
        x_keys, z_keys = streams(keys, 2)
        x = self.likelihood.observe(image, x_keys)
        mu, log_var = self._encode(nets, x)
        z = mu + jnp.exp(0.5 * log_var) * normal_rows(z_keys, (self.latent_dim,))
        return ELBO(-self.likelihood.log_prob(self._decode(nets, z), x), kl_to_prior(mu, log_var))

    def nll(self, nets: Nets, image: Image, keys: PRNGKeys, samples: int) -> Float[Array, " b"]:
        """Estimates -log p(x) in nats, from above, by importance sampling (Burda et al. 2016, arXiv 1509.00519, Eq. 8).

        log p(x) ~ log 1/S sum_s p(x|z_s) p(z_s) / q(z_s|x), z_s from q(z|x), S = `samples`. x is a single draw, the
        one that `elbo` makes with the same keys. Draws of z are decoded one at a time, for the whole batch, so that
        memory does not grow with S.
        """
        x_keys, z_keys = streams(keys, 2)
        x = self.likelihood.observe(image, x_keys)
        mu, log_var = self._encode(nets, x)

        def log_weight(s: Array) -> Float[Array, " b"]:
            epsilon = normal_rows(fold_rows(z_keys, s), (self.latent_dim,))
            z = mu + jnp.exp(0.5 * log_var) * epsilon
            log_prior_ratio = 0.5 * jnp.sum(epsilon**2 - z**2 + log_var, axis=1)  # log p(z) - log q(z|x)
            return self.likelihood.log_prob(self._decode(nets, z), x) + log_prior_ratio

        log_weights = jax.lax.map(log_weight, jnp.arange(samples))
        return math.log(samples) - jax.nn.logsumexp(log_weights, axis=0)

    def reconstruct(self, nets: Nets, image: Image) -> Image:
        """Returns E[x|z] at the posterior's mean z, for images without observation noise: [B H W C] -> [B H W C]"""
        return self.generate(nets, self._embed(nets, image), {})

    def interpolate(self, nets: Nets, first: Image, last: Image, steps: int) -> Float[Array, "b steps h w c"]:
        """Decodes `steps` equally spaced points between the latents of two images, both ends included."""
        start, end = self._embed(nets, first)[:, None], self._embed(nets, last)[:, None]
        at = jnp.linspace(0.0, 1.0, steps)[None, :, None]
        z = (1 - at) * start + at * end
        return self.generate(nets, z.reshape(-1, self.latent_dim), {}).reshape(-1, steps, *self.image_shape)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1]: E[x|z] for z from the prior; `conditions` is not read."""
        return self.generate(nets, jax.random.normal(key, (n, self.latent_dim)), conditions)

    def generate(self, nets: Nets, z: Float[Array, "b d"], conditions: Batch) -> Image:
        """Returns E[x|z] for the latents z."""
        return self.likelihood.mean(self._decode(nets, z))

    @property
    def _output_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.image_shape
        return height, width, self.likelihood.channels(channels)

    def _encode(self, nets: Nets, x: Float[Array, "b h w c"]) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
        return self.encoder.apply(nets["encoder"], x, self.latent_dim)

    def _embed(self, nets: Nets, image: Image) -> Float[Array, "b d"]:
        return self._encode(nets, self.likelihood.observe(image, None))[0]

    def _decode(self, nets: Nets, z: Float[Array, "b d"]) -> Float[Array, "b h w o"]:
        return self.decoder.apply(nets["decoder"], z, self._output_shape)


def kl_to_prior(mu: Float[Array, "b d"], log_var: Float[Array, "b d"]) -> Float[Array, " b"]:
    """KL(N(mu, sigma^2) || N(0, 1)) = -1/2 sum (1 + log sigma^2 - mu^2 - sigma^2)   (appendix B)"""
    return -0.5 * jnp.sum(1 + log_var - mu**2 - jnp.exp(log_var), axis=1)
