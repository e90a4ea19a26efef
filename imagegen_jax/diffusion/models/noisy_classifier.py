"""A classifier of noisy images, whose gradient leads samples to a class (Dhariwal & Nichol 2021, arXiv 2105.05233)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.core.arrays.autoencoding import into_space
from imagegen_jax.core.arrays.random import normal_rows, streams
from imagegen_jax.core.arrays.space import AnySpace, Pixels, check_space
from imagegen_jax.core.config.bounds import Positive, Shape
from imagegen_jax.core.config.override import override
from imagegen_jax.core.model import (
    Aux,
    Batch,
    Inputs,
    Nets,
    Phase,
    PRNGKey,
    PRNGKeys,
    Scalar,
    check_images,
    check_labels,
    one_hot_labels,
)
from imagegen_jax.diffusion.guidance.functions import LogProb
from imagegen_jax.diffusion.process.denoiser import preconditioned
from imagegen_jax.diffusion.process.prediction import SIGMA_DATA, broadcast_rows
from imagegen_jax.diffusion.process.process import EDM, AnyProcess, WholeTimed, at
from imagegen_jax.diffusion.process.times import AnyTimes, LogNormal, check_range, check_times
from imagegen_jax.nn.backbones.adm import ADMClassifier
from imagegen_jax.nn.backbones.denoising import AnyImageClassifier

Images = Float[Array, "b h w c"]
Times = Float[Array, " b"]
NEARLY_CLEAN = 0.02  # the level of noise that images without any are said to have: 0 is none that training sees
Logits = Callable[[Images, Times], Float[Array, "b k"]]  # (x_t, t) -> logits


@dataclasses.dataclass(frozen=True)
class NoisyClassifier:
    """p(y | x_t), the class of an image at every strength of noise; the network is ADM's for ImageNet at 256x256.

    It draws no images: it guides the samples of a diffusion model (`by_network.Guided`), whatever process that was
    trained in. The network sees EDM's inputs, c_in x and log(sigma) / 4; without `precondition` it sees x_t and t *
    `time_scale`, which is ADM's own choice, with process Discrete() and times WholeTimes(). Samplers ask for its
    gradient at all of their levels: let the times reach the highest. Raises ValueError for choices that do not go
    together.
    """

    network: AnyImageClassifier = ADMClassifier()
    process: AnyProcess = EDM()
    times: AnyTimes = LogNormal()
    precondition: bool = True
    image_shape: Shape = (256, 256, 3)
    time_scale: Positive = 1.0  # of t, without `precondition`
    sigma_data: Positive = SIGMA_DATA  # deviation of the data, with it
    space: AnySpace = Pixels()  # what the data are: pixels, or latents and how they are scaled

    def __post_init__(self) -> None:
        check_times(self.process, self.times)

    @property
    def num_classes(self) -> int:
        """The number of classes that the network tells apart."""
        return self.network.num_classes

    def for_images(self, image_shape: tuple[int, int, int], num_classes: int) -> NoisyClassifier:
        """Returns the classifier of such images. Raises ValueError where there are no classes to tell apart."""
        if not num_classes:
            raise ValueError("num_classes=0: a classifier needs classes")
        network = override(self.network, {"num_classes": num_classes})
        return dataclasses.replace(self, image_shape=image_shape, network=network)

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the network. Raises ValueError where images, labels or the levels of the network do not fit."""
        check_images(self, batch)
        check_space(self)
        check_labels(self, batch)
        check_range(self.process, self.times)
        x = batch["image"]
        return {"network": self.network.init(key, x, jnp.zeros(x.shape[:1]))}

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step: the network learns the classes of noisy images."""
        return (Phase(trains=("network",), loss=self.loss, name="classify"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """E[-log p(y | x_t)] in nats, at x_t = alpha x_0 + sigma epsilon.

        The metric `accuracy_low` is the accuracy on the half of the images with the least noise.
        """
        x_0 = self.space.encode(inputs.batch["image"])
        t_keys, epsilon_keys, dropout_keys = streams(inputs.keys, 3)
        t = self.times(t_keys)
        epsilon = normal_rows(epsilon_keys, self.image_shape)
        point = at(self.process, t)
        x_t = broadcast_rows(point.alpha, x_0) * x_0 + broadcast_rows(point.sigma, x_0) * epsilon
        labels = one_hot_labels(self, inputs.batch)
        assert labels is not None  # `init` has seen to it
        logits = self._logits(nets, dropout_keys)(x_t, t)
        loss = -jnp.mean(_log_probability(logits, labels))
        right = jnp.argmax(logits, axis=-1) == inputs.batch["label"]
        level = point.sigma / point.alpha
        low = level <= jnp.median(level)
        accuracy_low = jnp.sum(right & low) / jnp.sum(low)
        return loss, Aux({"accuracy": jnp.mean(right), "accuracy_low": accuracy_low})

    def log_probability(self, nets: Nets, labels: Int[Array, " b"]) -> LogProb:
        """Returns the function (x, sigma) -> log p(labels | x) [B], for x = x_0 + sigma epsilon [B H W C]."""
        rows, logits = jax.nn.one_hot(labels, self.num_classes), self._logits_at_levels(nets)
        return lambda x, sigma: _log_probability(logits(x, sigma), rows)

    def classify(self, nets: Nets, image: Images) -> Float[Array, "b k"]:
        """Returns log p(y | x) for every class of images in [-1, 1], without noise: [B H W C] -> [B K]."""
        sigma = jnp.full(len(image), NEARLY_CLEAN)
        return jax.nn.log_softmax(self._logits_at_levels(nets)(into_space(self, nets, image), sigma))

    def _logits_at_levels(self, nets: Nets) -> Logits:
        """Returns the function (x, sigma) -> logits, for x = x_0 + sigma epsilon."""
        logits, whole = self._logits(nets, None), isinstance(self.process, WholeTimed)

        def at_level(x: Images, sigma: Float[Array, " b"]) -> Float[Array, "b k"]:
            t = self.process.time(sigma)
            x_t = broadcast_rows(self.process.scale(sigma), x) * x
            return logits(x_t, jnp.round(t).astype(jnp.int32) if whole else t)

        return at_level

    def _logits(self, nets: Nets, keys: PRNGKeys | None) -> Logits:
        def network(x: Images, t: Times) -> Float[Array, "b k"]:
            return self.network.apply(nets["network"], x, t, keys)

        def logits(x_t: Images, t: Times) -> Float[Array, "b k"]:
            if not self.precondition:
                return network(x_t, t * self.time_scale)
            alpha = self.process.alpha(t)
            return preconditioned(network, self.sigma_data)(
                x_t / broadcast_rows(alpha, x_t), self.process.sigma(t) / alpha
            )

        return logits


def _log_probability(logits: Float[Array, "b k"], labels: Float[Array, "b k"]) -> Float[Array, " b"]:
    """Returns the log-probability of each row's class, given as one-hot `labels`."""
    return jnp.sum(labels * jax.nn.log_softmax(logits), axis=-1)
