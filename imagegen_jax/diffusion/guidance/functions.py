"""Guidance: functions of denoisers that return a denoiser, so that they compose, and every solver can use them.

The convention: a scale of 1 is the conditional denoiser itself, 0 the unconditional one, and above 1 it is guided, as
in Imagen, EDM2 and `diffusers`; Ho & Salimans's own w is the scale less 1. Two functions differ from it at a scale of
0: `cfg_zero_star` gives the unconditional velocity times s*, and `projected` the conditional estimate less the part of
the difference that is kept. A scale may be a number, an array (then another value does not compile again), one for each
row, or a function of sigma [B], such as `interval` makes. `fields` has them as fields of a model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.conv_layout import for_loops
from imagegen_jax.diffusion.process.denoiser import Denoise
from imagegen_jax.diffusion.process.prediction import broadcast_rows, coefficients
from imagegen_jax.diffusion.process.process import Point

Images = Float[Array, "b ..."]
Sigmas = Float[Array, " b"]
Number = Float[Array, ""] | Float[Array, " b"] | float
Scale = Number | Callable[[Sigmas], Number]
Output = Literal["v", "epsilon", "x0"]
LogProb = Callable[[Images, Sigmas], Float[Array, " b"]]
Guiding = Callable[[Denoise], Denoise]  # from a model's own estimate to the guided one


class Guidance(Protocol):
    """What a model asks of a guidance."""

    def __call__(self, conditional: Denoise, unconditional: Denoise, scale: Scale) -> Denoise:
        """Returns the guided denoiser."""
        ...


def classifier_free(conditional: Denoise, unconditional: Denoise, scale: Scale) -> Denoise:
    """Guides away from the estimate without a label: D_u + scale (D_c - D_u).

    Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598, Eq. 6).
    """

    def denoise(x: Images, sigma: Sigmas) -> Images:
        strong, weak = conditional(x, sigma), unconditional(x, sigma)
        return weak + _scale(scale, sigma, x) * (strong - weak)

    return denoise


def autoguidance(good: Denoise, bad: Denoise, scale: Scale) -> Denoise:
    """Guides away from a weaker twin: D_bad + scale (D_good - D_bad).

    Karras et al. (2024, arXiv 2406.02507, Eq. 3). The twin, which is smaller or was trained less, has the same
    condition: the classes, which both share, stay as they are.
    """
    return classifier_free(good, bad, scale)


def interval(scale: Scale, low: Number, high: Number) -> Callable[[Sigmas], Float[Array, " b"]]:
    """Limits a guidance scale to an interval: `scale` where `low` < sigma <= `high`, and 1, no guidance, elsewhere.

    Kynkäänniemi et al. (2024, arXiv 2404.07724, Eq. 6). The unconditional denoiser is evaluated outside as well, as all
    levels share one compiled step.
    """

    def of_sigma(sigma: Sigmas) -> Float[Array, " b"]:
        inside = (low < sigma) & (sigma <= high)
        return jnp.where(inside, scale(sigma) if callable(scale) else scale, 1.0)

    return of_sigma


def rescaled(guided: Denoise, conditional: Denoise, share: Number = 0.7, output: Output = "v") -> Denoise:
    """Brings the deviation of guided estimates to the conditional's, by `share`: 0 leaves `guided`, 1 is all the way.

    Lin et al. (2023, arXiv 2305.08891, Eq. 15 and 16, with phi for the share). What is rescaled is the `output` of a
    network, for each image by itself: the paper's networks predict v, and `diffusers` rescales what its network
    predicts, often epsilon; both are of a process that preserves variance. Neither rescales "x0", the estimates.
    """

    def denoise(x: Images, sigma: Sigmas) -> Images:
        alpha = (1 + sigma**2) ** -0.5
        point, x_t = Point(alpha, sigma * alpha, 0.0, 0.0), broadcast_rows(alpha, x) * x
        to, back = (
            tuple(broadcast_rows(c, x) for c in coefficients(*way, point)) for way in (("x0", output), (output, "x0"))
        )
        cfg, positive = (to[0] * x_t + to[1] * one(x, sigma) for one in (guided, conditional))
        factor = _deviation(positive) / jnp.maximum(_deviation(cfg), jnp.finfo(cfg.dtype).tiny)
        phi = broadcast_rows(jnp.asarray(share), x)
        return back[0] * x_t + back[1] * (phi * factor * cfg + (1 - phi) * cfg)

    return denoise


def classifier(denoise: Denoise, log_prob: LogProb, scale: Scale) -> Denoise:
    """Guides by the gradient of a classifier of noisy images: D + scale sigma^2 grad_x log p(y | x; sigma).

    Dhariwal & Nichol (2021, arXiv 2105.05233, Algorithm 2), who subtract the gradient from the noise; their Algorithm 1
    moves the mean of a step instead. `log_prob(x, sigma)` is the classifier's, of the labels asked for, with x as
    denoisers see it. A scale of 0 is `denoise` alone, and 1 the posterior by Bayes's rule.
    """

    def guided(x: Images, sigma: Sigmas) -> Images:
        gradient = for_loops(jax.grad(lambda x: jnp.sum(log_prob(x, sigma))))(x)
        return denoise(x, sigma) + _scale(scale, sigma, x) * broadcast_rows(sigma, x) ** 2 * gradient

    return guided


def cfg_zero_star(conditional: Denoise, unconditional: Denoise, scale: Scale, still_above: Number = jnp.inf) -> Denoise:
    """Guides a rectified flow by velocities, with the unconditional one scaled first: CFG-Zero*.

    Fan et al. (2025, arXiv 2503.18886, Eq. 9, Algorithm 1). The factor is s* = <v_c, v_u> / |v_u|^2: a scale of 0
    leaves s* v_u. Above the level `still_above` the velocity is zero ("zero-init") at any scale: there x_t stays what
    it is.
    """

    def denoise(x: Images, sigma: Sigmas) -> Images:
        level = broadcast_rows(sigma, x)
        # v = epsilon - x_0, with epsilon = (x - x_0) / sigma; so x_0 = (x - sigma v) / (1 + sigma)
        v_c, v_u = ((x - (1 + level) * one(x, sigma)) / level for one in (conditional, unconditional))
        s = _dot(v_c, v_u) / jnp.maximum(_dot(v_u, v_u), jnp.finfo(x.dtype).tiny)
        v = s * v_u + _scale(scale, sigma, x) * (v_c - s * v_u)
        v = jnp.where(level > broadcast_rows(jnp.asarray(still_above), x), 0.0, v)
        return (x - level * v) / (1 + level)

    return denoise


def projected(
    conditional: Denoise, unconditional: Denoise, scale: Scale, along: Number = 0.0, radius: Number = jnp.inf
) -> Denoise:
    """Guides mostly across the conditional estimate: APG (Sadat et al. 2024, arXiv 2410.02416, Algorithm 1).

    The difference D_c - D_u is shortened to at most the length `radius`, and its part along D_c, which saturates
    images, is weighted by `along`. With `along` 1 and an infinite radius this is `classifier_free`; with other values a
    scale of 0 is not the unconditional denoiser. The paper's momentum is left out (its beta is 0): a denoiser remembers
    nothing of the step before, and solvers may call it twice in a step, or repeat a step.
    """

    def denoise(x: Images, sigma: Sigmas) -> Images:
        strong = conditional(x, sigma)
        difference = strong - unconditional(x, sigma)
        tiny = jnp.finfo(x.dtype).tiny
        length = jnp.sqrt(_dot(difference, difference))
        difference = difference * jnp.minimum(1.0, broadcast_rows(jnp.asarray(radius), x) / jnp.maximum(length, tiny))
        parallel = _dot(difference, strong) / jnp.maximum(_dot(strong, strong), tiny) * strong
        kept = difference - parallel + broadcast_rows(jnp.asarray(along), x) * parallel
        return strong + (_scale(scale, sigma, x) - 1) * kept

    return denoise


def thresholded(denoise: Denoise, percentile: Number = 0.995, most: Number = jnp.inf) -> Denoise:
    """Clips estimates to [-s, s] and divides them by s: dynamic thresholding (Saharia et al. 2022, arXiv 2205.11487).

    Section 2.3: s is the `percentile` of an image's absolute values, but at least 1 and at most `most`; with `most` 1
    this is plain clipping to [-1, 1].
    """

    def within(x: Images, sigma: Sigmas) -> Images:
        x_0 = denoise(x, sigma)
        s = jnp.quantile(jnp.abs(x_0).reshape(len(x_0), -1), percentile, axis=1)
        s = broadcast_rows(jnp.clip(s, 1.0, jnp.maximum(most, 1.0)), x_0)
        return jnp.clip(x_0, -s, s) / s

    return within


def guiding(guidance: Guidance, weaker: Guiding, scale: Scale) -> Guiding:
    """Returns the function that guides a model's own estimate away from a `weaker` one, at a scale.

    The model's own estimate is made once; `weaker` may make its estimate from it.
    """

    def guide(denoise: Denoise) -> Denoise:
        def guided(x: Images, sigma: Sigmas) -> Images:
            own = constant(denoise(x, sigma))
            return guidance(own, weaker(own), scale)(x, sigma)

        return guided

    return guide


def unguided(denoise: Denoise) -> Denoise:
    """Leaves a model's own estimate as it is."""
    return denoise


def constant(x_0: Images) -> Denoise:
    """Returns a denoiser that gives the same estimate wherever it is called: right only where the estimate was made."""
    return lambda x, sigma: x_0


def _scale(scale: Scale, sigma: Sigmas, x: Images) -> Float[Array, "b ..."]:
    return broadcast_rows(jnp.asarray(scale(sigma) if callable(scale) else scale), x)


def _dot(a: Images, b: Images) -> Float[Array, "b ..."]:
    """Returns the inner product of each row, with as many axes as the rows have: [B 1 ...]."""
    return jnp.sum(a * b, axis=tuple(range(1, a.ndim)), keepdims=True)


def _deviation(x: Images) -> Float[Array, "b ..."]:
    return jnp.std(x, axis=tuple(range(1, x.ndim)), keepdims=True)
