"""Denoisers: what a sampler sees of a network, whatever the network was trained to predict."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.diffusion.schedule import Schedule, signal_and_noise

Prediction = Callable[[Float[Array, "b ..."], Int[Array, " b"]], Float[Array, "b ..."]]
Denoise = Prediction  # (x_t, t) -> the estimate of x_0


def from_epsilon(predict: Prediction, schedule: Schedule, clip: bool = True) -> Denoise:
    """The denoiser of a network that predicts the noise: x_0 = (x_t - sqrt(1 - alpha_bar) epsilon) / sqrt(alpha_bar).

    Eq. 15 of Ho et al. (2020). `clip` keeps the estimate in [-1, 1], the range of images, as DDPM's code does; it needs
    to be off for data that leave this range.
    """

    def denoise(x: Float[Array, "b ..."], t: Int[Array, " b"]) -> Float[Array, "b ..."]:
        signal, noise = signal_and_noise(schedule, t, x.ndim)
        x_0 = (x - noise * predict(x, t)) / signal
        return jnp.clip(x_0, -1.0, 1.0) if clip else x_0

    return denoise
