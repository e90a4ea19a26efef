"""Stable Diffusion 1 and 2 (Rombach et al. 2022, arXiv 2112.10752) as diffusers saves them: a `Diffusion` by a text."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from imagegen_jax.core.arrays.space import Latents
from imagegen_jax.core.arrays.texts import EmptyText, Tokenizer
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.interop.importing import Published
from imagegen_jax.interop.names import autoencoders, text_encoders, unets
from imagegen_jax.interop.pipelines.networks import clip_of, kl_of, latent_unet_of
from imagegen_jax.interop.pipelines.parts import ENCODER, Part, config_of, latent_sampling, published
from imagegen_jax.interop.settings import Config, read_config, short
from imagegen_jax.text.byte_pairs import END
from imagegen_jax.text.settings import CLIPTokenizer

DROPPED = 0.1  # the share of texts that training dropped, of all published versions that can be guided


def read(folder: pathlib.Path, index: Config) -> Published:
    """Reads a folder, all but the classifier that hides images.

    Raises ValueError, which names value, place and remedy, for parts that are missing, not whole or not supported, and
    FileNotFoundError without the tokenizer's files.
    """
    configs = {part: config_of(folder, part) for part in ("unet", "vae", "text_encoder", "scheduler")}
    tokenizer = tokenizer_of(folder, clip_of(*configs["text_encoder"]).context)
    model = model_of(configs, tokenizer.open(()), index)
    return published(folder, model, configs, parts_of(model), tokenizer)


def model_of(configs: Mapping[str, tuple[Config, str]], tokenizer: Tokenizer, index: Config) -> Diffusion:
    """Makes the model of the configurations, each with its place, of U-Net, autoencoder, text encoder and scheduler.

    Raises ValueError as `read` does.
    """
    network, latent_shape, unet = latent_unet_of(*configs["unet"])
    autoencoder, stage = kl_of(configs["vae"][0], latent_shape, configs["vae"][1])
    text = clip_of(*configs["text_encoder"])
    if unet["cross_attention_dim"] != text.width:
        raise ValueError(
            f"{configs['unet'][1]}: cross_attention_dim={unet['cross_attention_dim']}, but the text encoder's "
            f"hidden_size={text.width}: these two are not of one pipeline; fetch both again"
        )
    return Diffusion(
        network=network,
        image_shape=latent_shape,
        space=Latents(stage["scaling_factor"], stage["shift_factor"] or 0.0, autoencoder),
        text=text,
        train_text=False,
        token_dropout=DROPPED,
        empty_text=EmptyText.of(tokenizer),
        **latent_sampling(*configs["scheduler"]),
    )


def parts_of(model: Any) -> dict[str, Part]:
    """Returns the networks of a pipeline of such a model, by their folders."""
    levels, stages = len(model.network.multipliers), len(model.space.autoencoder.network.encoder.multipliers)
    return {
        "unet": Part("network", unets.latent_unet(levels)),
        "vae": Part("autoencoder", autoencoders.autoencoder(stages)),
        "text_encoder": Part("text", text_encoders.CLIP, ENCODER),
    }


def tokenizer_of(folder: pathlib.Path, context: int, part: str = "tokenizer") -> CLIPTokenizer:
    """Returns the settings of a tokenizer of the folder, whose padding its own files name."""
    found: dict[str, Any] = {}
    for place in (folder / part / name for name in ("tokenizer_config.json", "special_tokens_map.json")):
        found |= read_config(place) if place.is_file() else {}
    padding = found.get("pad_token") or END
    padding = padding.get("content") if isinstance(padding, dict) else padding
    if not isinstance(padding, str):
        raise ValueError(f"{folder / part}: pad_token={short(padding)}: must be a text; fetch its files again")
    length = found.get("model_max_length", context)
    if length != context:
        raise ValueError(
            f"{folder / part}: model_max_length={short(length)}, but the text encoder reads rows of {context}: "
            "these two are not of one pipeline; fetch both again"
        )
    return CLIPTokenizer(str(folder / part), context, padding)
