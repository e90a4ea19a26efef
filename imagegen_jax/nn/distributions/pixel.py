"""Distributions of one pixel's channels, given what a network puts out for it; probabilities are of 8-bit levels."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.bits_per_dim import LEVELS
from imagegen_jax.core.arrays.image import to_float, to_uint8
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import PRNGKey


class Distribution(Protocol):
    """A distribution of pixels, as models of 8-bit images use it."""

    def outputs(self, channels: int) -> int:
        """Returns how many numbers a network puts out for a pixel. Raises ValueError for channels it is not for."""
        ...

    def log_prob(self, output: Float[Array, "... o"], x: Float[Array, "... c"]) -> Float[Array, ...]:
        """Returns the logarithm of the probability of 8-bit pixels `x` in [-1, 1], in nats."""
        ...

    def draw(self, output: Float[Array, "... o"], key: PRNGKey) -> Float[Array, "... c"]:
        """Draws pixels in [-1, 1], which are exactly at levels of 8 bits."""
        ...

    def mean(self, output: Float[Array, "... o"]) -> Float[Array, "... c"]:
        """Returns the expectation of pixels in [-1, 1]."""
        ...


AnyDistribution = Annotated[
    Distribution,
    Choices(
        "imagegen_jax.nn.distributions.pixel:Categorical",
        "imagegen_jax.nn.distributions.logistic_mixture:LogisticMixture",
    ),
]


@dataclasses.dataclass(frozen=True)
class Categorical:
    """A probability for each of 256 levels (van den Oord et al. 2016, arXiv 1601.06759, section 3.4), of one channel.

    Levels that data do not use cost nothing once that is learned.
    """

    def outputs(self, channels: int) -> int:
        """Returns 256. Raises ValueError for colours: their channels depend on one another."""
        if channels != 1:
            raise ValueError(
                f"model.distribution=Categorical is of one channel, but images have {channels}: use LogisticMixture"
            )
        return LEVELS

    def log_prob(self, output: Float[Array, "... o"], x: Float[Array, "... 1"]) -> Float[Array, ...]:
        """Returns log softmax(output) at the level of `x`."""
        level = to_uint8(x).astype(jnp.int32)
        return jnp.take_along_axis(jax.nn.log_softmax(output), level, axis=-1)[..., 0]

    def draw(self, output: Float[Array, "... o"], key: PRNGKey) -> Float[Array, "... 1"]:
        """Draws a level."""
        return to_float(jax.random.categorical(key, output)[..., None])

    def mean(self, output: Float[Array, "... o"]) -> Float[Array, "... 1"]:
        """Returns the expectation, which need not be at a level."""
        return jnp.sum(jax.nn.softmax(output) * to_float(jnp.arange(LEVELS)), axis=-1, keepdims=True)
