"""TAESD (Bohan 2023, github.com/madebyollin/taesd): a small autoencoder of another one's latents, for previews."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagegen_jax.autoencoders.tokenizer import divided
from imagegen_jax.core.capabilities import Moments
from imagegen_jax.core.config.bounds import Shape
from imagegen_jax.core.model import Batch, Image, Nets, Phase, PRNGKey, Variables, check_images
from imagegen_jax.nn.backbones.tiny_autoencoder import TinyDecoder, TinyEncoder

LatentGrid = Float[Array, "b hh ww d"]


class TinyNetwork(nn.Module):
    """Encoder and decoder."""

    encoder: TinyEncoder = TinyEncoder()
    decoder: TinyDecoder = TinyDecoder()

    def __call__(self, x: Image) -> Float[Array, "b h w c"]:
        """Reconstructs images: [B H W C] -> [B H W C], not clipped"""
        return self.decode(self.encode(x), x.shape[-1])

    def encode(self, x: Image) -> LatentGrid:
        """Encodes images: [B H W C] -> [B H/factor W/factor D]"""
        return self.encoder(x)

    def decode(self, z: LatentGrid, channels: int) -> Float[Array, "b h w c"]:
        """Decodes latents: [B H/factor W/factor D] -> [B H W channels], not clipped"""
        return self.decoder(z, channels)


@dataclasses.dataclass(frozen=True)
class TinyAutoencoder:
    """A small autoencoder, whose latents are the large one's times the latter's scale; the defaults are TAESD's.

    In a space whose scale is 1 it decodes what models of Stable Diffusion's latents denoise: a trained run draws
    previews by `Latents(1.0, autoencoder=TinyAutoencoder())`. Nothing here trains it: its runs are imported ones, and
    draw reconstructions.
    """

    image_shape: Shape = (512, 512, 3)
    network: TinyNetwork = TinyNetwork()

    def __post_init__(self) -> None:
        divided(self.image_shape, self.network.encoder.factor)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """The height, width and channels of an image's latents."""
        return *divided(self.image_shape, self.network.encoder.factor), self.network.encoder.features

    @property
    def condition_rows(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns what images are made from: others."""
        return {"image": jax.ShapeDtypeStruct(self.image_shape, np.uint8)}

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the network. Raises ValueError where the images have another shape."""
        check_images(self, batch)
        return {"autoencoder": self.init_autoencoder(key)}

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns none."""
        return ()

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Reconstructs the `n` images `conditions["image"]`, in [-1, 1]."""
        return self.decode(nets, self.encode(nets, conditions["image"]).mean)

    def init_autoencoder(self, key: PRNGKey) -> Variables:
        """Makes fresh weights of the network that encodes and decodes."""
        return self.network.init(key, jnp.zeros((1, *self.image_shape)))

    def encode(self, nets: Nets, image: Image) -> Moments:
        """Returns the latents of images in [-1, 1], with deviations of 0: [B *image_shape] -> [B *latent_shape]."""
        latents = self.network.apply(nets["autoencoder"], image, method="encode")
        return Moments(latents, jnp.zeros_like(latents))

    def decode(self, nets: Nets, latents: LatentGrid) -> Image:
        """Turns latents into images in [-1, 1]: [B *latent_shape] -> [B *image_shape]."""
        found = self.network.apply(nets["autoencoder"], latents, self.image_shape[-1], method="decode")
        return jnp.clip(found, -1.0, 1.0)
