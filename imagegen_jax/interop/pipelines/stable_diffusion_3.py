"""Stable Diffusion 3 (Esser et al. 2024, arXiv 2403.03206) as diffusers saves it: a flow by three encoders of a text.

The third of them, T5, may be left out: its tokens are then zeros.
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
from imagegen_jax.interop.pipelines.networks import clip_of, kl_of
from imagegen_jax.interop.pipelines.parts import ENCODER, Part, config_of, latent_sampling, published
from imagegen_jax.interop.pipelines.stable_diffusion import DROPPED, tokenizer_of
from imagegen_jax.interop.pipelines.transformers import mmdit_of, t5_of
from imagegen_jax.interop.settings import Config
from imagegen_jax.nn.text_encoders.joined import JoinedText
from imagegen_jax.text.settings import AnyTokenizer, JoinedTokenizers, T5Tokenizer

CLIPS = ("text_encoder", "text_encoder_2")
T5 = "text_encoder_3"
T5_CONTEXT = 256  # of its rows of tokens, also where they are zeros: in no file


def read(folder: pathlib.Path, index: Config) -> Published:
    """Reads a folder. Raises what `stable_diffusion.read` raises, and with T5 ImportError without sentencepiece."""
    texts = (*CLIPS, T5) if any(index.get(T5) or ()) else CLIPS
    configs = {part: config_of(folder, part) for part in ("transformer", "vae", *texts, "scheduler")}
    tokenizers: list[AnyTokenizer] = [
        tokenizer_of(folder, clip_of(*configs[part]).context, f"tokenizer{end}")
        for part, end in zip(CLIPS, ("", "_2"), strict=True)
    ]
    tokenizers += [T5Tokenizer(str(folder / "tokenizer_3"), T5_CONTEXT)] if T5 in texts else []
    tokenizer = JoinedTokenizers(tuple(tokenizers))
    model = model_of(configs, tokenizer.open(()), index)
    return published(folder, model, configs, parts_of(model), tokenizer)


def model_of(configs: Mapping[str, tuple[Config, str]], tokenizer: Tokenizer, index: Config) -> Diffusion:
    """Makes the model of the configurations, each with its place; T5 is there where they have it.

    Raises ValueError as `read` does.
    """
    network, latent_shape, found = mmdit_of(*configs["transformer"])
    autoencoder, stage = kl_of(configs["vae"][0], latent_shape, configs["vae"][1])
    return Diffusion(
        network=network,
        image_shape=latent_shape,
        space=Latents(stage["scaling_factor"], stage["shift_factor"] or 0.0, autoencoder),
        text=_encoders(configs, found),
        train_text=False,
        token_dropout=DROPPED,
        empty_text=EmptyText.of(tokenizer),
        **latent_sampling(*configs["scheduler"]),
    )


def parts_of(model: Any) -> dict[str, Part]:
    """Returns the networks of a pipeline of such a model, by their folders."""
    network, stages = model.network, len(model.space.autoencoder.network.encoder.multipliers)
    return {
        "transformer": Part("network", transformers.mmdit(network.depth, network.patch)),
        "vae": Part("autoencoder", autoencoders.autoencoder(stages)),
        **{part: Part(f"text/encoders_{i}", text_encoders.CLIP, ENCODER) for i, part in enumerate(CLIPS)},
        **({T5: Part("text/after", text_encoders.T5, ENCODER)} if model.text.after else {}),
    }


def _encoders(configs: Mapping[str, tuple[Config, str]], found: Mapping[str, Any]) -> JoinedText:
    """Makes the encoders for a transformer's settings. Raises ValueError where these do not go together."""
    clips = tuple(clip_of(*configs[part], projected=True, layer="penultimate", last_norm=False) for part in CLIPS)
    t5 = t5_of(*configs[T5], context=T5_CONTEXT, masked=False) if T5 in configs else None
    width, beside = found["joint_attention_dim"], sum(clip.width for clip in clips)
    pooled = sum(clip.projection or 0 for clip in clips)
    faults = {
        f"joint_attention_dim={width}, but the first two encoders make tokens of {beside} features": beside > width,
        f"joint_attention_dim={width}, but {T5} makes tokens of {t5 and t5.width} features": t5 and t5.width != width,
        f"pooled_projection_dim={found['pooled_projection_dim']}, but the first two encoders have {pooled} features":
            pooled != found["pooled_projection_dim"],
    }  # fmt: skip
    if said := next((said for said, wrong in faults.items() if wrong), None):
        raise ValueError(f"{configs['transformer'][1]}: {said}: these are not of one pipeline; fetch them again")
    return JoinedText(clips, t5, 0 if t5 else T5_CONTEXT, width, "all")
