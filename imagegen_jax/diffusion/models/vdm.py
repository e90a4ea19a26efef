"""Variational diffusion models (Kingma et al. 2021, arXiv 2107.00630): for likelihood, with a schedule learned too."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.core.arrays.bits_per_dim import LEVELS, bits_per_dim
from imagegen_jax.core.arrays.random import fold_rows, normal_rows, streams, uniform_rows
from imagegen_jax.core.config.bounds import Count, Natural, Shape
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
from imagegen_jax.diffusion.guidance.functions import Guiding, unguided
from imagegen_jax.diffusion.models.vdm_networks import AnyGamma, AnyNoiseNetwork, LearnedGamma, VDMUNet
from imagegen_jax.diffusion.process.denoiser import Denoise
from imagegen_jax.diffusion.process.prediction import broadcast_rows
from imagegen_jax.diffusion.process.variance_preserving import preserving_scale
from imagegen_jax.diffusion.sampling.ancestral import DDPMAncestral
from imagegen_jax.diffusion.sampling.levels import PolyExponential
from imagegen_jax.diffusion.sampling.solver import Path, noise
from imagegen_jax.nn.backbones.conditioning import Conditioning, conditioning_of


class Bound(NamedTuple):
    """The terms of the variational bound on -log P(x), in nats, for each image (section 3.5)."""

    prior: Float[Array, " b"]
    reconstruction: Float[Array, " b"]
    diffusion: Float[Array, " b"]


@dataclasses.dataclass(frozen=True)
class VDM:
    """A diffusion model trained on its likelihood; the defaults are the paper's for CIFAR-10 (appendix B).

    Images have 8 bits, and the loss is in bits per dimension. gamma = log(sigma^2 / alpha^2), minus the logarithm of
    the signal-to-noise ratio, is a second network, of t in [0, 1]. Sampling takes `steps` ancestral steps from gamma(1)
    to gamma(0), at equal differences of time.
    """

    network: AnyNoiseNetwork = VDMUNet()
    gamma: AnyGamma = LearnedGamma()
    image_shape: Shape = (32, 32, 3)
    num_classes: Natural = 0  # 0: unconditional
    stratified: bool = True  # whether the times of a batch are spread evenly, appendix I.1
    steps: Count = 1000

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises both networks. Raises ValueError where images or labels do not fit."""
        check_images(self, batch)
        x, (network_key, gamma_key) = batch["image"], jax.random.split(key)
        t = jnp.zeros(x.shape[:1])
        return {
            "network": self.network.init(network_key, x, t, conditioning_of(self, batch)),
            "gamma": self.gamma.init(gamma_key, t),
        }

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step: both networks learn from the bound."""
        return (Phase(trains=("network", "gamma"), loss=self.loss, name="bound"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """Returns the bound in bits per dimension, with the diffusion loss in continuous time (section 5)."""
        keys = streams(inputs.keys, 2)
        bound = self.bound(nets, inputs.batch, self._times(inputs), keys[0], keys[1])
        terms = {name: jnp.mean(bits_per_dim(term, self.image_shape)) for name, term in bound._asdict().items()}
        loss = sum(terms.values(), jnp.float32(0))
        return loss, Aux(terms)

    def bound(
        self, nets: Nets, batch: Batch, t: Float[Array, " b"], keys: PRNGKeys, dropout_keys: PRNGKeys | None = None
    ) -> Bound:
        """Draws each term of the bound once for each image; over uniform t their mean is the bound."""
        x = batch["image"]
        noise_keys = streams(keys, 2)
        epsilon, epsilon_0 = (normal_rows(k, self.image_shape) for k in noise_keys)
        gamma_0, gamma_1 = (self._gamma(nets, jnp.full((), end)) for end in (0.0, 1.0))
        gamma, slope = jax.jvp(lambda t: self._gamma(nets, t), (t,), (jnp.ones_like(t),))
        alpha, sigma = (jnp.sqrt(jax.nn.sigmoid(broadcast_rows(sign * gamma, x))) for sign in (-1, 1))
        conditioning = conditioning_of(self, batch)._replace(keys=dropout_keys)
        predicted = self.network.apply(nets["network"], alpha * x + sigma * epsilon, gamma, conditioning)
        kept, variance = jax.nn.sigmoid(-gamma_1), jax.nn.sigmoid(gamma_1)
        return Bound(
            prior=0.5 * _sum(kept * x**2 + variance - 1 - jnp.log(variance)),  # KL(q(z_1 | x) || N(0, 1))
            reconstruction=-_sum(log_prob_of_levels(x, x + jnp.exp(gamma_0 / 2) * epsilon_0, gamma_0)),
            diffusion=0.5 * slope * _sum((epsilon - predicted) ** 2),
        )

    def bits(self, nets: Nets, batch: Batch, key: PRNGKey, times: int = 128) -> Float[Array, " b"]:
        """Bounds -log P(x) of 8-bit images, in bits per dimension, with `times` evenly spread times for each image.

        The places of the times are random: the expectation is the bound for any number of them, and more of them make
        its noise smaller.
        """
        rows = len(batch["image"])
        start = jax.random.uniform(jax.random.fold_in(key, times), (rows,))

        def add(total: Float[Array, " b"], i: Int[Array, ""]) -> tuple[Float[Array, " b"], None]:
            keys = jax.random.split(jax.random.fold_in(key, i), rows)
            return total + sum(self.bound(nets, batch, (start + i) / times, keys)), None

        total, _ = jax.lax.scan(add, jnp.zeros(rows), jnp.arange(times))
        return bits_per_dim(total / times, self.image_shape)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1], of the classes `conditions["label"]` where the model has classes.

        Raises ValueError where the label is missing.
        """
        return self.draw_by(nets, key, n, conditions, unguided)

    def draw_by(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch, guide: Guiding) -> Image:
        """Draws as `sample` does, along the learned levels, with the estimates that `guide` makes."""
        denoise, (start_key, step_key) = guide(self.denoiser(nets, conditions)), jax.random.split(key)
        levels = jnp.exp(self._gamma(nets, jnp.linspace(1.0, 0.0, self.steps + 1)) / 2)

        def step(i: Int[Array, ""], x: Image) -> Image:
            """Draws from q(z_s | z_t, x_0), over alpha_s: DDPM's step with the posterior's variance   (appendix A)"""
            now, then = levels[i], levels[i + 1]
            kept = (then / now) ** 2
            mean = kept * x + (1 - kept) * denoise(x, jnp.full(n, now))
            return mean + jnp.sqrt(kept * (now**2 - then**2)) * noise(step_key, i, x)

        x = jnp.sqrt(1 + levels[0] ** 2) * jax.random.normal(start_key, (n, *self.image_shape))
        # This is z_0 over alpha_0. Rounding it to 8 bits takes the likeliest level under p(x | z_0).
        return jnp.clip(jax.lax.fori_loop(0, self.steps, step, x), -1.0, 1.0)

    @property
    def path(self) -> Path:
        """The solver and the noise levels of edits: as in sampling, but between the first ends of gamma, and on to 0.

        A path knows no weights, and the ends that gamma has learned are weights.
        """
        low, high = (math.exp(end / 2) for end in (self.gamma.gamma_min, self.gamma.gamma_max))
        return Path(DDPMAncestral("small"), PolyExponential(self.steps, low, high)())

    def denoiser(self, nets: Nets, conditions: Batch) -> Denoise:
        """Returns the denoiser of the network under these conditions."""
        return self.estimate(nets, conditioning_of(self, conditions))

    def estimate(self, nets: Nets, conditioning: Conditioning) -> Denoise:
        """Returns the denoiser of the network under these conditions."""

        def denoise(x: Image, sigma: Float[Array, " b"]) -> Image:
            level, gamma = broadcast_rows(sigma, x), 2 * jnp.log(sigma)
            z = x * preserving_scale(level)
            return x - level * self.network.apply(nets["network"], z, gamma, conditioning)

        return denoise

    def guided_by(self, guide: Model) -> Guided:
        """Returns this model, led by `guide`."""
        return Guided(self, guide)

    def _gamma(self, nets: Nets, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
        return self.gamma.apply(nets["gamma"], t)

    def _times(self, inputs: Inputs) -> Float[Array, " b"]:
        """Draws uniform times: independent, or, if stratified, at equal distances around [0, 1) from one drawn time."""
        n = len(inputs.keys)
        if self.stratified:
            return jnp.mod(jax.random.uniform(inputs.key) + jnp.arange(n) / n, 1.0)
        return uniform_rows(fold_rows(inputs.keys, 2))


def log_prob_of_levels(x: Image, z: Image, gamma_0: Scalar) -> Image:
    """Returns log p(x | z_0) of each value, where p, over all 256 levels, is proportional to q(z_0 | x).

    `z` is z_0 over alpha_0, so that q(z | x) has the mean x and the variance exp(gamma_0).
    """
    levels = jnp.linspace(-1, 1, LEVELS)
    logits = -0.5 * jnp.exp(-gamma_0) * (z[..., None] - levels) ** 2
    own = -0.5 * jnp.exp(-gamma_0) * (z - x) ** 2
    return own - jax.nn.logsumexp(logits, axis=-1)


def _sum(x: Image) -> Float[Array, " b"]:
    return jnp.sum(x, axis=(1, 2, 3))
