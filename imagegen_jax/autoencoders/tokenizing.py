"""What models whose network "tokenizer" turns images into codes have in common: all but their losses."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from imagegen_jax.autoencoders.tokenizer import TokenizerNetwork, TokenizerNetworkByScale
from imagegen_jax.core.config.bounds import Shape
from imagegen_jax.core.model import Batch, Image, Nets, PRNGKey, Variables


class TokenizesImages:
    """The members of `capabilities.TokenizingByScale`, and reconstructions as samples, by `network`.

    A frozen dataclass that inherits from it has the fields `image_shape` and `network`.
    """

    image_shape: Shape
    network: Any  # a TokenizerNetwork

    @property
    def codebook_size(self) -> int:
        """The number of codes: they are integers from 0 to below it."""
        return self._network.codebook_size

    @property
    def code_shape(self) -> tuple[int, ...]:
        """The shape of an image's codes: for most quantisers their height and width."""
        return self._network.code_shape(self.image_shape)

    @property
    def code_sizes(self) -> tuple[int, ...]:
        """The height and width of each grid of codes, from coarse to fine; () where these are no such grids."""
        return self.network.code_sizes if isinstance(self.network, TokenizerNetworkByScale) else ()

    @property
    def code_dim(self) -> int:
        """The number of values in the vector that a code stands for; 0 where codes are no grids from coarse to fine."""
        return self.network.code_dim if isinstance(self.network, TokenizerNetworkByScale) else 0

    @property
    def condition_rows(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns what images are made from: others."""
        return {"image": jax.ShapeDtypeStruct(self.image_shape, np.uint8)}

    def for_images(self, image_shape: tuple[int, int, int], num_classes: int) -> Self:
        """Returns this model for images of a shape; it knows no classes. Raises ValueError for shapes not taken."""
        network = self.network
        if isinstance(network, TokenizerNetworkByScale):
            network = network.for_images(image_shape)
        return dataclasses.replace(self, image_shape=image_shape, network=network)  # type: ignore[type-var]

    def init_tokenizer(self, key: PRNGKey) -> Variables:
        """Makes fresh weights of the network that encodes and decodes."""
        return self._network.init(key, jnp.zeros((1, *self.image_shape)))

    def encode(self, nets: Nets, image: Image) -> Int[Array, "b ..."]:
        """Turns images in [-1, 1] into codes: [B *image_shape] -> [B *code_shape]."""
        return self._network.apply(nets["tokenizer"], image, method="quantise").codes

    def decode(self, nets: Nets, codes: Int[Array, "b ..."]) -> Image:
        """Turns codes into images in [-1, 1]: [B *code_shape] -> [B *image_shape]."""
        y = self._network.apply(nets["tokenizer"], codes, self.image_shape[-1], method="decode")
        return jnp.clip(y, -1.0, 1.0)

    def next_inputs(self, nets: Nets, codes: Int[Array, "b m"]) -> Float[Array, "b n d"]:
        """Returns what the codes of the first grids tell of the second and of each up to the next, at its own size."""
        return self._network.apply(nets["tokenizer"], codes, method="next_inputs")

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Reconstructs the `n` images `conditions["image"]`, in [-1, 1]."""
        return self.decode(nets, self.encode(nets, conditions["image"]))

    @property
    def _network(self) -> TokenizerNetwork:
        return self.network
