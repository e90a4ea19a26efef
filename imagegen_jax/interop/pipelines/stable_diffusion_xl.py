"""Stable Diffusion XL (Podell et al. 2023, arXiv 2307.01952) as diffusers saves it: a `Diffusion` by two encoders."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from imagegen_jax.core.arrays.space import Latents
from imagegen_jax.core.arrays.texts import EmptyText, Tokenizer
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.interop.importing import Published
from imagegen_jax.interop.names import autoencoders, text_encoders, unets
from imagegen_jax.interop.pipelines.networks import SDXL_UNET, clip_of, kl_of, latent_unet_of
from imagegen_jax.interop.pipelines.parts import ENCODER, Part, config_of, latent_sampling, published
from imagegen_jax.interop.pipelines.stable_diffusion import DROPPED, tokenizer_of
from imagegen_jax.interop.settings import Config
from imagegen_jax.nn.backbones.latent_unet import SIZE_FREQUENCIES
from imagegen_jax.nn.text_encoders.joined import JoinedText
from imagegen_jax.text.settings import JoinedTokenizers

ENCODERS = ("text_encoder", "text_encoder_2")
LEFT_TO_ZEROS = "force_zeros_for_empty_prompt"  # what a text that is not given becomes; the default of the pipeline


def read(folder: pathlib.Path, index: Config) -> Published:
    """Reads a folder. Raises what `stable_diffusion.read` raises."""
    configs = {part: config_of(folder, part) for part in ("unet", "vae", *ENCODERS, "scheduler")}
    tokenizer = JoinedTokenizers(
        tuple(
            tokenizer_of(folder, clip_of(*configs[part]).context, part.replace("text_encoder", "tokenizer"))
            for part in ENCODERS
        )
    )
    model = model_of(configs, tokenizer.open(()), index)
    return published(folder, model, configs, parts_of(model), tokenizer)


def model_of(configs: Mapping[str, tuple[Config, str]], tokenizer: Tokenizer, index: Config) -> Diffusion:
    """Makes the model of the configurations, each with its place, and of the pipeline's own, `index`.

    Raises ValueError as `read` does.
    """
    network, latent_shape, unet = latent_unet_of(*configs["unet"], SDXL_UNET)
    autoencoder, stage = kl_of(configs["vae"][0], latent_shape, configs["vae"][1])
    clips = tuple(
        clip_of(*configs[part], projected=part == ENCODERS[1], layer="penultimate", last_norm=False)
        for part in ENCODERS
    )
    wanted = {
        "cross_attention_dim": sum(clip.width for clip in clips),
        "projection_class_embeddings_input_dim": 6 * SIZE_FREQUENCIES + (clips[1].projection or 0),
    }
    for name, value in wanted.items():
        if unet[name] != value:
            raise ValueError(
                f"{configs['unet'][1]}: {name}={unet[name]}, but the two text encoders make that {value}: these are "
                "not of one pipeline; fetch them again"
            )
    return Diffusion(
        network=network,
        image_shape=latent_shape,
        space=Latents(stage["scaling_factor"], stage["shift_factor"] or 0.0, autoencoder),
        text=JoinedText(clips),
        train_text=False,
        token_dropout=DROPPED,
        empty_text=None if index.get(LEFT_TO_ZEROS, True) else EmptyText.of(tokenizer),
        **latent_sampling(*configs["scheduler"]),
    )


def parts_of(model: Any) -> dict[str, Part]:
    """Returns the networks of a pipeline of such a model, by their folders."""
    stages = len(model.space.autoencoder.network.encoder.multipliers)
    return {
        "unet": Part("network", unets.latent_unet(len(model.network.multipliers))),
        "vae": Part("autoencoder", autoencoders.autoencoder(stages)),
        **{part: Part(f"text/encoders_{i}", text_encoders.CLIP, ENCODER) for i, part in enumerate(ENCODERS)},
    }
