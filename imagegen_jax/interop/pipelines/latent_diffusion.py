"""Latent diffusion without a text (Rombach et al. 2022, arXiv 2112.10752), a `UNet2DModel` and a `VQModel`."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any

from imagegen_jax.autoencoders.first_stages.unquantised import Unquantised
from imagegen_jax.autoencoders.quantise import Codebook
from imagegen_jax.autoencoders.tokenizer import Tokenizer
from imagegen_jax.core.arrays.space import Latents
from imagegen_jax.core.config.bounds import Range
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.interop.diffusers_config import Channels, check_class
from imagegen_jax.interop.diffusers_unets import adm_of
from imagegen_jax.interop.importing import Published
from imagegen_jax.interop.names import autoencoders, unets
from imagegen_jax.interop.pipelines.networks import AUTOENCODER, coders_of, image_shape_of
from imagegen_jax.interop.pipelines.parts import Part, config_of, latent_sampling, published
from imagegen_jax.interop.settings import Config, Settings, complete

VQ: Settings = AUTOENCODER | {
    "latent_channels": (3, Channels),
    "lookup_from_codebook": (False, (False,)),
    "norm_type": ("group", ("group",)),
    "num_vq_embeddings": (256, Annotated[int, Range(1, 1 << 20)]),
    "vq_embed_dim": (None, Channels | None),
}


def read(folder: pathlib.Path, index: Config) -> Published:
    """Reads a folder.

    Raises ValueError, which names value, place and remedy, for parts that are missing, not whole or not supported.
    """
    configs = {part: config_of(folder, part) for part in ("unet", "vqvae", "scheduler")}
    network, latent_shape = adm_of(*configs["unet"])
    autoencoder, stage = vq_of(configs["vqvae"][0], latent_shape, configs["vqvae"][1])
    model = Diffusion(
        network=network,
        image_shape=latent_shape,
        space=Latents(stage["scaling_factor"], 0.0, autoencoder),
        **latent_sampling(*configs["scheduler"]),
    )
    parts = {
        "unet": Part("network", unets.adm(len(network.multipliers))),
        "vqvae": Part("autoencoder", autoencoders.autoencoder(len(stage["block_out_channels"]))),
    }
    return published(folder, model, configs, parts)


def vq_of(config: Config, latent_shape: tuple[int, int, int], place: str) -> tuple[Unquantised, dict[str, Any]]:
    """Makes the autoencoder of a `VQModel` for latents of a shape, and returns its settings too.

    Raises ValueError where an `Unquantised` cannot be that one.
    """
    check_class(config, ("VQModel",), place)
    found = complete(config, VQ, place)
    features = found["latent_channels"]
    encoder, decoder = coders_of(found, features, place)
    codes = Codebook(found["num_vq_embeddings"], found["vq_embed_dim"] or features, swapped=True)
    network = Tokenizer(encoder, codes, decoder, post_features=features)
    return Unquantised(image_shape_of(found, encoder, latent_shape, place), network), found
