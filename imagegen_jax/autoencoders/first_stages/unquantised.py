"""A tokenizer's latents before they are quantised: the VQ first stages of latent diffusion (2112.10752, section 3.1).

A diffusion model learns the encoder's vectors, and only its samples are quantised, as the first layer of the decoder.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.autoencoders.quantise import Codebook
from imagegen_jax.autoencoders.tokenizer import Tokenizer, grid_shape
from imagegen_jax.core.capabilities import Moments
from imagegen_jax.core.config.bounds import Shape
from imagegen_jax.core.model import Image, Nets, PRNGKey, Variables
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder

F4 = Tokenizer(
    encoder=ConvEncoder(multipliers=(1, 2, 4), features=3),
    quantiser=Codebook(codebook_size=8192, dim=3),
    decoder=ConvDecoder(multipliers=(1, 2, 4)),
    post_features=3,
)


@dataclasses.dataclass(frozen=True)
class Unquantised:
    """An autoencoder made of a tokenizer's network; the defaults are latent diffusion's VQ-f4.

    Its weights are those of a tokenizer's run: `pretrained={"autoencoder": FromRun("runs/vqgan", "tokenizer")}`.
    """

    image_shape: Shape = (256, 256, 3)
    network: Tokenizer = F4

    def __post_init__(self) -> None:
        grid_shape(self.network, self.image_shape)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """The height, width and channels of an image's vectors."""
        return *grid_shape(self.network, self.image_shape), self.network.code_dim

    def init_autoencoder(self, key: PRNGKey) -> Variables:
        """Makes fresh weights of the network that encodes and decodes."""
        return self.network.init(key, jnp.zeros((1, *self.image_shape)))

    def encode(self, nets: Nets, image: Image) -> Moments:
        """Returns the vectors of images in [-1, 1], with deviations of 0: [B *image_shape] -> [B *latent_shape]."""
        vectors = self.network.apply(nets["autoencoder"], image, method="vectors")
        vectors = vectors.astype(jnp.float32)
        return Moments(vectors, jnp.zeros_like(vectors))

    def decode(self, nets: Nets, latents: Float[Array, "b hh ww d"]) -> Image:
        """Quantises vectors and turns them into images in [-1, 1]: [B *latent_shape] -> [B *image_shape]."""

        def decode(network: Tokenizer) -> Float[Array, "b h w c"]:
            return network.decode_vectors(network.quantiser(latents).vectors, self.image_shape[-1])

        return jnp.clip(self.network.apply(nets["autoencoder"], method=decode), -1.0, 1.0)
