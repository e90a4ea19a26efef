"""A solver's steps, each by one compiled program to which the row of the solver's table is an argument.

So another number of steps, strength of guidance or class compiles nothing, each step can be shown, and a drawing stops
between two of them. Solvers that are no table of numbers, such as Heun's, draw whole (`drawing.py`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.image import to_uint8
from imagegen_jax.core.arrays.space import space_of
from imagegen_jax.core.capabilities import Denoising
from imagegen_jax.core.model import Batch, Nets
from imagegen_jax.core.platform.target import cached_by_platform
from imagegen_jax.diffusion.sampling.ancestral import ConsistencyMultistep, DDPMAncestral, EulerAncestral
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.multistep import DEIS, LMS, PNDM, Euler
from imagegen_jax.diffusion.sampling.solver import noise_estimate

OF_IMAGES = (Euler, DPMSolver, EulerAncestral, DDPMAncestral, ConsistencyMultistep)  # tables of estimates of x_0
OF_NOISE = (LMS, DEIS, PNDM)  # tables of estimates of epsilon
_FIELDS = ("levels", "sampler")  # where models have the number of their steps

Noise = Float[np.ndarray, "b h w c"]
Noises = Callable[[int], Noise]  # the noise of each draw: 0 is what a drawing begins with, i what is fresh in step i


class Seen(NamedTuple):
    """The images after a step, as the model now expects them at the end."""

    step: int
    of: int
    estimate: Float[Array, "b h w c"]  # in the model's space


def steps_of(model: Any) -> int | None:
    """Returns how many steps a model's solver takes; None where it is no table, or they cannot be changed."""
    if not isinstance(model, Denoising) or not _tabled(model.path.solver) or _counted(model) is None:
        return None
    return len(model.path.sigmas) - 1


def with_steps(model: Any, steps: int | None) -> Any:
    """Returns a model with another number of steps; None: as it is."""
    found = _counted(model)
    if steps is None or found is None or len(model.path.sigmas) - 1 == steps:
        return model
    return dataclasses.replace(model, **{found: dataclasses.replace(getattr(model, found), steps=steps)})


def _tabled(solver: Any) -> bool:
    """Tells whether a solver is a table; of clipped estimates but whole noise, a step needs both."""
    whole_noise = isinstance(solver, EulerAncestral) and not solver.clipped_noise
    return isinstance(solver, OF_IMAGES + OF_NOISE) and not whole_noise


def _counted(model: Any) -> str | None:
    """Returns the name of the field that has the number of steps; None where there is none."""
    for name in {field.name for field in dataclasses.fields(model)} & set(_FIELDS):
        value = getattr(model, name)
        if dataclasses.is_dataclass(value) and any(field.name == "steps" for field in dataclasses.fields(value)):
            return name
    return None


def start_noise(seeds: np.ndarray, shape: tuple[int, ...], draw: int = 0) -> Noise:
    """Draws standard normal noise for each seed [b], the same whatever is drawn beside it; `draw` counts draws."""
    rows = [np.random.Generator(np.random.Philox(key=[int(seed), draw])).standard_normal(shape) for seed in seeds]
    return np.asarray(rows, np.float32)


def walked(
    model: Any, nets: Nets, conditions: Batch, seeds: np.ndarray, noises: Noises | None = None
) -> Iterator[Seen]:
    """Yields what is seen after each step; the last is the result, decoded by `decoded`.

    `noises` gives the noise [b h w c] of each draw; None: that of the seeds [b].
    """
    path, shape = model.path, model.image_shape
    table = path.solver.table(path.sigmas)
    rows = np.column_stack([table.sigma, table.of_x, table.of_noise, table.of_estimates]).astype(np.float32)
    noisy, fixed = bool(table.of_noise.any()), with_steps(model, None)
    noise_of: Noises = noises or functools.partial(start_noise, seeds, shape)
    noise = noise_of(0)
    x = jnp.asarray(noise * np.float32((1 + path.sigmas[0] ** 2) ** 0.5))
    past = jnp.zeros((table.of_estimates.shape[1] - 1, *x.shape), x.dtype)
    step = _step(_stepping(fixed), noisy)
    for i, row in enumerate(rows):
        fresh = (noise_of(i + 1),) if noisy and row[2] else (np.zeros_like(noise),) * noisy
        x, past, estimate = step(nets, x, past, row, conditions, *fresh)
        last = i + 1 == len(rows)
        yield Seen(i + 1, len(rows), path.ended(x) if last else estimate)


def decoded(model: Any, nets: Nets, x: Float[Array, "b h w c"]) -> tuple[np.ndarray, np.ndarray]:
    """Returns images of what was denoised, uint8 [b h w c], and for each whether all its values are finite."""
    images, finite = _decoding(_stepping(model))(nets, x)
    return np.asarray(images), np.asarray(finite)


def _stepping(model: Any) -> Any:
    """Returns the model with one number of steps for all, so that they share a program."""
    return with_steps(model, 8) if _counted(model) else model


@cached_by_platform
def _step(model: Any, noisy: bool) -> Any:
    of_noise = isinstance(model.path.solver, OF_NOISE)

    def step(nets: Nets, x: Array, past: Array, row: Array, conditions: Batch, *fresh: Array) -> Any:
        sigma, of_x, of_fresh, weights = row[0], row[1], row[2], row[3:]
        levels = jnp.full(x.shape[:1], sigma)
        denoise = model.denoiser(nets, conditions)
        newest = (noise_estimate(denoise) if of_noise else denoise)(x, levels)
        estimates = jnp.concatenate([newest[None], past])
        moved = of_x * x + jnp.tensordot(weights, estimates, 1)
        if noisy:
            moved = moved + of_fresh * fresh[0]
        return moved, estimates[:-1], x - sigma * newest if of_noise else newest

    return compiling.jit(step)


@cached_by_platform
def _decoding(model: Any) -> Any:
    def decode(nets: Nets, x: Array) -> Any:
        images = space_of(model).decode(x, nets)
        return to_uint8(images), jnp.isfinite(images).all(axis=(1, 2, 3))

    return compiling.jit(decode)
