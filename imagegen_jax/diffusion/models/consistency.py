"""Consistency models: one evaluation leads from any noise to an image (Song et al. 2023, arXiv 2303.01469).

Trained without a teacher by the improved recipe, iCT (Song & Dhariwal 2023, arXiv 2310.14189): estimates at two
neighbouring noise levels of one noisy image have to agree, and the levels become denser while training goes on. With a
teacher, it is the teacher who leads from the upper level to the lower (consistency distillation, Algorithm 2).
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Hashable

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Array, Float, Int

from imagegen_jax.core.arrays.random import normal_rows, streams, uniform_rows
from imagegen_jax.core.arrays.space import AnySpace, Pixels, check_space
from imagegen_jax.core.config.bounds import Count, Natural, NonNegative, Positive, Shape
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
    PRNGKeys,
    Scalar,
    Variables,
    check_images,
)
from imagegen_jax.diffusion.guidance.by_network import Guided
from imagegen_jax.diffusion.models.teacher import with_teacher
from imagegen_jax.diffusion.process.denoiser import Denoise, clipped, from_prediction, preconditioned
from imagegen_jax.diffusion.process.prediction import SIGMA_DATA, broadcast_rows
from imagegen_jax.diffusion.process.process import EDM
from imagegen_jax.diffusion.sampling.ancestral import ConsistencyMultistep
from imagegen_jax.diffusion.sampling.levels import Listed
from imagegen_jax.diffusion.sampling.solver import Path, noise_estimate
from imagegen_jax.nn.backbones.conditioning import Conditioning, conditioning_of
from imagegen_jax.nn.backbones.denoising import AnyNetwork, check_channels
from imagegen_jax.nn.backbones.unet import UNet


@dataclasses.dataclass(frozen=True)
class Consistency:
    """A network that jumps to the end of the flow. The levels, weights and distance are iCT's for CIFAR-10 (Table 1).

    The network is not: iCT's is an NCSN++ (`SongUNet`), the default here the U-Net of DDPM.
    `levels` are those of sampling: one is a single jump, each further one makes the image noisy again and jumps anew.
    With `distil`, "network" starts from a network that was trained as in EDM (the defaults of `Diffusion`), given by
    `Experiment.pretrained`; its weights at the start are kept as the "teacher", which need not be given as well. The
    paper's levels are then `first_levels` = `last_levels` = 17, its N - 1. Raises ValueError for fields out of range.
    """

    network: AnyNetwork = UNet()
    levels: Listed = Listed((80.0,))
    image_shape: Shape = (32, 32, 3)
    num_classes: Natural = 0  # 0: unconditional
    sigma_min: NonNegative = 0.002  # epsilon: there the estimate is the image itself
    sigma_max: NonNegative = 80.0
    rho: Positive = 7.0
    first_levels: Count = 10  # s_0
    last_levels: Count = 1280  # s_1
    double_every: Count = 50_000  # steps until the levels are doubled; K' = K / (log2(s_1 / s_0) + 1), section 3.4
    mean: float = -1.1  # P_mean of log sigma, section 3.5
    std: Positive = 2.0  # P_std
    huber: Positive = 0.00054  # c of the pseudo-Huber distance over the root of the number of values, section 3.3
    sigma_data: Positive = SIGMA_DATA
    distil: bool = False  # whether a teacher leads from level to level
    space: AnySpace = Pixels()  # what the data are: pixels, or latents and how they are scaled
    time_scale: Positive = 1.0  # of log(sigma) / 4, before the network sees it; 1000 in the authors' code
    clip: bool = False  # whether estimates of x_0 are kept in [-1, 1] while sampling, as in the authors' code

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                f"model.sigma_min={self.sigma_min}, model.sigma_max={self.sigma_max}: must obey "
                "0 < sigma_min < sigma_max"
            )
        if not 2 <= self.first_levels <= self.last_levels or self.double_every < 1:
            raise ValueError(
                f"model.first_levels={self.first_levels}, model.last_levels={self.last_levels}, model.double_every="
                f"{self.double_every}: must obey 2 <= first_levels <= last_levels and 1 <= double_every"
            )
        for name in ("rho", "std", "huber", "sigma_data"):
            if not getattr(self, name) > 0:
                raise ValueError(f"model.{name}={getattr(self, name)}: must be above 0")

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the network. Raises ValueError where images, labels or the levels of the network do not fit."""
        check_images(self, batch)
        check_space(self)
        if self.clip and not self.space.clips:
            raise ValueError(
                f"model.clip=True, model.space={self.space}: latents have no range to be kept in; set clip to False"
            )
        check_channels(self.network, self.image_shape)
        x = batch["image"]
        network = self.network.init(key, x, jnp.zeros(x.shape[:1]), conditioning_of(self, batch))
        return with_teacher(network) if self.distil else {"network": network}

    def stage(self, step: int) -> int:
        """Returns the same stage for every step; `enter` begins it."""
        return 0

    def enter(self, stage: Hashable, nets: Nets) -> Entry:
        """Makes the network that training starts from the teacher, where there is one."""
        return Entry(with_teacher(nets["network"]) if self.distil else nets)

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step: estimates learn to agree along the flow."""
        return (Phase(trains=("network",), loss=self.loss, name="agree"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """E[d(f(x_0 + s_{i+1} z, s_{i+1}), stop(f(x, s_i))) / (s_{i+1} - s_i)]   (iCT, section 3)

        d(x, y) = sqrt(|x - y|^2 + c^2) - c, and x is x_0 + s_i z, or the place that the teacher leads to; both
        estimates have the same dropout. There is no moving average in place of f, as in iCT: mu = 0 in Algorithm 2.
        """
        x_0 = self.space.encode(inputs.batch["image"])
        level_keys, noise_keys, dropout_keys = streams(inputs.keys, 3)
        low, high = self.neighbours(level_keys, inputs.step)
        z = normal_rows(noise_keys, self.image_shape)
        conditioning = conditioning_of(self, inputs.batch)
        estimate = self._jump(nets["network"], conditioning._replace(keys=dropout_keys))
        upper, lower = (x_0 + broadcast_rows(sigma, x_0) * z for sigma in (high, low))
        if self.distil:
            lower = self._step_of_teacher(nets["teacher"], upper, high, low, conditioning)
        gap = estimate(upper, high) - jax.lax.stop_gradient(estimate(lower, low))
        c = self.huber * math.sqrt(math.prod(self.image_shape))
        distance = jnp.sqrt(jnp.sum(gap**2, axis=(1, 2, 3)) + c**2) - c
        loss = jnp.mean(distance / (high - low))
        return loss, Aux({"distance": jnp.mean(distance), "levels": self.levels_at(inputs.step)})

    def _step_of_teacher(
        self,
        teacher: Variables,
        x: Image,
        high: Float[Array, " b"],
        low: Float[Array, " b"],
        conditioning: Conditioning,
    ) -> Image:
        """Takes one step of Heun's method from one level to another along the flow of the teacher, an EDM denoiser."""

        def network(x: Image, c_noise: Float[Array, " b"]) -> Image:
            return self.network.apply(teacher, x, c_noise * self.time_scale, conditioning)

        predict = preconditioned(network, self.sigma_data)
        slope = noise_estimate(from_prediction(predict, EDM(), "F", sigma_data=self.sigma_data))
        step = broadcast_rows(low - high, x)
        first = slope(x, high)
        return x + step * (first + slope(x + step * first, low)) / 2

    def levels_at(self, step: Int[Array, ""]) -> Scalar:
        """Returns the number of levels at a step, N(k) = min(s_0 2^floor(k / K'), s_1) + 1   (iCT, section 3.4)"""
        doubled = self.first_levels * 2.0 ** jnp.minimum(step // self.double_every, 30)
        return jnp.minimum(doubled, self.last_levels) + 1

    def neighbours(self, keys: PRNGKeys, step: Int[Array, ""]) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        """Draws two neighbouring levels for each key, the lower first: log-normal, discretised (section 3.5).

        They are the ends of that one of N - 1 intervals into which a log-normal level falls. Its probability is, as in
        the paper, ~ erf((log s_{i+1} - P_mean) / (sqrt(2) P_std)) - erf((log s_i - P_mean) / (sqrt(2) P_std)).
        """
        normal = statistics.NormalDist(self.mean, self.std)
        least, most = (normal.cdf(math.log(end)) for end in (self.sigma_min, self.sigma_max))
        u = uniform_rows(keys, least, most)
        drawn = jnp.exp(self.mean + self.std * ndtri(u))
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        intervals = self.levels_at(step) - 1
        place = (drawn ** (1 / self.rho) - low) / (high - low) * intervals
        i = jnp.clip(jnp.floor(place), 0, intervals - 1)
        return tuple((low + at / intervals * (high - low)) ** self.rho for at in (i, i + 1))

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1], or latents, of the classes `conditions["label"]` where the model has classes.

        Raises ValueError where the label is missing.
        """
        drawn = self.path.draw(self.denoiser(nets, conditions), (n, *self.image_shape), key)
        return self.space.decode(drawn, nets)

    @property
    def path(self) -> Path:
        """The solver and the noise levels of sampling."""
        return Path(ConsistencyMultistep(self.sigma_min), self.levels())

    def denoiser(self, nets: Nets, conditions: Batch) -> Denoise:
        """Returns the function (x, sigma) -> the end of the flow through x, which solvers may use as a denoiser."""
        return self.estimate(nets, conditioning_of(self, conditions))

    def estimate(self, nets: Nets, conditioning: Conditioning) -> Denoise:
        """Returns the denoiser of the network under these conditions."""
        jump = self._jump(nets["network"], conditioning)
        return clipped(jump) if self.clip else jump

    def guided_by(self, guide: Model) -> Guided:
        """Returns this model, led by `guide`."""
        return Guided(self, guide)

    def _jump(self, network: Variables, conditioning: Conditioning) -> Denoise:
        """Returns f = c_skip x + c_out F(c_in x, log(sigma) / 4), which is x at sigma_min (2303.01469, appendix C)."""

        def f(x: Image, sigma: Float[Array, " b"]) -> Image:
            above = sigma - self.sigma_min
            size = jnp.sqrt(sigma**2 + self.sigma_data**2)
            c_skip = self.sigma_data**2 / (above**2 + self.sigma_data**2)
            c_out = self.sigma_data * above / size
            time = jnp.log(sigma) / 4 * self.time_scale
            inner = self.network.apply(network, x / broadcast_rows(size, x), time, conditioning)
            return broadcast_rows(c_skip, x) * x + broadcast_rows(c_out, x) * inner

        return f
