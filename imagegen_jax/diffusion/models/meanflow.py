"""MeanFlow (Geng et al. 2025, arXiv 2505.13447): a network of the mean velocity between two times; one step suffices.

u(z_t, r, t) is the displacement along the flow from t to r over t - r. It obeys u = v - (t - r) du/dt. One
Jacobian-vector product gives the right side, on which u is trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.random import bernoulli_rows, normal_rows, streams
from imagegen_jax.core.arrays.space import AnySpace, Pixels, check_space, with_space
from imagegen_jax.core.config.bounds import Count, Natural, NonNegative, Shape, Share
from imagegen_jax.core.model import (
    Aux,
    Batch,
    Image,
    Inputs,
    Model,
    Nets,
    Phase,
    PRNGKey,
    PRNGKeys,
    Scalar,
    check_images,
)
from imagegen_jax.diffusion.guidance.by_network import Guided
from imagegen_jax.diffusion.process.denoiser import Denoise, from_prediction
from imagegen_jax.diffusion.process.prediction import broadcast_rows
from imagegen_jax.diffusion.process.process import RectifiedFlow
from imagegen_jax.diffusion.process.times import AnyTimes, LogitNormal
from imagegen_jax.diffusion.sampling.levels import AnyLevels, ShiftedFlow
from imagegen_jax.diffusion.sampling.multistep import Euler
from imagegen_jax.diffusion.sampling.solver import AnySolver, Path
from imagegen_jax.nn.backbones.conditioning import (
    Conditioning,
    Rates,
    conditioning_of,
    drop_conditions,
    null_conditions,
)
from imagegen_jax.nn.backbones.denoising import AnyNetwork, check_channels, forward_differentiable
from imagegen_jax.nn.backbones.dit import dit

Times = Float[Array, " b"]
MeanVelocity = Callable[[Image, Times, Times], Image]  # (z_t, t, t - r) -> u


@dataclasses.dataclass(frozen=True)
class MeanFlow:
    """A network of mean velocities; the defaults are the authors' for ImageNet's 32x32x4 latents, B/4, unguided.

    Noise is added to what `space` makes of data: Stable Diffusion's factor brings its latents to a deviation of 1.
    Guidance is trained in, and then costs nothing: `guidance` is omega and `mixing` kappa of Eq. 20, for an effective
    scale of omega / (1 - kappa); 1 and 0 are no guidance. Raises ValueError for fields out of range.
    """

    network: AnyNetwork = dit("B/4")
    image_shape: Shape = (32, 32, 4)
    num_classes: Natural = 1000  # 0: unconditional
    label_dropout: Share = 0.1  # share of images whose label is dropped
    times: AnyTimes = LogitNormal(-0.4, 1.0)
    same_share: Share = 0.75  # share of rows with r = t: those are plain flow matching
    guidance: float = 1.0  # omega
    mixing: float = 0.0  # kappa
    power: NonNegative = 1.0  # p of the adaptive weight 1 / (|error|^2 + c)^p, section 4.3
    floor: float = 0.01  # c
    steps: Count = 1  # evaluations of sampling, over equal spans of time
    space: AnySpace = Pixels()  # what the data are: pixels, or latents and how they are scaled
    solver: AnySolver = Euler()  # of edits, which follow the velocity itself, u(z, t, t), and
    levels: AnyLevels = ShiftedFlow(50)  # along these levels

    def __post_init__(self) -> None:
        for name in ("same_share", "label_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"model.{name}={getattr(self, name)}: a share must be from 0 to 1")
        if not (self.guidance > 0 and 0 <= self.mixing < 1 and self.power >= 0 and self.floor > 0 and self.steps >= 1):
            raise ValueError(
                f"model.guidance={self.guidance}, model.mixing={self.mixing}, model.power={self.power}, model.floor="
                f"{self.floor}, model.steps={self.steps}: must obey 0 < guidance, 0 <= mixing < 1, 0 <= power, "
                "0 < floor and 1 <= steps"
            )
        if self._guided and not (self.num_classes and self.label_dropout):
            raise ValueError(
                f"model.guidance={self.guidance}, model.mixing={self.mixing}: without classes and label_dropout there "
                "is nothing to guide by; leave them at 1 and 0"
            )

    @classmethod
    def upgraded(cls, items: Mapping[str, Any]) -> dict[str, Any]:
        """Takes the `gain` of an earlier version as a space of latents."""
        return with_space(items)

    @property
    def _guided(self) -> bool:
        return self.guidance != 1 or self.mixing != 0

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the network. Raises ValueError where images, labels or the patches of the network do not fit."""
        check_images(self, batch)
        check_space(self)
        check_channels(self.network, self.image_shape)
        x = batch["image"]
        t = jnp.zeros(x.shape[:1])
        return {"network": self.network.init(key, x, t, conditioning_of(self, batch)._replace(span=t))}

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step: the network learns to denoise."""
        return (Phase(trains=("network",), loss=self.loss, name="denoise"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """E[|u - stop(v - (t - r) du/dt)|^2 / stop(... + c)^p], du/dt = v du/dz + du/dt   (Algorithm 1, Eq. 10, 11)

        z = (1 - t) x + t epsilon, and v = epsilon - x, or v guided.
        """
        x = self.space.encode(inputs.batch["image"])
        keys = streams(inputs.keys, 4)
        t_keys, epsilon_keys, label_keys, dropout_keys = keys
        t, span = self._two_times(t_keys)
        epsilon = normal_rows(epsilon_keys, self.image_shape)
        z = broadcast_rows(1 - t, x) * x + broadcast_rows(t, x) * epsilon
        whole = conditioning_of(self, inputs.batch)._replace(keys=dropout_keys)
        conditioning = drop_conditions(whole, Rates(self.label_dropout), label_keys)
        v = epsilon - x
        if self._guided and conditioning.labels is not None:
            kept = jnp.any(conditioning.labels != 0, axis=1)
            v = jnp.where(broadcast_rows(kept, x), self._guide(nets, z, t, v, whole), v)
        u, slope = jax.jvp(self._mean_velocity(nets, conditioning), (z, t, span), (v, 1 + 0 * t, 1 + 0 * t))
        error = u - jax.lax.stop_gradient(v - broadcast_rows(span, x) * slope)
        squared = jnp.sum(error**2, axis=(1, 2, 3))
        loss = jnp.mean(squared / jax.lax.stop_gradient(squared + self.floor) ** self.power)
        return loss, Aux({"error": jnp.mean(error**2)})

    def _two_times(self, keys: PRNGKeys) -> tuple[Times, Times]:
        """Draws t and r for each row, and returns t and t - r: t is the greater; in `same_share` of the rows r is t."""
        one, other, same = streams(keys, 3)
        drawn = self.times(one), self.times(other)
        t, r = jnp.maximum(*drawn), jnp.minimum(*drawn)
        return t, jnp.where(bernoulli_rows(same, self.same_share), 0.0, t - r)

    def _guide(self, nets: Nets, z: Image, t: Times, v: Image, conditioning: Conditioning) -> Image:
        """Guides velocities: omega v + kappa u(z, t, t | c) + (1 - omega - kappa) u(z, t, t)   (Eq. 20)"""
        both = (conditioning, null_conditions(conditioning))
        conditional, free = (self._mean_velocity(nets, one)(z, t, 0 * t) for one in both)
        guided = self.guidance * v + self.mixing * conditional + (1 - self.guidance - self.mixing) * free
        return jax.lax.stop_gradient(guided)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1], or latents, by z_r = z_t - (t - r) u(z_t, r, t) from t = 1 to 0 (Eq. 12).

        Raises ValueError where the model has classes and `conditions` no "label".
        """
        mean_velocity = self._mean_velocity(nets, conditioning_of(self, conditions))
        z, span = jax.random.normal(key, (n, *self.image_shape)), jnp.full(n, 1 / self.steps)

        def step(z: Image, t: Scalar) -> tuple[Image, None]:
            return z - mean_velocity(z, jnp.full(n, t), span) / self.steps, None

        z, _ = jax.lax.scan(step, z, jnp.asarray(np.linspace(1, 0, self.steps, endpoint=False), jnp.float32))
        return self.space.decode(z, nets)

    @property
    def path(self) -> Path:
        """The solver and the noise levels of edits."""
        return Path(self.solver, self.levels())

    def denoiser(self, nets: Nets, conditions: Batch) -> Denoise:
        """Returns the denoiser that belongs to the velocity itself, u(z, t, t).

        Raises ValueError where the model has classes and `conditions` no "label".
        """
        return self.estimate(nets, conditioning_of(self, conditions))

    def estimate(self, nets: Nets, conditioning: Conditioning) -> Denoise:
        """Returns the denoiser of the network under these conditions."""
        mean_velocity = self._mean_velocity(nets, conditioning)
        return from_prediction(lambda z, t: mean_velocity(z, t, 0 * t), RectifiedFlow(), "velocity")

    def guided_by(self, guide: Model) -> Guided:
        """Returns this model, led by `guide`; its own guidance was trained in."""
        return Guided(self, guide)

    def _mean_velocity(self, nets: Nets, conditioning: Conditioning) -> MeanVelocity:
        """Returns the function (z, t, t - r) -> u; in training its network can be differentiated forward."""
        network = self.network if conditioning.keys is None else forward_differentiable(self.network)
        return lambda z, t, span: network.apply(nets["network"], z, t, conditioning._replace(span=span))
