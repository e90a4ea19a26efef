"""The mixture of discretised logistics of PixelCNN++ (Salimans et al. 2017, arXiv 1701.05517, section 2.1 and 2.2)."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.bits_per_dim import STEP
from imagegen_jax.core.arrays.image import to_float, to_uint8
from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.model import PRNGKey


class Parts(NamedTuple):
    """What a network's output is made of, of K components and C channels."""

    logits: Float[Array, "... k"]
    means: Float[Array, "... c k"]
    log_scales: Float[Array, "... c k"]
    coefficients: Float[Array, "... p k"]  # for pairs of channels: (1, 0), (2, 0), (2, 1), ...


@dataclasses.dataclass(frozen=True)
class LogisticMixture:
    """A mixture of logistic distributions, rounded to 8-bit levels; the outermost levels take in the tails.

    In each component the mean of a channel depends on the channels before it, linearly (Eq. 3).
    """

    components: Count = 10
    least_log_scale: float = -7.0

    def outputs(self, channels: int) -> int:
        """Returns how many numbers a network puts out for a pixel: 3 a component of grey, 10 of colours."""
        return self.components * (1 + 2 * channels + channels * (channels - 1) // 2)

    def log_prob(self, output: Float[Array, "... o"], x: Float[Array, "... c"]) -> Float[Array, ...]:
        """log sum_i pi_i prod_c [sigmoid((x + 1/255 - mu_i) / s_i) - sigmoid((x - 1/255 - mu_i) / s_i)]   (Eq. 2)

        Probabilities of the 256 levels sum to 1.
        """
        parts = self._parts(output, x.shape[-1])
        of_channels = [
            _log_prob_of_level(x[..., c, None], self._mean(parts, x, c), parts.log_scales[..., c, :])
            for c in range(x.shape[-1])
        ]
        return jax.nn.logsumexp(jax.nn.log_softmax(parts.logits) + sum(of_channels), axis=-1)

    def draw(self, output: Float[Array, "... o"], key: PRNGKey) -> Float[Array, "... c"]:
        """Draws a component, then channel after channel, each rounded to its nearest level."""
        channels = self._channels(output.shape[-1])
        parts = self._parts(output, channels)
        chosen_key, *keys = jax.random.split(key, 1 + channels)
        chosen = jax.random.categorical(chosen_key, parts.logits)[..., None, None]
        one = Parts(parts.logits, *(jnp.take_along_axis(part, chosen, axis=-1) for part in parts[1:]))
        x = jnp.zeros((*output.shape[:-1], channels))
        for c in range(channels):
            noise = jax.random.logistic(keys[c], x.shape[:-1])
            value = self._mean(one, x, c)[..., 0] + jnp.exp(one.log_scales[..., c, 0]) * noise
            x = x.at[..., c].set(to_float(to_uint8(value)))
        return x

    def mean(self, output: Float[Array, "... o"]) -> Float[Array, "... c"]:
        """Returns the expectation before values are rounded and cut to [-1, 1], and cuts it."""
        channels = self._channels(output.shape[-1])
        parts = self._parts(output, channels)
        of_channels: list[Array] = []  # [... k] each: a channel's mean is linear in those before it
        for c in range(channels):
            pairs = parts.coefficients[..., c * (c - 1) // 2 :, :]
            told = [pairs[..., other, :] * before for other, before in enumerate(of_channels)]
            of_channels.append(parts.means[..., c, :] + sum(told))
        share = jax.nn.softmax(parts.logits)
        return jnp.clip(jnp.stack([jnp.sum(share * mean, axis=-1) for mean in of_channels], axis=-1), -1, 1)

    def _parts(self, output: Float[Array, "... o"], channels: int) -> Parts:
        k, pairs = self.components, channels * (channels - 1) // 2
        whole = output.astype(jnp.float32).reshape(*output.shape[:-1], 1 + 2 * channels + pairs, k)
        logits, means, log_scales, coefficients = jnp.split(whole, [1, 1 + channels, 1 + 2 * channels], axis=-2)
        least = jnp.maximum(log_scales, self.least_log_scale)
        return Parts(logits[..., 0, :], means, least, jnp.tanh(coefficients))

    def _channels(self, outputs: int) -> int:
        """Returns the number of channels that so many numbers a pixel are for."""
        return next(c for c in range(1, outputs + 1) if self.outputs(c) >= outputs)

    def _mean(self, parts: Parts, x: Float[Array, "... c"], c: int) -> Float[Array, "... k"]:
        """mu_c + sum of coefficients times the channels before c   (Eq. 3)"""
        mean = parts.means[..., c, :]
        for other in range(c):
            mean = mean + parts.coefficients[..., c * (c - 1) // 2 + other, :] * x[..., other, None]
        return mean


def _log_prob_of_level(x: Array, mean: Array, log_scale: Array) -> Array:
    """Returns log[sigmoid(a) - sigmoid(b)], a and b where a level begins and ends, or without end at the outermost.

    It is log sigmoid(a) + log sigmoid(-b) + log(1 - e^(b - a)): no difference of nearly equal numbers is taken.
    """
    inverse = jnp.exp(-log_scale)
    a, b = inverse * (x + STEP / 2 - mean), inverse * (x - STEP / 2 - mean)
    below, above = jax.nn.log_sigmoid(a), jax.nn.log_sigmoid(-b)
    inside = below + above + jnp.log(-jnp.expm1(-inverse * STEP))
    return jnp.where(x < -0.999, below, jnp.where(x > 0.999, above, inside))
