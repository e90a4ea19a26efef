"""The exact likelihood of images under a diffusion model, by its flow (Song et al. 2021, arXiv 2011.13456)."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.core.arrays.bits_per_dim import density_to_bits_per_dim
from imagegen_jax.core.config.bounds import Count, NonNegative
from imagegen_jax.core.model import Image, PRNGKey
from imagegen_jax.diffusion.process.denoiser import Denoise
from imagegen_jax.diffusion.sampling.ode import State, Tolerance, integrate
from imagegen_jax.diffusion.sampling.solver import Samples, noise_estimate


class Found(NamedTuple):
    """The likelihood of each row, and where the flow took it."""

    log_prob: Float[Array, " b"]  # in nats, of the density at `sigma_min`
    latent: Float[Array, "b ..."]  # where the row is at `sigma_max`
    evaluations: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class FlowLikelihood:
    """log p(x) = log N(x_T; 0, sigma_max^2) + int div(dx/dsigma) dsigma (Eq. 39, with the flow of EDM's Eq. 1).

    The density is that of x_0 + sigma_min epsilon: give it samples of this, or data that so little noise does not
    change. At `sigma_max` everything is taken to be noise: for data whose mean is m away from 0 this is off by about
    m / sigma_max nats, up or down. `trace` is "exact", with an evaluation for each value of a row, or "hutchinson":
    unbiased, by `probes` random signs (Eq. 40). Both need denoisers that can be differentiated forwards: on GPUs, those
    of networks that `nn.backbones.denoising.forward_differentiable` returned. Raises ValueError for fields out of
    range.
    """

    sigma_min: NonNegative = 0.002
    sigma_max: NonNegative = 80.0
    trace: Literal["exact", "hutchinson"] = "hutchinson"
    probes: Count = 1
    relative: NonNegative = 1e-5
    absolute: NonNegative = 1e-5
    most_steps: Count = 1000

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                f"likelihood.sigma_min={self.sigma_min}, likelihood.sigma_max={self.sigma_max}: must obey "
                "0 < sigma_min < sigma_max"
            )
        if self.trace not in ("exact", "hutchinson") or self.probes < 1:
            raise ValueError(
                f"likelihood.trace={self.trace!r}, likelihood.probes={self.probes}: the trace is 'exact' or "
                "'hutchinson', and there is at least 1 probe"
            )

    def __call__(self, denoise: Denoise, x: Samples, key: PRNGKey) -> Found:
        """Finds the log-likelihood of each row of x [B ...]; NaN where `most_steps` were not enough.

        The key draws the probes.
        """
        size = math.prod(x.shape[1:])
        directions = self._directions(x, key)
        slope, weight = noise_estimate(denoise), 1.0 if self.trace == "exact" else 1.0 / self.probes

        def field(sigma: Float[Array, " b"], state: State) -> State:
            def along(direction: Samples) -> tuple[Samples, Float[Array, " b"]]:
                d, moved = jax.jvp(lambda x: slope(x, sigma), (state[0],), (jnp.broadcast_to(direction, x.shape),))
                return d, _sum(moved * direction)

            d, parts = jax.vmap(along, out_axes=(None, 0))(directions)
            return d, weight * jnp.sum(parts, axis=0)

        start = (x, jnp.zeros(x.shape[:1], x.dtype))
        tolerance = Tolerance(self.relative, self.absolute, self.most_steps)
        (latent, change), evaluations = integrate(field, self.sigma_min, self.sigma_max, start, tolerance)
        prior = -_sum(jnp.square(latent / self.sigma_max)) / 2 - size * math.log(
            self.sigma_max * math.sqrt(2 * math.pi)
        )
        return Found(prior + change, latent, evaluations)

    def bits_per_dim(self, denoise: Denoise, x: Image, key: PRNGKey) -> Float[Array, " b"]:
        """Returns the bits per dimension of 8-bit images that were dequantised in [-1, 1], for each row.

        `core.arrays.bits_per_dim` dequantises images, and defines how bits are counted.
        """
        image_shape = (x.shape[1], x.shape[2], x.shape[3])
        return density_to_bits_per_dim(-self(denoise, x, key).log_prob, image_shape, (-1.0, 1.0))

    def _directions(self, x: Samples, key: PRNGKey) -> Float[Array, "p ..."]:
        """Returns the directions of the trace: random signs, drawn for each row; or every axis of a row."""
        if self.trace == "hutchinson":
            return jax.random.rademacher(key, (self.probes, *x.shape), x.dtype)
        size = math.prod(x.shape[1:])
        return jnp.eye(size, dtype=x.dtype).reshape(size, 1, *x.shape[1:])


def _sum(x: Samples) -> Float[Array, " b"]:
    return jnp.sum(x.reshape(len(x), -1), axis=1)
