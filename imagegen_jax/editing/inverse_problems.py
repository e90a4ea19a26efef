"""Inverse problems: y = A x_0 is known of an image, and a denoiser becomes one that respects it, as guidance makes one.

Every solver can then inpaint, enlarge, colourise and deblur with any trained model. Where a gradient goes through the
network, `for_loops` makes it cheap enough for solvers, which are loops.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float

from imagegen_jax.core.arrays.conv_layout import for_loops
from imagegen_jax.diffusion.guidance.functions import Number
from imagegen_jax.diffusion.process.denoiser import Denoise
from imagegen_jax.diffusion.process.prediction import SIGMA_DATA, broadcast_rows

Images = Float[Array, "b ..."]
Sigmas = Float[Array, " b"]


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear operator A, y = A x, with its adjoint and `solve`.

    `solve(y, s)` is (A A^T + s)^-1 y for s >= 0, where s is a number, or broadcasts to y with a value for each row.
    Where A A^T + s is 0, or counts as 0, the answer is 0.
    """

    forward: Callable[[Images], Images]
    adjoint: Callable[[Images], Images]
    solve: Callable[[Images, Number], Images]

    def inverse(self, y: Images) -> Images:
        """Returns A^+ y = A^T (A A^T)^-1 y, the smallest x with A x = y."""
        return self.adjoint(self.solve(y, 0.0))


def masked(mask: Bool[Array, "*s"]) -> Linear:
    """Makes the operator that keeps values where `mask` is True; y is 0 elsewhere.

    `mask` has the shape of a row, or one that broadcasts to it. A A^T is the identity on the values that are kept.
    """
    return _scaled(lambda x: jnp.where(mask, x, 0), lambda y: jnp.where(mask, y, 0), 1.0)


def pooled(factor: int) -> Linear:
    """Makes the operator that averages `factor` x `factor` pixels: [B H W C] -> [B H/f W/f C].

    Raises ValueError for a factor below 1.
    """
    if factor < 1:
        raise ValueError(f"factor={factor}: must be at least 1")

    def forward(x: Images) -> Images:
        b, h, w, c = x.shape
        if h % factor or w % factor:
            raise ValueError(f"images of {h}x{w} do not divide into squares of factor={factor}")
        return x.reshape(b, h // factor, factor, w // factor, factor, c).mean(axis=(2, 4))

    def adjoint(y: Images) -> Images:
        return y.repeat(factor, axis=1).repeat(factor, axis=2) / factor**2

    return _scaled(forward, adjoint, 1 / factor**2)


def grey(channels: int = 3) -> Linear:
    """Makes the operator that averages the channels: [B H W C] -> [B H W 1]."""
    return _scaled(
        lambda x: x.mean(axis=-1, keepdims=True), lambda y: y.repeat(channels, axis=-1) / channels, 1 / channels
    )


def blurred(kernel: Float[Array, "k m"], least: float = 1e-3) -> Linear:
    """Makes the operator that convolves each channel with `kernel`: [B H W C] -> [B H W C].

    The kernel's centre is at [k // 2, m // 2].

    Images continue at their opposite edges, so that the Fourier transform diagonalises A: A A^T is |H|^2, where H is
    the kernel's transform. Frequencies with |H|^2 + s below (`least` max |H|)^2 count as lost, like small singular
    values in `numpy.linalg.pinv`. Raises ValueError for a kernel that is larger than the images.
    """

    def transfer(x: Images) -> Complex[Array, "h w/2+1 1"]:
        (high, wide), (h, w) = kernel.shape, x.shape[1:3]
        if high > h or wide > w:
            raise ValueError(f"a kernel of {high}x{wide} is larger than the images of {h}x{w}: use a smaller one")
        padded = jnp.zeros((h, w), x.dtype).at[:high, :wide].set(kernel)
        return jnp.fft.rfft2(jnp.roll(padded, (-(high // 2), -(wide // 2)), axis=(0, 1)))[..., None]

    def filtered(x: Images, response: Array) -> Images:
        return jnp.fft.irfft2(jnp.fft.rfft2(x, axes=(1, 2)) * response, x.shape[1:3], axes=(1, 2))

    def solve(y: Images, s: Number) -> Images:
        gram = jnp.abs(transfer(y)) ** 2
        kept = gram + s >= least**2 * gram.max()
        return filtered(y, jnp.where(kept, 1 / jnp.where(kept, gram + s, 1), 0))

    return Linear(lambda x: filtered(x, transfer(x)), lambda y: filtered(y, transfer(y).conj()), solve)


def gaussian(sigma: float, size: int) -> Float[np.ndarray, "size size"]:
    """Makes a kernel for `blurred`: exp(-r^2 / (2 sigma^2)) with the sum 1, r in pixels from the centre.

    Beyond r = 3 sigma little is left of it. Raises ValueError for a sigma that is not above 0, or an even size.
    """
    if not 0 < sigma < math.inf or size % 2 != 1:
        raise ValueError(f"sigma={sigma}, size={size}: sigma must be above 0, size odd")
    along = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    return np.outer(along, along) / along.sum() ** 2


def replaced(denoise: Denoise, image: Images, mask: Bool[Array, "*s"], noise: Images) -> Denoise:
    """Inpaints by replacement (Song et al. 2021, arXiv 2011.13456, appendix I.2): puts known values in their place.

    Where `mask` is True, x becomes image + sigma `noise` before the network sees it, and the estimate is the image's.
    `noise`, standard normal with the shape of x, is the same at all levels. A solver that ends at 0 leaves known values
    as they are.
    """

    def conditional(x: Images, sigma: Sigmas) -> Images:
        x = jnp.where(mask, image + broadcast_rows(sigma, x) * noise, x)
        return jnp.where(mask, image, denoise(x, sigma))

    return conditional


def refined(denoise: Denoise, reference: Images, operator: Linear, noise: Images, low: Number = 0.0) -> Denoise:
    """Gives x the part of the noisy `reference` that A sees: ILVR (Choi et al. 2021, arXiv 2108.02938, Eq. 5).

    x <- x + A^+ A (reference + sigma `noise` - x) before the network sees it, at levels above `low`; below, images are
    free. The estimate gets the same part of the reference, since the paper's step leaves it in x.
    """

    def conditional(x: Images, sigma: Sigmas) -> Images:
        above = broadcast_rows(sigma, x) > low
        target = reference + broadcast_rows(sigma, x) * noise
        x_0 = denoise(jnp.where(above, x + _part(operator, target - x), x), sigma)
        return jnp.where(above, x_0 + _part(operator, reference - x_0), x_0)

    return conditional


def dps(denoise: Denoise, y: Images, forward: Callable[[Images], Images], deviation: Number) -> Denoise:
    """Guides by diffusion posterior sampling (Chung et al. 2023, arXiv 2209.14687, Eq. 11).

    The new denoiser is D + sigma^2 grad_x log N(y; A(D), s^2).

    `forward` may be any differentiable function, and s = `deviation` is the noise of y. The paper replaces 1 / s^2 by a
    step size for each problem; here a larger deviation serves that purpose.
    """

    def guided(x: Images, sigma: Sigmas) -> Images:
        x_0, back = jax.vjp(lambda x: denoise(x, sigma), x)
        seen, back_to_estimate = jax.vjp(forward, x_0)
        (gradient,) = back(back_to_estimate((y - seen) / deviation**2)[0])
        return x_0 + broadcast_rows(sigma, x) ** 2 * gradient

    return for_loops(guided)


def pigdm(
    denoise: Denoise, y: Images, operator: Linear, deviation: Number = 0.0, sigma_data: Number = SIGMA_DATA
) -> Denoise:
    """Guides by the pseudoinverse (Song et al. 2023, "Pseudoinverse-guided diffusion models", Eq. 7 and 8).

    Like `dps`, but it adds the estimate's own uncertainty r^2 = sigma^2 sigma_data^2 / (sigma^2 + sigma_data^2) to the
    noise of y: D + sigma^2 J^T A^T (r^2 A A^T + s^2)^-1 (y - A D). It is exact where the data are normal with the
    deviation `sigma_data`.
    """

    def guided(x: Images, sigma: Sigmas) -> Images:
        x_0, back = jax.vjp(lambda x: denoise(x, sigma), x)
        level = broadcast_rows(sigma, x)
        # sigma^2 (r^2 A A^T + s^2)^-1 = ratio (A A^T + ratio s^2 / sigma^2)^-1
        ratio = 1 + (level / sigma_data) ** 2  # sigma^2 / r^2
        residual = operator.solve(y - operator.forward(x_0), ratio * (deviation / level) ** 2)
        (gradient,) = back(ratio * operator.adjoint(residual))
        return x_0 + gradient

    return for_loops(guided)


def _part(operator: Linear, x: Images) -> Images:
    """Returns A^+ A x, the part of x that A sees."""
    return operator.inverse(operator.forward(x))


def _scaled(forward: Callable[[Images], Images], adjoint: Callable[[Images], Images], gram: float) -> Linear:
    """Makes an operator A whose A A^T is `gram` times the identity."""
    return Linear(forward, adjoint, lambda y, s: y / (gram + s))
