"""Images of which something is known, y = A x_0: functions of denoisers that return a denoiser, as `guidance` has them.

So every solver inpaints, enlarges and colourises with any trained model. Where the gradient of what is known is had
through the network, `for_loops` makes it one that solvers, which are loops, can afford.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from imagegen_jax.core.loops import for_loops
from imagegen_jax.diffusion.denoiser import Denoise
from imagegen_jax.diffusion.guidance import Number
from imagegen_jax.diffusion.prediction import SIGMA_DATA, rows_of

Images = Float[Array, "b ..."]
Sigmas = Float[Array, " b"]


@dataclasses.dataclass(frozen=True)
class Linear:
    """y = A x with A A^T = `gram` times the identity, so that A^T y / gram is the pseudoinverse's answer."""

    forward: Callable[[Images], Images]
    adjoint: Callable[[Images], Images]
    gram: float = 1.0

    def inverse(self, y: Images) -> Images:
        """The least x with A x = y."""
        return self.adjoint(y) / self.gram


def masked(mask: Bool[Array, "*s"]) -> Linear:
    """What a `mask`, of the shape of a row or one that broadcasts to it, leaves; y is 0 elsewhere.

    Here A A^T is the identity on what is known, which is all that y has.
    """
    return Linear(lambda x: jnp.where(mask, x, 0), lambda y: jnp.where(mask, y, 0))


def pooled(factor: int) -> Linear:
    """Means of `factor` x `factor` pixels: [B H W C] -> [B H/f W/f C]. Raises ValueError for a factor below 1."""
    if factor < 1:
        raise ValueError(f"factor={factor}: must be at least 1")

    def forward(x: Images) -> Images:
        b, h, w, c = x.shape
        if h % factor or w % factor:
            raise ValueError(f"images of {h}x{w} do not divide into squares of factor={factor}")
        return x.reshape(b, h // factor, factor, w // factor, factor, c).mean(axis=(2, 4))

    def adjoint(y: Images) -> Images:
        return y.repeat(factor, axis=1).repeat(factor, axis=2) / factor**2

    return Linear(forward, adjoint, 1 / factor**2)


def grey(channels: int = 3) -> Linear:
    """Means over the channels: [B H W C] -> [B H W 1]."""
    return Linear(
        lambda x: x.mean(axis=-1, keepdims=True), lambda y: y.repeat(channels, axis=-1) / channels, 1 / channels
    )


def replaced(denoise: Denoise, image: Images, mask: Bool[Array, "*s"], noise: Images) -> Denoise:
    """Inpainting by replacement (Song et al. 2021, arXiv 2011.13456, appendix I.2): what is known is put in its place.

    Where `mask` is True, x becomes image + sigma `noise` before the network sees it, and the estimate is the image's.
    `noise`, standard normal like x, is one for all levels. A solver that ends at 0 leaves known values as they are.
    """

    def conditional(x: Images, sigma: Sigmas) -> Images:
        x = jnp.where(mask, image + rows_of(sigma, x) * noise, x)
        return jnp.where(mask, image, denoise(x, sigma))

    return conditional


def refined(denoise: Denoise, reference: Images, operator: Linear, noise: Images, low: Number = 0.0) -> Denoise:
    """ILVR (Choi et al. 2021, arXiv 2108.02938, Eq. 5): x has what A sees of it from the noisy `reference`.

    x <- x + A^+ A (reference + sigma `noise` - x) before the network sees it, at levels above `low`; below, images are
    free. The estimate gets the same part of the reference, as the paper's step leaves it in x.
    """

    def conditional(x: Images, sigma: Sigmas) -> Images:
        above = rows_of(sigma, x) > low
        target = reference + rows_of(sigma, x) * noise
        x_0 = denoise(jnp.where(above, x + _part(operator, target - x), x), sigma)
        return jnp.where(above, x_0 + _part(operator, reference - x_0), x_0)

    return conditional


def dps(denoise: Denoise, y: Images, forward: Callable[[Images], Images], deviation: Number) -> Denoise:
    """Diffusion posterior sampling (Chung et al. 2023, 2209.14687, Eq. 11): D + sigma^2 grad_x log N(y; A(D), s^2).

    `forward` may be any differentiable function, and s = `deviation` is the noise of y. The paper replaces 1 / s^2 by a
    step size for each problem; a greater deviation does that here.
    """

    def guided(x: Images, sigma: Sigmas) -> Images:
        x_0, back = jax.vjp(lambda x: denoise(x, sigma), x)
        seen, back_to_estimate = jax.vjp(forward, x_0)
        (gradient,) = back(back_to_estimate((y - seen) / deviation**2)[0])
        return x_0 + rows_of(sigma, x) ** 2 * gradient

    return for_loops(guided)


def pigdm(
    denoise: Denoise, y: Images, operator: Linear, deviation: Number = 0.0, sigma_data: Number = SIGMA_DATA
) -> Denoise:
    """Pseudoinverse guidance (Song et al. 2023, "Pseudoinverse-guided diffusion models", Eq. 7 and 8).

    As `dps`, with the estimate's own uncertainty r^2 = sigma^2 sigma_data^2 / (sigma^2 + sigma_data^2) beside the noise
    of y: D + sigma^2 J^T A^T (r^2 A A^T + s^2)^-1 (y - A D). Exact where the data are normal with that deviation.
    """

    def guided(x: Images, sigma: Sigmas) -> Images:
        x_0, back = jax.vjp(lambda x: denoise(x, sigma), x)
        level = rows_of(sigma, x)
        # sigma^2 / (r^2 gram + s^2), in which sigma cancels where s is 0
        weight = 1 / (sigma_data**2 / (level**2 + sigma_data**2) * operator.gram + (deviation / level) ** 2)
        (gradient,) = back(weight * operator.adjoint(y - operator.forward(x_0)))
        return x_0 + gradient

    return for_loops(guided)


def _part(operator: Linear, x: Images) -> Images:
    """A^+ A x: what A sees of x."""
    return operator.inverse(operator.forward(x))
