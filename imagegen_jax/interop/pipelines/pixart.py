"""PixArt-alpha (Chen et al. 2023, arXiv 2310.00426) as diffusers saves it: a `Diffusion` by a text that T5 reads.

The pipeline puts texts into small letters. What else it can clean off them, such as addresses of web pages, stays.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from imagegen_jax.core.arrays.space import Latents
from imagegen_jax.core.arrays.texts import EmptyText, Tokenizer
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.interop.importing import Published
from imagegen_jax.interop.names import autoencoders, text_encoders, transformers
from imagegen_jax.interop.pipelines.networks import kl_of
from imagegen_jax.interop.pipelines.parts import ENCODER, Part, config_of, latent_sampling, published
from imagegen_jax.interop.pipelines.transformers import pixart_of, t5_of
from imagegen_jax.interop.settings import Config
from imagegen_jax.text.settings import T5Tokenizer

DROPPED = 0.1  # the share of texts that training dropped
CONTEXT = 120  # of its rows of tokens: in no file


def read(folder: pathlib.Path, index: Config) -> Published:
    """Reads a folder. Raises what `stable_diffusion.read` raises, and ImportError without sentencepiece."""
    configs = {part: config_of(folder, part) for part in ("transformer", "vae", "text_encoder", "scheduler")}
    tokenizer = T5Tokenizer(str(folder / "tokenizer"), CONTEXT, lower=True)
    model = model_of(configs, tokenizer.open(()), index)
    return published(folder, model, configs, parts_of(model), tokenizer)


def model_of(configs: Mapping[str, tuple[Config, str]], tokenizer: Tokenizer, index: Config) -> Diffusion:
    """Makes the model of the configurations, each with its place. Raises ValueError as `read` does."""
    network, latent_shape, found = pixart_of(*configs["transformer"])
    autoencoder, stage = kl_of(configs["vae"][0], latent_shape, configs["vae"][1])
    text = t5_of(*configs["text_encoder"], context=CONTEXT)
    if found["caption_channels"] != text.width:
        raise ValueError(
            f"{configs['transformer'][1]}: caption_channels={found['caption_channels']}, but the text encoder's "
            f"d_model={text.width}: these two are not of one pipeline; fetch both again"
        )
    return Diffusion(
        network=network,
        image_shape=latent_shape,
        space=Latents(stage["scaling_factor"], 0.0, autoencoder),
        text=text,
        train_text=False,
        token_dropout=DROPPED,
        empty_text=EmptyText.of(tokenizer),
        unused_variance=network.out_channels is not None,
        **latent_sampling(*configs["scheduler"]),
    )


def parts_of(model: Any) -> dict[str, Part]:
    """Returns the networks of a pipeline of such a model, by their folders."""
    stages = len(model.space.autoencoder.network.encoder.multipliers)
    return {
        "transformer": Part("network", transformers.pixart(model.network.patch)),
        "vae": Part("autoencoder", autoencoders.autoencoder(stages)),
        "text_encoder": Part("text", text_encoders.T5, ENCODER),
    }
