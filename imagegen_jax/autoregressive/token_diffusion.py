"""The diffusion loss of MAR (Li et al. 2024, arXiv 2406.11838, section 3.2): what a token may be, given a vector."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient
from jaxtyping import Array, Float, Int

from imagegen_jax.autoregressive.codes import guided, with_unconditional
from imagegen_jax.core.arrays.random import integer_rows, normal_rows, streams
from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.model import PRNGKey, PRNGKeys, Scalar, Variables
from imagegen_jax.nn.backbones.transformers.token_denoiser import TokenDenoiser
from imagegen_jax.nn.distributions.noise_steps import (
    AnySchedule,
    CosineSchedule,
    backward,
    bound_terms,
    rows_of,
    signal_and_noise,
    step_table,
    x_0_of,
)

Tokens = Float[Array, "n l e"]
Condition = Float[Array, "n l d"]


@dataclasses.dataclass(frozen=True)
class TokenDiffusion:
    """A diffusion model of single tokens that learns its variances; the defaults are those of MAR-B.

    Raises ValueError for more steps of sampling than the schedule has.
    """

    network: TokenDenoiser = TokenDenoiser()
    schedule: AnySchedule = CosineSchedule(1000)
    noises: Count = 4  # for each token in training: the transformer, which takes most of the time, runs once for all
    steps: Count = 100  # of sampling, evenly spaced among the schedule's

    def __post_init__(self) -> None:
        if self.steps > self.schedule.steps:
            raise ValueError(
                f"diffusion.steps={self.steps} is not between 1 and the {self.schedule.steps} steps of the schedule"
            )

    def init(self, key: PRNGKey, tokens: Tokens, z: Condition) -> Variables:
        """Initialises the network."""
        variables: Variables = self.network.init(key, tokens, jnp.zeros(tokens.shape[:-1]), z)
        return variables

    def losses(
        self, variables: Variables, z: Condition, tokens: Tokens, keys: PRNGKeys
    ) -> tuple[Float[Array, "n l"], Float[Array, "n l"]]:
        """Draws times and noises by the rows' keys, and returns what `losses_at` says of them."""
        time_keys, epsilon_keys = streams(keys, 2)
        t = integer_rows(time_keys, self.schedule.steps, (self.noises, tokens.shape[1]))
        return self.losses_at(variables, z, tokens, t, normal_rows(epsilon_keys, (self.noises, *tokens.shape[1:])))

    def losses_at(
        self,
        variables: Variables,
        z: Condition,
        tokens: Tokens,
        t: Int[Array, "n m l"],
        epsilon: Float[Array, "n m l e"],
    ) -> tuple[Float[Array, "n l"], Float[Array, "n l"]]:
        """|epsilon - epsilon_theta(x_t | t, z)|^2 (Eq. 1) of each token, and a term of the bound in bits

        Both are means over values and noises. The bound moves the variances alone, as in improved DDPM.
        """
        x_0 = tokens[:, None]
        signal, noise = (a.reshape(*t.shape, 1) for a in signal_and_noise(self.schedule, t.reshape(-1), 1))
        x_t = signal * x_0 + noise * epsilon
        predicted, between = self._predicted(variables, x_t, t, z[:, None])
        row = rows_of(step_table(self.schedule, np.arange(self.schedule.steps)), t, x_t.ndim)
        p = backward(row, x_t, x_0_of(row, x_t, stop_gradient(predicted)), between)
        nats = bound_terms(row, x_0, x_t, p, t[..., None] == 0)
        return jnp.mean((epsilon - predicted) ** 2, axis=(1, 3)), jnp.mean(nats, axis=(1, 3)) / math.log(2)

    def draw(
        self,
        variables: Variables,
        z: Condition,
        noise: Callable[[Any], Tokens],
        guidance: Scalar | Float[Array, " n"] | None = None,
        temperature: Scalar | Float[Array, "#n 1 1"] | float = 1.0,
    ) -> Tokens:
        """Draws tokens: [N L D] -> [N L E], or [2N L D] with a `guidance` away from the second half of `z`.

        `noise(i)` is added, times the `temperature`, on the way from the i-th of the `steps` to the one before; with
        `noise(steps)` it begins.
        """
        t = np.round(np.linspace(0, self.schedule.steps - 1, self.steps)).astype(np.int32)
        table = step_table(self.schedule, t)

        def step(x_t: Tokens, i: Int[Array, ""]) -> tuple[Tokens, None]:
            row, x = rows_of(table, i, 0), x_t if guidance is None else with_unconditional(x_t)
            predicted, between = self._predicted(variables, x, jnp.full((1, 1), row.t), z)
            predicted = predicted if guidance is None else guided(predicted, guidance)
            mean, log_variance = backward(row, x_t, x_0_of(row, x_t, predicted), between[: len(x_t)])
            return mean + (i > 0) * jnp.exp(log_variance / 2) * temperature * noise(i), None

        x_0, _ = jax.lax.scan(step, noise(self.steps), jnp.arange(self.steps - 1, -1, -1))
        return x_0

    def _predicted(self, variables: Variables, x_t: Array, t: Array, z: Array) -> tuple[Array, Array]:
        """Returns the noise and v of improved DDPM's Eq. 15, which is in [0, 1] for outputs in [-1, 1]."""
        out = self.network.apply(variables, x_t, t * 1000 / self.schedule.steps, z)
        predicted, between = jnp.split(out, 2, axis=-1)
        return predicted, (between + 1) / 2
