"""VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937): an autoencoder whose latents are codes out of a book."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from imagegen_jax.autoencoders.tokenizer import AnyTokenizer, Tokenizer, TokenizerNetworkByScale, psnr, trained_call
from imagegen_jax.core.config.bounds import Positive, Shape
from imagegen_jax.core.model import (
    Aux,
    Batch,
    Image,
    Inputs,
    Nets,
    Phase,
    PRNGKey,
    Scalar,
    Variables,
    check_images,
)


@dataclasses.dataclass(frozen=True)
class VQVAE:
    """Autoencoder with quantised latents. It draws reconstructions; a prior over its codes draws new images."""

    image_shape: Shape = (32, 32, 3)
    network: AnyTokenizer = Tokenizer()
    variance: Positive = 1.0  # that the squared error is divided by, such as that of the data in [-1, 1]

    def __post_init__(self) -> None:
        self.network.code_shape(self.image_shape)

    @property
    def codebook_size(self) -> int:
        """The number of codes: they are integers from 0 to below it."""
        return self.network.codebook_size

    @property
    def code_shape(self) -> tuple[int, ...]:
        """The shape of an image's codes: for most quantisers their height and width."""
        return self.network.code_shape(self.image_shape)

    @property
    def code_sizes(self) -> tuple[int, ...]:
        """The height and width of each grid of codes, from coarse to fine; () where these are no such grids."""
        return self.network.code_sizes if isinstance(self.network, TokenizerNetworkByScale) else ()

    @property
    def code_dim(self) -> int:
        """The number of values in the vector that a code stands for; 0 where codes are no grids from coarse to fine."""
        return self.network.code_dim if isinstance(self.network, TokenizerNetworkByScale) else 0

    def for_images(self, image_shape: tuple[int, int, int], num_classes: int) -> VQVAE:
        """Returns this model for images of a shape; it knows no classes. Raises ValueError for shapes not taken."""
        network = self.network
        if isinstance(network, TokenizerNetworkByScale):
            network = network.for_images(image_shape)
        return dataclasses.replace(self, image_shape=image_shape, network=network)

    @property
    def condition_rows(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns what images are made from: others."""
        return {"image": jax.ShapeDtypeStruct(self.image_shape, np.uint8)}

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the network. Raises ValueError where the images have another shape."""
        check_images(self, batch)
        return {"tokenizer": self.init_tokenizer(key)}

    def init_tokenizer(self, key: PRNGKey) -> Variables:
        """Makes fresh weights of the network that encodes and decodes."""
        return self.network.init(key, jnp.zeros((1, *self.image_shape)))

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

    def encode(self, nets: Nets, image: Image) -> Int[Array, "b ..."]:
        """Turns images in [-1, 1] into codes: [B *image_shape] -> [B *code_shape]."""
        return self.network.apply(nets["tokenizer"], image, method="quantise").codes

    def decode(self, nets: Nets, codes: Int[Array, "b ..."]) -> Image:
        """Turns codes into images in [-1, 1]: [B *code_shape] -> [B *image_shape]."""
        y = self.network.apply(nets["tokenizer"], codes, self.image_shape[-1], method="decode")
        return jnp.clip(y, -1.0, 1.0)

    def next_inputs(self, nets: Nets, codes: Int[Array, "b m"]) -> Float[Array, "b n d"]:
        """Returns what the codes of the first grids tell of the second and of each up to the next, at its own size."""
        return self.network.apply(nets["tokenizer"], codes, method="next_inputs")

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Reconstructs the `n` images `conditions["image"]`, in [-1, 1]."""
        return self.decode(nets, self.encode(nets, conditions["image"]))
