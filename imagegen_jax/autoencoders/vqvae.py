"""VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937): an autoencoder whose latents are codes out of a book."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

import jax.numpy as jnp

from imagegen_jax.autoencoders.tokenizer import AnyTokenizer, Tokenizer, psnr, trained_call
from imagegen_jax.autoencoders.tokenizing import TokenizesImages
from imagegen_jax.core.config.bounds import Positive, Shape
from imagegen_jax.core.model import (
    Aux,
    Batch,
    Inputs,
    Nets,
    Phase,
    PRNGKey,
    Scalar,
    check_images,
)


@dataclasses.dataclass(frozen=True)
class VQVAE(TokenizesImages):
    """Autoencoder with quantised latents. It draws reconstructions; a prior over its codes draws new images."""

    image_shape: Shape = (32, 32, 3)
    network: AnyTokenizer = Tokenizer()
    variance: Positive = 1.0  # that the squared error is divided by, such as that of the data in [-1, 1]

    def __post_init__(self) -> None:
        self.network.code_shape(self.image_shape)

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the network. Raises ValueError where the images have another shape."""
        check_images(self, batch)
        return {"tokenizer": self.init_tokenizer(key)}

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step."""
        return (Phase(("tokenizer",), self.loss, "tokenizer"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """|x - D(q)|^2 / variance, and what the quantiser adds   (Eq. 3, as means over all values)."""
        x = inputs.batch["image"]
        y, quantised, stats = trained_call(self.network, nets["tokenizer"], x, inputs.key)
        reconstruction = jnp.mean((y - x) ** 2) / self.variance
        metrics = {"reconstruction": reconstruction, "psnr": psnr(x, y), **quantised.metrics}
        return reconstruction + quantised.loss, Aux(metrics, {"tokenizer": stats}, y)
