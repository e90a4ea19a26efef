"""Edits of images by a trained denoiser: it starts from noise added to them, or from the noise that leads to them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float64, Int

from imagegen_jax.core.capabilities import Denoising
from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.model import PRNGKey
from imagegen_jax.diffusion.process.denoiser import Denoise
from imagegen_jax.diffusion.process.prediction import broadcast_rows
from imagegen_jax.diffusion.sampling.ancestral import DDPMAncestral
from imagegen_jax.diffusion.sampling.multistep import Euler
from imagegen_jax.diffusion.sampling.solver import Levels, Samples, Solver, check_levels, noise, noise_estimate, scan
from imagegen_jax.editing.inverse_problems import replaced


def denoising_model(model: Any) -> Denoising:
    """Returns `model` itself. Raises ValueError where it has no denoiser."""
    if not isinstance(model, Denoising):
        raise ValueError(
            f"a {type(model).__name__} has no denoiser, so it cannot edit images: use a run of a diffusion model"
        )
    return model


def sdedit(solver: Solver, denoise: Denoise, sigmas: Levels, image: Samples, strength: float, key: PRNGKey) -> Samples:
    """Adds noise to `image`, and removes it again (Meng et al. 2022, arXiv 2108.01073, Algorithm 1).

    `strength` in [0, 1] is the share of the levels that the image goes through: 0 gives the image itself, 1 starts at
    the highest level. Raises ValueError for another strength.
    """
    lowest = _lowest(sigmas, strength)
    if len(lowest) == 1:
        return image
    noise_key, solver_key = jax.random.split(key)
    x = image + float(lowest[0]) * jax.random.normal(noise_key, image.shape, image.dtype)
    return solver(denoise, lowest, x, solver_key)


def _lowest(sigmas: Levels, strength: float) -> Levels:
    """Returns the levels of the last steps, a share `strength` of all; a single level where there is no step."""
    if not 0 <= strength <= 1:
        raise ValueError(f"strength={strength}: must be from 0, which leaves the image, to 1, the highest noise")
    steps = len(sigmas) - 1
    taken = round(strength * steps)
    if strength > 0 and not taken:
        raise ValueError(f"strength={strength} of {steps} step(s) is none: raise it, or the number of steps")
    return sigmas[steps - taken :]


def _check_flow(sigmas: Levels) -> None:
    """Raises ValueError where fewer than two levels are above 0, so that no step leads to noise and back."""
    if np.count_nonzero(sigmas) < 2:
        raise ValueError(
            f"sigmas={np.asarray(sigmas)}: from one level above 0 alone no step leads to noise; take more steps, or a "
            "greater strength"
        )


def inpaint(
    solver: Solver, denoise: Denoise, sigmas: Levels, image: Samples, mask: Bool[Array, "*s"], key: PRNGKey
) -> Samples:
    """Keeps `image` bit for bit where `mask` is True, and draws the rest anew; see `inverse_problems.replaced`.

    With `RePaint` as the solver it is that paper's method, except that the known part's noise is drawn once, not at
    every step. `mask` has the shape of an image, or one that broadcasts to it. Raises ValueError where all is known,
    or nothing.
    """
    if not isinstance(mask, jax.core.Tracer):
        check_mask(np.asarray(mask))
    noise_key, start_key, solver_key = jax.random.split(key, 3)
    known = jax.random.normal(noise_key, image.shape, image.dtype)
    x = float(sigmas[0]) * jax.random.normal(start_key, image.shape, image.dtype)
    return jnp.where(mask, image, solver(replaced(denoise, image, mask, known), sigmas, x, solver_key))


def check_mask(mask: Bool[np.ndarray, "*s"]) -> None:
    """Raises ValueError where all is known, or nothing."""
    if mask.all() or not mask.any():
        raise ValueError(
            f"the mask says that {'all' if mask.all() else 'nothing'} is known: True marks what stays, and False what "
            "is drawn anew"
        )


@dataclasses.dataclass(frozen=True)
class RePaint:
    """DDPM's steps, each taken `repeats` times, going back up by noise between (Lugmayr et al. 2022, arXiv 2201.09865).

    This is the paper's Algorithm 1 with jumps back of one step; repeating makes known and drawn parts of an image
    agree. Raises ValueError for `repeats` below 1.
    """

    repeats: Count = 10  # U

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"solver.repeats={self.repeats}: must be at least 1, and 1 is DDPM's sampler")

    def __call__(self, denoise: Denoise, sigmas: Levels, x: Samples, key: PRNGKey) -> Samples:
        """Draws images, as every solver does (`sampling.solver.Solver`)."""

        def step(x: Samples, i: Int[Array, ""], row: Float[Array, " 5"]) -> Samples:
            added, sigma, of_x, of_estimate, of_noise = row
            x = x + added * noise(key, 2 * i, x)
            x = of_x * x + of_estimate * denoise(x, jnp.full(x.shape[:1], sigma))
            return x + of_noise * noise(key, 2 * i + 1, x)

        return scan(step, x, self.rows(sigmas), x.dtype)

    def rows(self, sigmas: Levels) -> Float64[np.ndarray, "S 5"]:
        """Tabulates, for each step, the noise before it, the level that it goes to, and its coefficients.

        The last step, to 0, comes once.
        """
        sigmas = check_levels(self, sigmas)
        table = DDPMAncestral("small").table(sigmas)
        once = np.column_stack([0 * table.sigma, table.sigma, table.of_x, table.of_estimates[:, 0], table.of_noise])
        again = once.copy()
        again[:, 0] = np.sqrt(sigmas[:-1] ** 2 - sigmas[1:] ** 2)
        times = [self.repeats if below > 0 else 1 for below in sigmas[1:]]
        ways = zip(once, again, times, strict=True)
        return np.concatenate([np.stack([one, *[more] * (n - 1)]) for one, more, n in ways])


def invert(denoise: Denoise, sigmas: Levels, image: Samples) -> Samples:
    """Finds the noise that `Euler` would turn into `image` at these levels: DDIM's inversion (Song et al. 2020).

    This is section 4.3 of that paper: Euler's steps the other way, from the last level above 0 to `sigmas[0]`, each
    with the slope where it starts; the image is taken to be at that last level. It is exact in the limit of many steps.
    Raises ValueError where fewer than two levels are above 0.
    """
    levels = check_levels("invert", sigmas)
    _check_flow(levels)
    levels = levels[levels > 0][::-1]
    slope = noise_estimate(denoise)

    def step(x: Samples, i: Int[Array, ""], row: Float[Array, " 2"]) -> Samples:
        return x + (row[1] - row[0]) * slope(x, jnp.full(x.shape[:1], row[0]))

    return scan(step, image, np.column_stack([levels[:-1], levels[1:]]), image.dtype)


def bridge(source: Denoise, target: Denoise, sigmas: Levels, image: Samples, strength: float = 1.0) -> Samples:
    """Takes `image` to noise by the flow of `source`, and back by that of `target` (Su et al. 2022, arXiv 2203.08382).

    This is Algorithm 1 of dual diffusion implicit bridges, with DDIM's steps both ways: with the denoisers of two
    classes, an image of one becomes a similar image of the other. `strength` is as in `sdedit`: below 1 it turns back
    before all is noise, which leaves more of the image (the encoding ratio of DiffEdit, Couairon et al. 2022, arXiv
    2210.11427). Raises ValueError for a strength outside [0, 1].
    """
    lowest = _lowest(sigmas, strength)
    if len(lowest) == 1:
        return image
    return Euler()(target, lowest, invert(source, lowest, image), jax.random.key(0))  # a key that no step uses


def interpolate(first: Samples, second: Samples, share: Float[Array, " b"]) -> Samples:
    """Interpolates between two noises on the sphere (DDIM, Eq. 67).

    The weights are sin((1 - s) theta) / sin theta and sin(s theta) / sin theta.

    theta is the angle between the noises, row by row; `share`, s, is 0 at `first` and 1 at `second`. All points between
    have the length of the ends, as noise must.
    """
    axes = tuple(range(1, first.ndim))
    inner = jnp.sum(first * second, axis=axes)
    cosine = inner / jnp.sqrt(jnp.sum(first**2, axis=axes) * jnp.sum(second**2, axis=axes))
    theta = jnp.arccos(jnp.clip(cosine, -1 + 1e-7, 1 - 1e-7))
    weights = (jnp.sin(part * theta) / jnp.sin(theta) for part in (1 - share, share))
    return sum(broadcast_rows(weight, first) * one for weight, one in zip(weights, (first, second), strict=True))
