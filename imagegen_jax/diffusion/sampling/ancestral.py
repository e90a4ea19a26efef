"""Solvers that add noise after each step: DDPM's, DDIM's, Euler-ancestral, and the one of consistency models."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from imagegen_jax.core.config.bounds import NonNegative, Positive
from imagegen_jax.core.model import PRNGKey, check_choice
from imagegen_jax.diffusion.process.denoiser import Clipped, Denoise
from imagegen_jax.diffusion.sampling import solver
from imagegen_jax.diffusion.sampling.solver import Levels, Samples, Table, check_levels, check_noise_scale, scan, walk


@dataclasses.dataclass(frozen=True)
class EulerAncestral:
    """Steps down along the flow, each followed by noise back up (k-diffusion); with `eta`, they are DDIM's.

    DDIM's Eq. 12 and 16 (Song et al. 2020, arXiv 2010.02502) divided by alpha are these steps: `eta` 0 is `Euler`, 1 is
    `DDPMAncestral` with the small variance. Where estimates are clipped, the noise that a step keeps is (x - estimate)
    / sigma of the clipped estimate, as in ADM's code; with `clipped_noise` off it is that of the estimate before
    clipping, as in DDIM's code and in diffusers' (`use_clipped_model_output=False`). Raises ValueError unless
    0 <= `eta` <= 1 and `noise_scale` >= 0.
    """

    eta: NonNegative = 1.0
    noise_scale: NonNegative = 1.0
    clipped_noise: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"solver.eta={self.eta} is not between 0 (deterministic) and 1 (DDPM's noise)")
        check_noise_scale(self.noise_scale)

    def __call__(self, denoise: Denoise, sigmas: Levels, x: Samples, key: PRNGKey) -> Samples:
        """Solves along the levels; see `solver`."""
        if self.clipped_noise or not isinstance(denoise, Clipped):
            return walk(self.table(sigmas), denoise, x, key)
        table = self.table(sigmas)
        noisy = bool(table.of_noise.any())

        def step(x: Samples, i: Int[Array, ""], row: Float[Array, " 3"]) -> Samples:
            sigma, of_x, of_noise = row
            whole = denoise.whole(x, jnp.full(x.shape[:1], sigma))
            x = jnp.clip(whole, -1.0, 1.0) + of_x * (x - whole)
            return x + of_noise * solver.noise(key, i, x) if noisy else x

        return scan(step, x, np.column_stack([table.sigma, table.of_x, table.of_noise]), x.dtype)

    def table(self, sigmas: Levels) -> Table:
        """Tables the steps, with sigma_down^2 = sigma'^2 - sigma_up^2.

        sigma_up^2 = eta^2 sigma'^2 (sigma^2 - sigma'^2) / sigma^2.
        """
        sigmas = check_levels(self, sigmas)
        now, then = sigmas[:-1], sigmas[1:]
        up = self.eta * then * np.sqrt(1 - (then / now) ** 2)
        of_x = np.sqrt(then**2 - up**2) / now
        return Table(now, of_x, (1 - of_x)[:, None], self.noise_scale * up)


@dataclasses.dataclass(frozen=True)
class DDPMAncestral:
    """Draws from q(x_s | x_t, x_0) as if the estimate were x_0 (Ho et al. 2020, arXiv 2006.11239, Algorithm 2).

    `variance` is one of the two extremes of the paper's section 3.2, for a process that preserves variance: that of the
    step from s to t, beta ("large"), or the posterior's ("small"). No noise follows the step to 0.
    """

    variance: Literal["large", "small"] = "large"

    def __post_init__(self) -> None:
        check_choice("solver.variance", self.variance, ("large", "small"))

    def __call__(self, denoise: Denoise, sigmas: Levels, x: Samples, key: PRNGKey) -> Samples:
        """Solves along the levels; see `solver`."""
        return walk(self.table(sigmas), denoise, x, key)

    def table(self, sigmas: Levels) -> Table:
        """Tables the steps by Eq. 6 and 7 over sqrt(alpha_bar_s), where 1 / alpha_bar = 1 + sigma^2."""
        sigmas = check_levels(self, sigmas)
        now, then = sigmas[:-1], sigmas[1:]
        of_x = (then / now) ** 2
        if self.variance == "small":
            variance = of_x * (now**2 - then**2)
        else:
            variance = np.where(then > 0, (1 + then**2) * (now**2 - then**2) / (1 + now**2), 0.0)
        return Table(now, of_x, (1 - of_x)[:, None], np.sqrt(variance))


@dataclasses.dataclass(frozen=True)
class ConsistencyMultistep:
    """Jumps to the end of the flow, with new noise after each (Song et al. 2023, arXiv 2303.01469, Algorithm 1).

    It is for consistency models, whose denoisers make such a jump. One step is a single evaluation. `sigma_min`, the
    paper's epsilon, is the noise level that estimates are taken to have. Raises ValueError where it is below 0.
    """

    sigma_min: Positive = 0.002

    def __post_init__(self) -> None:
        if not 0 <= self.sigma_min < math.inf:
            raise ValueError(f"solver.sigma_min={self.sigma_min}: must be 0 or above, as the paper's 0.002")

    def __call__(self, denoise: Denoise, sigmas: Levels, x: Samples, key: PRNGKey) -> Samples:
        """Solves along the levels; see `solver`."""
        return walk(self.table(sigmas), denoise, x, key)

    def table(self, sigmas: Levels) -> Table:
        """Tables the steps x <- f(x, tau) + sqrt(tau'^2 - epsilon^2) z."""
        sigmas = check_levels(self, sigmas)
        again = np.sqrt(np.maximum(sigmas[1:] ** 2 - self.sigma_min**2, 0))
        return Table(sigmas[:-1], 0 * again, np.ones((len(again), 1)), again)
