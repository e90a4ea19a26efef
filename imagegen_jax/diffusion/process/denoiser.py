"""Denoisers: the form in which solvers and guidance see a network, whatever it was trained to predict.

A denoiser is given x = x_0 + sigma epsilon and sigma, that is x_t / alpha and sigma_t / alpha_t of any process, and
returns its estimate of x_0. The exact estimate is E[x_0 | x], and (D(x; sigma) - x) / sigma^2 is then the score
(Karras et al. 2022, arXiv 2206.00364, Eq. 3).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.capabilities import Denoise
from imagegen_jax.diffusion.process.prediction import SIGMA_DATA, Kind, broadcast_rows, coefficients
from imagegen_jax.diffusion.process.process import Point, Process, WholeTimed

Predict = Callable[[Float[Array, "b ..."], Any], Float[Array, "b ..."]]  # (x_t, t) -> what the network was trained for


def from_prediction(
    predict: Predict,
    process: Process,
    kind: Kind = "epsilon",
    whole_times: bool = True,
    sigma_data: float = SIGMA_DATA,
) -> Denoise:
    """Makes a denoiser of a network that takes x_t [B ...] and t [B] of `process` and predicts `kind`.

    In a process of whole times, such as `Discrete`, t is the nearest of them, as int32; with `whole_times` off it may
    lie between them. Raises ValueError for an unknown `kind`.
    """

    def denoise(x: Float[Array, "b ..."], sigma: Float[Array, " b"]) -> Float[Array, "b ..."]:
        t = process.time(sigma)
        if whole_times and isinstance(process, WholeTimed):
            t = jnp.round(t).astype(jnp.int32)
        alpha = process.scale(sigma)
        rates = (process.alpha_rate(t), process.sigma_rate(t)) if kind == "velocity" else (0.0, 0.0)
        of_x_t, of_prediction = coefficients(kind, "x0", Point(alpha, sigma * alpha, *rates), sigma_data)
        x_t = broadcast_rows(alpha, x) * x
        return broadcast_rows(of_x_t, x) * x_t + broadcast_rows(of_prediction, x) * predict(x_t, t)

    return denoise


@dataclasses.dataclass(frozen=True)
class Clipped:
    """A denoiser that clips the estimates of another one, `whole`, to the range of images."""

    whole: Denoise

    def __call__(self, x: Float[Array, "b ..."], sigma: Float[Array, " b"]) -> Float[Array, "b ..."]:
        """Returns the estimate, clipped to [-1, 1]."""
        return jnp.clip(self.whole(x, sigma), -1.0, 1.0)


def clipped(denoise: Denoise) -> Denoise:
    """Clips estimates to [-1, 1], the range of images; not for data that leave this range. Guide first, then clip."""
    return Clipped(denoise)


def preconditioned(network: Predict, sigma_data: float = SIGMA_DATA) -> Predict:
    """Gives a network EDM's inputs, c_in x and c_noise = log(sigma) / 4 (Karras et al. 2022, Table 1).

    It then predicts F of the process `EDM`, and `from_prediction(preconditioned(network), EDM(), "F")` is the denoiser.
    """

    def predict(x: Float[Array, "b ..."], sigma: Float[Array, " b"]) -> Float[Array, "b ..."]:
        return network(x * broadcast_rows((sigma**2 + sigma_data**2) ** -0.5, x), c_noise(sigma))

    return predict


def c_noise(sigma: Float[Array, " b"]) -> Float[Array, " b"]:
    """Returns log(sigma) / 4, kept finite at sigma = 0, where a process may begin."""
    return jnp.log(jnp.maximum(sigma, 1e-20)) / 4


def moved(denoise: Denoise, factor: float, offset: Any) -> Denoise:
    """Makes a denoiser of x from one of factor x + offset, for example that of another space."""
    return lambda x, sigma: (denoise(factor * x + offset, factor * sigma) - offset) / factor
