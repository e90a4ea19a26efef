"""Stable Diffusion 1 and 2 (Rombach et al. 2022, arXiv 2112.10752) as diffusers saves them: a `Diffusion` by a text."""

from __future__ import annotations

import pathlib
from typing import Any

from imagegen_jax.core.arrays.space import Latents
from imagegen_jax.core.arrays.texts import EmptyText
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.interop.diffusers_config import check_groups
from imagegen_jax.interop.importing import Published, shapes_of
from imagegen_jax.interop.names import autoencoders, text_encoders, unets
from imagegen_jax.interop.pipelines.networks import clip_of, kl_of, latent_unet_of
from imagegen_jax.interop.pipelines.parts import ENCODER, NETWORK, config_of, filled, latent_sampling, weights_in
from imagegen_jax.interop.settings import Config, read_config, short
from imagegen_jax.text.byte_pairs import END
from imagegen_jax.text.settings import CLIPTokenizer

DROPPED = 0.1  # the share of texts that training dropped, of all published versions that can be guided
PARTS = {  # of a folder -> the network here, and how its file of weights begins
    "unet": ("network", NETWORK),
    "vae": ("autoencoder", NETWORK),
    "text_encoder": ("text", ENCODER),
}


def read(folder: pathlib.Path) -> Published:
    """Reads a folder, all but the classifier that hides images.

    Raises ValueError, which names value, place and remedy, for parts that are missing, not whole or not supported, and
    FileNotFoundError without the tokenizer's files.
    """
    configs = {part: config_of(folder, part) for part in (*PARTS, "scheduler")}
    model, tokenizer, groups = model_of(folder, configs)
    shapes = shapes_of(model)
    for part, count in groups.items():
        check_groups(shapes[PARTS[part][0]]["params"], count, configs[part][1])
    rules = {
        "unet": unets.latent_unet(len(model.network.multipliers)),
        "vae": autoencoders.autoencoder(len(model.space.autoencoder.network.encoder.multipliers)),
        "text_encoder": text_encoders.CLIP,
    }
    nets, files = {}, {}
    for part, (name, begins) in PARTS.items():
        nets[name], found = filled(weights_in(folder / part, begins), shapes[name], rules[part])
        files |= found
    origin = {"sha256": files, **{part: config for part, (config, _) in configs.items()}}
    return Published(model, nets, origin, tokenizer=tokenizer)


def model_of(folder: pathlib.Path, configs: dict[str, tuple[Config, str]]) -> tuple[Any, CLIPTokenizer, dict[str, int]]:
    """Makes the model of a folder's configurations, its tokenizer, and the groups of norms that its networks have."""
    network, latent_shape, unet = latent_unet_of(*configs["unet"])
    vae, vae_place = configs["vae"]
    autoencoder, stage = kl_of(vae, latent_shape, vae_place)
    text = clip_of(*configs["text_encoder"])
    if unet["cross_attention_dim"] != text.width:
        raise ValueError(
            f"{configs['unet'][1]}: cross_attention_dim={unet['cross_attention_dim']}, but the text encoder's "
            f"hidden_size={text.width}: these two are not of one pipeline; fetch both again"
        )
    tokenizer = tokenizer_of(folder, text.context)
    model = Diffusion(
        network=network,
        image_shape=latent_shape,
        space=Latents(stage["scaling_factor"], stage["shift_factor"] or 0.0, autoencoder),
        text=text,
        train_text=False,
        token_dropout=DROPPED,
        empty_text=EmptyText.of(tokenizer.open(())),
        **latent_sampling(*configs["scheduler"]),
    )
    return model, tokenizer, {"unet": unet["norm_num_groups"], "vae": stage["norm_num_groups"]}


def tokenizer_of(folder: pathlib.Path, context: int) -> CLIPTokenizer:
    """Returns the settings of the folder's tokenizer, whose padding its own files name."""
    found: dict[str, Any] = {}
    for place in (folder / "tokenizer" / name for name in ("tokenizer_config.json", "special_tokens_map.json")):
        found |= read_config(place) if place.is_file() else {}
    padding = found.get("pad_token") or END
    padding = padding.get("content") if isinstance(padding, dict) else padding
    if not isinstance(padding, str):
        raise ValueError(f"{folder / 'tokenizer'}: pad_token={short(padding)}: must be a text; fetch its files again")
    length = found.get("model_max_length", context)
    if length != context:
        raise ValueError(
            f"{folder / 'tokenizer'}: model_max_length={short(length)}, but the text encoder reads rows of {context}: "
            "these two are not of one pipeline; fetch both again"
        )
    return CLIPTokenizer(str(folder / "tokenizer"), context, padding)
