"""Likelihoods: the probability p(x|z) of an image given a decoder's output, as its logarithm in nats (float32).

By `observe`, a likelihood turns an image in [-1, 1] into the observation x that is modelled, which may be noisy; the
encoder sees x too. Probabilities are those of 8-bit images, so that `bits_per_dim` has the usual unit: bits for one
channel of one pixel.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.random import uniform_rows
from imagegen_jax.core.config.bounds import Positive
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import Image, PRNGKeys

LEVELS = 127.5  # grey levels in one unit of [-1, 1]


class Likelihood(Protocol):
    """A likelihood of images, as VAEs use it."""

    def channels(self, image_channels: int) -> int:
        """Returns how many channels the decoder has to put out."""
        ...

    def observe(self, image: Image, keys: PRNGKeys | None) -> Float[Array, "b h w c"]:
        """Draws the observation x of an image in [-1, 1] by the row's key; without keys, the most probable one."""
        ...

    def log_prob(self, output: Float[Array, "b h w o"], x: Float[Array, "b h w c"]) -> Float[Array, " b"]:
        """Returns log p(x|z) in nats."""
        ...

    def mean(self, output: Float[Array, "b h w o"]) -> Image:
        """Returns E[x|z] in [-1, 1]."""
        ...


AnyLikelihood = Annotated[Likelihood, Choices("imagegen_jax.autoencoders.likelihood:Bernoulli, Gaussian")]


@dataclasses.dataclass(frozen=True)
class Bernoulli:
    """Pixels are black or white; the decoder gives the logit of white (Kingma & Welling 2013, appendix C.1)."""

    binarize: bool = True  # x ~ Bernoulli((image + 1) / 2), drawn anew each time; False: x is that intensity itself

    def channels(self, image_channels: int) -> int:
        """Returns how many channels the decoder has to put out."""
        return image_channels

    def observe(self, image: Image, keys: PRNGKeys | None) -> Float[Array, "b h w c"]:
        """Draws x in [0, 1] by the row's key; without keys, returns the more probable of black and white."""
        intensity = (image + 1) / 2
        if not self.binarize:
            return intensity
        if keys is None:
            return jnp.float32(intensity > 0.5)
        return jnp.float32(uniform_rows(keys, shape=image.shape[1:]) < intensity)

    def log_prob(self, output: Float[Array, "b h w c"], x: Float[Array, "b h w c"]) -> Float[Array, " b"]:
        """log p(x|z) = sum of x log y + (1 - x) log(1 - y), y = sigmoid(output)   (Eq. 11)"""
        return jnp.sum(x * output - jax.nn.softplus(output), axis=(1, 2, 3))

    def mean(self, output: Float[Array, "b h w c"]) -> Image:
        """Returns E[x|z] in [-1, 1]."""
        return 2 * jax.nn.sigmoid(output) - 1


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Pixels are independent and normal; the decoder gives their means and, unless fixed, deviations (appendix C.2).

    Uniform noise of one level's width makes a continuous x of an 8-bit value; the expected log-density per level is
    then a lower bound of the value's log-probability (Theis et al. 2016, arXiv 1511.01844, section 3.1).
    """

    scale: Positive | None = None  # standard deviation in units of [-1, 1]; None: the decoder's, for each pixel
    dequantize: bool = True  # False: images are continuous already, and bits per dimension measure a density

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"Gaussian.scale={self.scale}: must be above 0, or None to have the decoder give it")

    def channels(self, image_channels: int) -> int:
        """Returns how many channels the decoder has to put out: means, then deviations."""
        return image_channels if self.scale is not None else 2 * image_channels

    def observe(self, image: Image, keys: PRNGKeys | None) -> Float[Array, "b h w c"]:
        """Adds noise by the row's key, at most half a level, so that x may leave [-1, 1]; without keys, none."""
        if not self.dequantize or keys is None:
            return image
        return image + (uniform_rows(keys, shape=image.shape[1:]) - 0.5) / LEVELS

    def log_prob(self, output: Float[Array, "b h w o"], x: Float[Array, "b h w c"]) -> Float[Array, " b"]:
        """log p(x|z) = sum of log N(x; mu, sigma^2) - log 127.5: the density over levels 0 to 255, not [-1, 1]."""
        mu, log_sigma = self._parameters(output)
        density = -0.5 * ((x - mu) * jnp.exp(-log_sigma)) ** 2 - log_sigma - 0.5 * math.log(2 * math.pi)
        return jnp.sum(density - math.log(LEVELS), axis=(1, 2, 3))

    def mean(self, output: Float[Array, "b h w o"]) -> Image:
        """Returns E[x|z], clipped to [-1, 1]."""
        return jnp.clip(self._parameters(output)[0], -1, 1)

    def _parameters(self, output: Float[Array, "b h w o"]) -> tuple[Float[Array, "b h w c"], Float[Array, "*shape"]]:
        """Returns mu and log sigma; sigma stays above half a level, since no noisy 8-bit value calls for less."""
        if self.scale is not None:
            return output, jnp.log(jnp.float32(self.scale))
        mu, raw = jnp.split(output, 2, axis=-1)
        least = -math.log(2 * LEVELS)
        return mu, least + jax.nn.softplus(raw - least)
