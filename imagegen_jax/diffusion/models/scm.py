"""sCM (Lu & Song 2024, arXiv 2410.11081): consistency models in continuous time, made simple and stable.

In TrigFlow, x_t = cos(t) x_0 + sin(t) z with z ~ N(0, sigma_d^2) and t in [0, pi/2], and sigma_d F of a denoiser is the
slope of the flow. A consistency function f = cos(t) x_t - sin(t) sigma_d F is the same all along the flow; F is
corrected by how f changes there, which is one Jacobian-vector product. There are no levels whose neighbours have to
agree, and no error of the steps between them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.random import normal_rows, streams
from imagegen_jax.core.arrays.space import AnySpace, Pixels, check_space
from imagegen_jax.core.config.bounds import Count, Natural, Positive, Shape
from imagegen_jax.core.model import (
    Aux,
    Batch,
    Entry,
    Image,
    Inputs,
    Model,
    Nets,
    Phase,
    PRNGKey,
    Scalar,
    Variables,
    check_images,
)
from imagegen_jax.diffusion.guidance.by_network import Guided
from imagegen_jax.diffusion.models.teacher import with_teacher
from imagegen_jax.diffusion.process.denoiser import Denoise
from imagegen_jax.diffusion.process.prediction import SIGMA_DATA, broadcast_rows
from imagegen_jax.diffusion.process.times import LogNormal
from imagegen_jax.diffusion.sampling.ancestral import ConsistencyMultistep
from imagegen_jax.diffusion.sampling.levels import Listed
from imagegen_jax.diffusion.sampling.solver import Path
from imagegen_jax.nn.backbones.conditioning import Conditioning, conditioning_of
from imagegen_jax.nn.backbones.denoising import AnyNetwork, check_channels, forward_differentiable
from imagegen_jax.nn.backbones.edm2 import MPFourier
from imagegen_jax.nn.backbones.unet import UNet

Field = Callable[[Image, Float[Array, " b"]], Image]  # (x_t / sigma_d, t) -> F


class LearnedWeight(nn.Module):
    """w(t), the logarithm of the loss's weight at each time: one layer on Fourier features, as EDM2's; 0 at first."""

    features: Count = 128

    @nn.compact
    def __call__(self, t: Float[Array, " b"]) -> Float[Array, " b"]:
        """Returns w(t) of each row: [B] -> [B]."""
        layer = nn.Dense(1, use_bias=False, kernel_init=nn.initializers.zeros_init(), name="out")
        return layer(MPFourier(self.features, name="fourier")(t))[:, 0]


@dataclasses.dataclass(frozen=True)
class SCM:
    """Consistency training (sCT) or, with `distil`, distillation (sCD); times, weight and norm are the paper's.

    They are the paper's for CIFAR-10. The network is not: the paper's is a DDPM++ (`SongUNet`), the default here the
    U-Net of DDPM. It sees x_t / sigma_d and t itself. `times` draw sigma_d tan(t), EDM's noise level. `levels` are
    those of sampling: one is a single jump, each further one makes the image noisy again and jumps anew; the paper's
    second time, 1.1, is `sigma_data` tan(1.1): 0.98 for 0.5.

    With `distil`, "network" starts from a trained F, given by `Experiment.pretrained`, and its weights at the start are
    kept as the "teacher". For a `sigma_data` of 1, the network of a `Diffusion` with prediction "v", process
    `Cosine(0.0)` and `time_scale` pi/2 is such an F. Raises ValueError for fields out of range.
    """

    network: AnyNetwork = UNet()
    weight: LearnedWeight = LearnedWeight()
    times: LogNormal = LogNormal(-1.0, 1.4)
    levels: Listed = Listed((80.0,))
    image_shape: Shape = (32, 32, 3)
    num_classes: Natural = 0  # 0: unconditional
    distil: bool = False  # whether a teacher knows the slope of the flow
    warmup: Natural = 10_000  # H: steps until the part of the tangent that is hard to learn counts in full
    floor: float = 0.1  # c, added to the norm that the tangent is divided by
    sigma_data: Positive = SIGMA_DATA
    space: AnySpace = Pixels()  # what the data are: pixels, or latents and how they are scaled

    def __post_init__(self) -> None:
        if self.warmup < 1:
            raise ValueError(f"model.warmup={self.warmup}: must be at least 1")
        for name in ("floor", "sigma_data"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"model.{name}={getattr(self, name)}: must be above 0")

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the networks. Raises ValueError where images, labels or the levels of the network do not fit."""
        check_images(self, batch)
        check_space(self)
        check_channels(self.network, self.image_shape)
        x, (network_key, weight_key) = batch["image"], jax.random.split(key)
        t = jnp.zeros(x.shape[:1])
        network = self.network.init(network_key, x, t, conditioning_of(self, batch))
        nets = with_teacher(network) if self.distil else {"network": network}
        return {**nets, "weight": self.weight.init(weight_key, t)}

    def stage(self, step: int) -> int:
        """Returns the same stage for every step; `enter` begins it."""
        return 0

    def enter(self, stage: Hashable, nets: Nets) -> Entry:
        """Makes the network that training starts from the teacher, where there is one."""
        return Entry({**nets, **with_teacher(nets["network"])} if self.distil else nets)

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step: estimates learn to agree along the flow."""
        return (Phase(trains=("network", "weight"), loss=self.loss, name="agree"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """E[e^w(t) / D |F - stop(F + g)|^2 - w(t)], where g is the tangent over its norm + c   (Algorithm 1)"""
        x_0 = self.space.encode(inputs.batch["image"])
        t_keys, z_keys, dropout_keys = streams(inputs.keys, 3)
        t = jnp.arctan(self.times(t_keys) / self.sigma_data)
        z = self.sigma_data * normal_rows(z_keys, self.image_shape)
        cos, sin = broadcast_rows(jnp.cos(t), x_0), broadcast_rows(jnp.sin(t), x_0)
        x_t, slope = cos * x_0 + sin * z, cos * z - sin * x_0
        conditioning = conditioning_of(self, inputs.batch)
        if self.distil:
            slope = self.sigma_data * self._field(nets["teacher"], conditioning)(x_t / self.sigma_data, t)
        share = jnp.minimum(1.0, inputs.step / self.warmup)
        field = self._field(nets["network"], conditioning._replace(keys=dropout_keys))
        F, g = self.tangent(field, x_t, t, slope, share)
        norm = jnp.sqrt(_sum(g**2))
        g = g / broadcast_rows(norm + self.floor, g)
        error = _sum((F - jax.lax.stop_gradient(F + g)) ** 2) / math.prod(self.image_shape)
        w = self.weight.apply(nets["weight"], t)
        loss = jnp.mean(jnp.exp(w) * error - w)
        return loss, Aux({"error": jnp.mean(error), "tangent": jnp.mean(norm)})

    def tangent(
        self, field: Field, x_t: Image, t: Float[Array, " b"], slope: Image, share: Scalar | float = 1.0
    ) -> tuple[Image, Image]:
        """Returns F, and the tangent cos(t) df/dt along the flow, through which no gradient flows:

        -cos^2(t) (sigma_d F - dx_t/dt) - r cos(t) sin(t) (x_t + sigma_d dF/dt), where r is `share`   (Algorithm 1)

        cos(t) sin(t) dF/dt is computed as one product: dF/dt alone may overflow (section 5.1).
        """
        cos, sin = jnp.cos(t), jnp.sin(t)
        small = broadcast_rows(cos * sin, x_t)
        F, change = jax.jvp(field, (x_t / self.sigma_data, t), (small * slope / self.sigma_data, cos * sin))
        direct = broadcast_rows(cos**2, x_t) * (self.sigma_data * F - slope)
        return F, jax.lax.stop_gradient(-direct - share * (small * x_t + self.sigma_data * change))

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1], or latents, of the classes `conditions["label"]` where the model has classes.

        Raises ValueError where the label is missing.
        """
        drawn = self.path.draw(self.denoiser(nets, conditions), (n, *self.image_shape), key)
        return self.space.decode(drawn, nets)

    @property
    def path(self) -> Path:
        """The solver and the noise levels of sampling."""
        return Path(ConsistencyMultistep(0.0), self.levels())

    def denoiser(self, nets: Nets, conditions: Batch) -> Denoise:
        """Returns the function (x, sigma) -> the end of the flow through x, which solvers may use as a denoiser.

        It is f = cos(t) x_t - sin(t) sigma_d F, with x_t = cos(t) x and sigma = sigma_d tan(t).
        """
        return self.estimate(nets, conditioning_of(self, conditions))

    def estimate(self, nets: Nets, conditioning: Conditioning) -> Denoise:
        """Returns the denoiser of the network under these conditions."""
        field = self._field(nets["network"], conditioning)

        def jump(x: Image, sigma: Float[Array, " b"]) -> Image:
            t = jnp.arctan(sigma / self.sigma_data)
            cos, sin = broadcast_rows(jnp.cos(t), x), broadcast_rows(jnp.sin(t), x)
            return cos**2 * x - sin * self.sigma_data * field(cos * x / self.sigma_data, t)

        return jump

    def guided_by(self, guide: Model) -> Guided:
        """Returns this model, led by `guide`."""
        return Guided(self, guide)

    def _field(self, network: Variables, conditioning: Conditioning) -> Field:
        """Returns the function (x_t / sigma_d, t) -> F; in training its network can be differentiated forward."""
        called = self.network if conditioning.keys is None else forward_differentiable(self.network)
        return lambda x, t: called.apply(network, x, t, conditioning)


def _sum(x: Image) -> Float[Array, " b"]:
    return jnp.sum(x, axis=(1, 2, 3))
