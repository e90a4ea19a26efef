"""Moving averages of networks: fixed decay, half-life in images, and power functions with post-hoc reconstruction.

An average covers what sampling reads and training moves: parameters, batch statistics, and the vectors of codebooks
that follow averages, so that they remain those of the averaged encoder. All else is taken as it is now, such as
whole numbers of steps and images. It is updated after the optimizer, so that it includes the step just taken.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import BelowOne, Natural, Positive
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.optim import Clock

AVERAGED_COLLECTIONS = ("params", "batch_stats", "codebook")


class Average(Protocol):
    """A moving average, said by the weight that its past keeps at each step."""

    networks: tuple[str, ...]  # which networks it follows; (): all that are trained

    def decay(self, clock: Clock, batch_size: int) -> Float[Array, ""]:
        """Returns the weight of the past in [0, 1]; `clock.step` counts the steps before this one."""
        ...


AnyAverage = Annotated[Average, Choices("imagegen_jax.core.ema:FixedDecay, HalfLife, PowerFunction")]


@dataclasses.dataclass(frozen=True)
class FixedDecay:
    """average <- decay * average + (1 - decay) * weights, from the weights after `start` steps; till then, the weights.

    A late start keeps the first weights out of a long average, as BigGAN-PyTorch does with `ema_start`.
    """

    rate: BelowOne = 0.9999
    start: Natural = 0  # steps
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ValueError(f"FixedDecay.rate={self.rate}: must be at least 0 and below 1")
        if self.start < 0:
            raise ValueError(f"FixedDecay.start={self.start}: must be at least 0, which is from the initial weights on")

    def decay(self, clock: Clock, batch_size: int) -> Float[Array, ""]:
        return jnp.where(clock.step < self.start, 0.0, jnp.float32(self.rate))


@dataclasses.dataclass(frozen=True)
class HalfLife:
    """A decay that halves an old weight's share every `images` images, the same for any batch size (StyleGAN2-ADA).

    With `ramp`, the half-life is at most that share of the images seen so far, which frees a young average from
    the initial weights.
    """

    images: Positive = 500_000.0
    ramp: Positive | None = 0.05
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.images > 0:
            raise ValueError(f"HalfLife.images={self.images}: must be above 0")

    def decay(self, clock: Clock, batch_size: int) -> Float[Array, ""]:
        half_life = jnp.float32(self.images)
        if self.ramp is not None:
            half_life = jnp.minimum(half_life, self.ramp * batch_size * clock.step.astype(jnp.float32))
        return 0.5 ** (batch_size / jnp.maximum(half_life, 1e-8))


@dataclasses.dataclass(frozen=True)
class PowerFunction:
    """Weights the past by a power of time, w(t) ~ t^gamma, so that its width grows with the run (EDM2, section 3.1).

    Snapshots of two widths are enough to reconstruct any width afterwards (`reconstruct`).
    """

    std: Positive = 0.05  # sigma_rel: the profile's standard deviation over the length of training
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        gamma_of_std(self.std)

    def decay(self, clock: Clock, batch_size: int) -> Float[Array, ""]:
        """beta(t) = (1 - 1/t)^(gamma + 1), t counted from 1   (EDM2, section 3.1)"""
        t = (clock.step + 1).astype(jnp.float32)
        return (1 - 1 / t) ** (gamma_of_std(self.std) + 1)


def averaged(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what an average of a network covers of its collections: real numbers, not counts of steps or images."""
    return _reals({name: tree for name, tree in variables.items() if name in AVERAGED_COLLECTIONS})


def with_average(variables: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """Puts what an average keeps in the place of the same arrays of a network."""
    return {
        name: (with_average(old, kept[name]) if isinstance(old, Mapping) else kept[name]) if name in kept else old
        for name, old in variables.items()
    }


def _reals(tree: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            if inner := _reals(value):
                found[name] = inner
        elif jnp.issubdtype(value.dtype, jnp.floating):
            found[name] = value
    return found


def update(average: Average, old: Any, new: Any, clock: Clock, batch_size: int) -> Any:
    """Returns the average after a step with the outcome `new`: a tree like `old`, in float32."""
    keep = average.decay(clock, batch_size)
    return jax.tree.map(lambda a, b: keep * a + (1 - keep) * b, old, new)


# --- post-hoc reconstruction (EDM2, section 3.2 and appendix C) ------------------------------------------------------


@functools.lru_cache
def gamma_of_std(std: float) -> float:
    """Returns gamma of the power profile with relative width sigma_rel: std^2 = (g + 1) / ((g + 2)^2 (g + 3)).

    Raises ValueError where `std` is not between 0 and 0.2886, the width of the uniform average.
    """
    if not 0 < std < 12**-0.5:
        raise ValueError(f"PowerFunction.std={std}: must be above 0 and below 0.2886, the width of a plain mean")
    t = std**-2.0  # the root g >= 0 of g^3 + 7 g^2 + (16 - t) g + (12 - t) = 0
    return float(np.roots([1.0, 7.0, 16.0 - t, 12.0 - t]).real.max())


def _inner(t_a: np.ndarray, gamma_a: np.ndarray, t_b: np.ndarray, gamma_b: np.ndarray) -> np.ndarray:
    """Integrates the product of two profiles (g + 1) tau^g / t^(g + 1), each on [0, t], over tau."""
    early, late = np.minimum(t_a, t_b), np.maximum(t_a, t_b)
    power = np.where(t_a < t_b, gamma_b, gamma_a)  # of the profile that ends later
    return (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1) * (early / late) ** power / late


def reconstruction_weights(
    steps: Sequence[int], stds: Sequence[float], target_step: int, target_std: float
) -> np.ndarray:
    """Returns weights by which stored averages add up closest to one of another width   (EDM2, section 3.2).

    Snapshot i was taken after `steps[i]` steps of an average of width `stds[i]`. Float64, least squares on the
    profiles as functions of time.
    """
    t, gammas = np.asarray(steps, np.float64), np.array([gamma_of_std(std) for std in stds])
    at, gamma = np.array([target_step], np.float64), np.array([gamma_of_std(target_std)])
    gram = _inner(t[:, None], gammas[:, None], t[None], gammas[None])
    return np.linalg.solve(gram, _inner(t, gammas, at, gamma))


def reconstruct(snapshots: Sequence[Any], weights: np.ndarray) -> Any:
    """Returns the weighted sum of trees of arrays in float32, added up in float64."""

    def combine(*leaves: Any) -> np.ndarray:
        total = sum(w * np.asarray(leaf, np.float64) for w, leaf in zip(weights, leaves, strict=True))
        return np.asarray(total, np.float32)

    return jax.tree.map(combine, *snapshots)
