"""Optimizers and schedules as values: frozen dataclasses that make optax transformations inside the compiled step.

A hyperparameter is a number or a schedule. Schedules read the training step (`State.step`), not the optimizer's own
count of updates: the two differ where a network is updated more or less than once a step. The transformation is
made anew, with the hyperparameters' values at this step, whenever the step is traced; its state does not depend on
them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from imagegen_jax import moved
from imagegen_jax.core.config.bounds import Count, Natural, Positive, Range
from imagegen_jax.core.config.choices import Choices

__getattr__ = moved.attributes(__name__)


class Clock(NamedTuple):
    """Where the run is: what schedules and averages follow."""

    step: Int[Array, ""]  # training steps before this one, so 0 in the first
    steps: Int[Array, ""]  # the length of the run


# --- schedules -------------------------------------------------------------------------------------------------------


class Schedule(Protocol):
    """A hyperparameter that changes with the training step."""

    def __call__(self, clock: Clock) -> Float[Array, ""]: ...


AnySchedule = Annotated[
    Schedule, Choices("imagegen_jax.core.optim:WarmUp, CosineDecay, LinearDecay, ExponentialDecay, InverseSqrt")
]


def _ramp(clock: Clock, warmup: int) -> Float[Array, ""]:
    """Rises linearly, from 1/warmup in the first step to 1 from step `warmup` on."""
    return jnp.minimum(1.0, (clock.step + 1) / max(warmup, 1))


def _progress(clock: Clock, start: int, steps: int | None) -> Float[Array, ""]:
    """Rises linearly, from 0 until step `start` to 1 from step `steps` (None: the end of the run) on."""
    end = clock.steps if steps is None else steps
    return jnp.clip((clock.step - start) / jnp.maximum(end - start, 1), 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class WarmUp:
    """Linear from 0 to `peak` over `steps` steps, constant afterwards."""

    peak: float
    steps: Natural

    def __call__(self, clock: Clock) -> Float[Array, ""]:
        return self.peak * _ramp(clock, self.steps)


@dataclasses.dataclass(frozen=True)
class CosineDecay:
    """From `peak` to `floor` along half a cosine, after a linear warm-up (Loshchilov & Hutter 2017, Eq. 5)."""

    peak: float
    floor: float = 0.0
    warmup: Natural = 0  # steps
    steps: Count | None = None  # where it ends; None: with the run

    def __call__(self, clock: Clock) -> Float[Array, ""]:
        falling = 0.5 * (1 + jnp.cos(jnp.pi * _progress(clock, self.warmup, self.steps)))
        return _ramp(clock, self.warmup) * (self.floor + (self.peak - self.floor) * falling)


@dataclasses.dataclass(frozen=True)
class LinearDecay:
    """`peak` until step `start`, then linear to `floor`, after a linear warm-up."""

    peak: float
    floor: float = 0.0
    warmup: Natural = 0  # steps
    start: Natural = 0  # the first step of the decay
    steps: Count | None = None  # where it ends; None: with the run

    def __call__(self, clock: Clock) -> Float[Array, ""]:
        progress = _progress(clock, max(self.start, self.warmup), self.steps)
        return _ramp(clock, self.warmup) * (self.peak + (self.floor - self.peak) * progress)


@dataclasses.dataclass(frozen=True)
class ExponentialDecay:
    """`peak` times `rate` for each step (PixelCNN++, arXiv 1701.05517)."""

    peak: float
    rate: Annotated[float, Range(0, 1, above=True)]

    def __call__(self, clock: Clock) -> Float[Array, ""]:
        return self.peak * jnp.exp(math.log(self.rate) * clock.step)


@dataclasses.dataclass(frozen=True)
class InverseSqrt:
    """`peak` until step `reference`, then peak * sqrt(reference / step) (EDM2, arXiv 2312.02696, appendix B)."""

    peak: float
    reference: Count
    warmup: Natural = 0  # steps

    def __call__(self, clock: Clock) -> Float[Array, ""]:
        return _ramp(clock, self.warmup) * self.peak / jnp.sqrt(jnp.maximum(clock.step / self.reference, 1.0))


Number = float | AnySchedule
Rate = Annotated[Number, Range(0)]
Decay = Annotated[Number, Range(0, 1, below=True)]  # what a running mean, such as a moment, keeps of itself


def value(rate: Number, clock: Clock) -> Any:
    """Returns a hyperparameter's value now: a number as it is, or a schedule's value at the clock's step."""
    return rate if isinstance(rate, (int, float)) else rate(clock)


# --- projections -----------------------------------------------------------------------------------------------------


class Projection(Protocol):
    """Maps parameters back to where they are allowed to be, after an update."""

    def __call__(self, params: Any) -> Any: ...


@dataclasses.dataclass(frozen=True)
class ClipWeights:
    """Clips every parameter to [-limit, limit] (WGAN, arXiv 1701.07875, Algorithm 1)."""

    limit: Positive = 0.01

    def __call__(self, params: Any) -> Any:
        return jax.tree.map(lambda p: jnp.clip(p, -self.limit, self.limit), params)


def unit_magnitude(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Returns x / (its root mean square over `axis` + 1e-4); None: all axes but the last, for kernels [... in out]."""
    axis = tuple(range(x.ndim - 1)) if axis is None else axis
    square = jnp.mean(x**2, axis, keepdims=True)
    return x / (jnp.sqrt(jnp.maximum(square, 1e-30)) + 1e-4)  # a root of 0 has no finite slope


@dataclasses.dataclass(frozen=True)
class NormaliseWeights:
    """Forced weight normalisation: each output's weights to a mean square of 1 (EDM2, arXiv 2312.02696, Eq. 66).

    It applies to kernels [... in out], and leaves scalars and vectors, such as gains, alone. It is for networks that
    normalise weights where they use them (`nn.backbones.edm2`): it keeps the weights from growing, so that the rate
    alone says how fast they turn.
    """

    def __call__(self, params: Any) -> Any:
        return jax.tree.map(lambda p: unit_magnitude(p) if p.ndim > 1 else p, params)


# --- optimizers ------------------------------------------------------------------------------------------------------


class Optimizer(Protocol):
    """Makes the optax transformation of one training step, and names the projections that follow it."""

    @property
    def project(self) -> tuple[Projection, ...]:
        """The projections of the parameters after each update, in order."""
        ...

    def transform(self, clock: Clock, lazy: float = 1.0) -> optax.GradientTransformation:
        """Makes the transformation of one step; with `lazy` c, rates become c * rate, and decays become decay ** c.

        c is the correction of `lazy_correction`.
        """
        ...


AnyOptimizer = Annotated[Optimizer, Choices("imagegen_jax.core.optim:Adam, AdamW, RMSprop, SGD")]


@dataclasses.dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980, Algorithm 1)."""

    lr: Rate = 1e-3
    b1: Decay = 0.9
    b2: Decay = 0.999
    eps: Rate = 1e-8
    project: tuple[Projection, ...] = ()

    def transform(self, clock: Clock, lazy: float = 1.0) -> optax.GradientTransformation:
        b1, b2 = value(self.b1, clock) ** lazy, value(self.b2, clock) ** lazy
        return optax.chain(
            optax.scale_by_adam(b1, b2, value(self.eps, clock)), optax.scale(-lazy * value(self.lr, clock))
        )


@dataclasses.dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101, Algorithm 2)."""

    lr: Rate = 1e-3
    b1: Decay = 0.9
    b2: Decay = 0.999
    eps: Rate = 1e-8
    weight_decay: Rate = 1e-2  # multiplied by the rate, as in torch and optax
    decay_vectors: bool = True  # False: biases and norm scales do not decay
    kernels_only: bool = False  # True: nor does anything else but a layer's "kernel", such as an embedding
    project: tuple[Projection, ...] = ()

    def transform(self, clock: Clock, lazy: float = 1.0) -> optax.GradientTransformation:
        b1, b2 = value(self.b1, clock) ** lazy, value(self.b2, clock) ** lazy
        mask = None if self.decay_vectors and not self.kernels_only else self._decaying
        return optax.chain(
            optax.scale_by_adam(b1, b2, value(self.eps, clock)),
            optax.add_decayed_weights(value(self.weight_decay, clock), mask),
            optax.scale(-lazy * value(self.lr, clock)),
        )

    def _decaying(self, params: Any) -> Any:
        """Says of each parameter whether it decays."""

        def decays(path: tuple[Any, ...], p: Array) -> bool:
            return (self.decay_vectors or p.ndim > 1) and not (self.kernels_only and path[-1].key != "kernel")

        return jax.tree_util.tree_map_with_path(decays, params)


@dataclasses.dataclass(frozen=True)
class RMSprop:
    """RMSprop (Tieleman & Hinton 2012): the gradient over the root of its mean square."""

    lr: Rate = 1e-3
    decay: Decay = 0.99
    eps: Rate = 1e-8  # added to the root, as in torch
    momentum: Decay = 0.0
    project: tuple[Projection, ...] = ()

    def transform(self, clock: Clock, lazy: float = 1.0) -> optax.GradientTransformation:
        decay = value(self.decay, clock) ** lazy
        steps = [optax.scale_by_rms(decay, value(self.eps, clock), eps_in_sqrt=False)]
        if self.momentum != 0.0:
            steps.append(optax.trace(value(self.momentum, clock) ** lazy))
        return optax.chain(*steps, optax.scale(-lazy * value(self.lr, clock)))


@dataclasses.dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, with heavy-ball or Nesterov momentum where `momentum` is not 0."""

    lr: Rate = 1e-2
    momentum: Decay = 0.0
    nesterov: bool = False
    project: tuple[Projection, ...] = ()

    def transform(self, clock: Clock, lazy: float = 1.0) -> optax.GradientTransformation:
        scale = optax.scale(-lazy * value(self.lr, clock))
        if self.momentum == 0.0:
            return scale
        return optax.chain(optax.trace(value(self.momentum, clock) ** lazy, self.nesterov), scale)


def apply(
    optimizer: Optimizer, grads: Any, opt: optax.OptState, params: Any, clock: Clock, lazy: float
) -> tuple[Any, optax.OptState]:
    """Updates one network once, projections included; returns its parameters and the optimizer's state."""
    updates, opt = optimizer.transform(clock, lazy).update(grads, opt, params)
    params = optax.apply_updates(params, updates)
    for project in optimizer.project:
        params = project(params)
    return params, opt


def lazy_correction(every: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
    """Returns for each network the correction of its optimizer for lazy phases.

    It is the largest frequency of the network's phases over the sum of their frequencies.

    `every` maps a network to the `Phase.every` of the phases that train it. A main phase at every step and a
    penalty at every k-th give k / (k + 1), applied to the rate and, as a power, to the decays of moments
    (StyleGAN2, arXiv 1912.04958, appendix B). A single phase gives 1, whatever its `every`.
    """
    return {name: max(1 / k for k in ks) / sum(1 / k for k in ks) for name, ks in every.items()}
