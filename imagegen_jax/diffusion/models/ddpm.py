"""DDPM (Ho et al. 2020, arXiv 2006.11239): a network learns to see the noise in an image, at every strength of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

import jax.numpy as jnp
from jaxtyping import Array, Int

from imagegen_jax.core.arrays.random import integer_rows, normal_rows, streams
from imagegen_jax.core.arrays.space import AnySpace, Pixels, check_space
from imagegen_jax.core.config.bounds import Natural, Shape
from imagegen_jax.core.model import (
    Aux,
    Batch,
    Image,
    Inputs,
    Model,
    Nets,
    Phase,
    PRNGKey,
    Scalar,
    check_images,
)
from imagegen_jax.diffusion.guidance.by_network import Guided
from imagegen_jax.diffusion.process.denoiser import Denoise, clipped, from_prediction
from imagegen_jax.diffusion.process.variance_preserving import Discrete
from imagegen_jax.diffusion.sampling.discrete_time import Ancestral, AnySampler
from imagegen_jax.diffusion.sampling.solver import Path
from imagegen_jax.nn.backbones.conditioning import Conditioning, conditioning_of
from imagegen_jax.nn.backbones.denoising import AnyNetwork, check_channels
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule, signal_and_noise


@dataclasses.dataclass(frozen=True)
class DDPM:
    """Denoising diffusion probabilistic model with the simple loss; the defaults are the paper's for CIFAR-10."""

    network: AnyNetwork = UNet()
    schedule: LinearSchedule = LinearSchedule()
    sampler: AnySampler = Ancestral()
    image_shape: Shape = (32, 32, 3)
    num_classes: Natural = 0  # 0: unconditional
    space: AnySpace = Pixels()  # what the data are: pixels, or latents and how they are scaled

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the network. Raises ValueError where images, labels or the levels of the network do not fit."""
        check_images(self, batch)
        check_space(self)
        check_channels(self.network, self.image_shape)
        x = batch["image"]
        return {"network": self.network.init(key, x, jnp.zeros(x.shape[:1]), conditioning_of(self, batch))}

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step: the network learns to denoise."""
        return (Phase(trains=("network",), loss=self.loss, name="denoise"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """L_simple = E ||epsilon - epsilon_theta(sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) epsilon, t)||^2 (Eq. 14).

        It is the mean over pixels, as in the paper's code, where the paper has the sum.
        """
        x_0 = self.space.encode(inputs.batch["image"])
        t_key, epsilon_key, dropout_keys = streams(inputs.keys, 3)
        t = integer_rows(t_key, self.schedule.steps)
        epsilon = normal_rows(epsilon_key, self.image_shape)
        signal, noise = signal_and_noise(self.schedule, t, x_0.ndim)
        x_t = signal * x_0 + noise * epsilon
        conditioning = conditioning_of(self, inputs.batch)._replace(keys=dropout_keys)
        predicted = self.network.apply(nets["network"], x_t, t, conditioning)
        loss = jnp.mean((epsilon - predicted) ** 2)
        return loss, Aux({})

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1], or latents, of the classes `conditions["label"]` where the model has classes.

        Raises ValueError where the label is missing.
        """
        drawn = self.path.draw(self.denoiser(nets, conditions), (n, *self.image_shape), key)
        return self.space.decode(drawn, nets)

    @property
    def path(self) -> Path:
        """The solver and the noise levels of sampling."""
        return self.sampler.path(self.schedule)

    def denoiser(self, nets: Nets, conditions: Batch) -> Denoise:
        """Returns the denoiser of the network: x_0 by Eq. 15, of pixels clipped to [-1, 1] as in the authors' code."""
        return self.estimate(nets, conditioning_of(self, conditions))

    def estimate(self, nets: Nets, conditioning: Conditioning) -> Denoise:
        """Returns the denoiser of the network under these conditions."""

        def predict(x_t: Image, t: Int[Array, " b"]) -> Image:
            return self.network.apply(nets["network"], x_t, t, conditioning)

        denoise = from_prediction(predict, Discrete(self.schedule), "epsilon")
        return clipped(denoise) if self.space.clips else denoise

    def guided_by(self, guide: Model) -> Guided:
        """Returns this model, led by `guide`."""
        return Guided(self, guide)
