"""A model of Stable Diffusion's design, of texts in the latents of an autoencoder, as a pipeline of diffusers."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from imagegen_jax.autoencoders.kl import AutoencoderKL
from imagegen_jax.core.arrays.space import Latents, space_of
from imagegen_jax.core.run import Run
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.interop.diffusers_config import check_groups
from imagegen_jax.interop.exports.diffusers import REMEDY, VERSION, scheduler_of, supported
from imagegen_jax.interop.name_map import as_published
from imagegen_jax.interop.pipelines.networks import CLIP, KL, LATENT_UNET
from imagegen_jax.interop.pipelines.stable_diffusion import model_of, parts_of
from imagegen_jax.interop.settings import Config
from imagegen_jax.nn.backbones.autoencoder import ConvEncoder
from imagegen_jax.nn.backbones.latent_unet import LatentUNet
from imagegen_jax.nn.norm import group_norm
from imagegen_jax.nn.text_encoders.clip import CLIPText
from imagegen_jax.text.byte_pairs import END, START, BytePairs

NOT_DRAWING = (  # fields that are of training, or that a pipeline is told when it is called
    "times", "weighting", "coupling", "levels", "solver", "label_dropout", "guidance", "sigma_data", "augment",
    "uncertainty", "token_dropout", "source_dropout", "train_text",
)  # fmt: skip
_NONE = [None, None]


def export_stable_diffusion(run: Run, folder: pathlib.Path) -> None:
    """Writes model_index.json and a folder each of U-Net, autoencoder, text encoder, tokenizer and scheduler.

    Raises ValueError, before anything is written, for a model or a tokenizer that the pipeline does not have.
    """
    from safetensors.numpy import save_file

    model, tokenizer = run.experiment.model, run.tokenizer
    if not isinstance(tokenizer, BytePairs) or tokenizer.entities or tokenizer.ftfy:
        raise ValueError(
            f"the run's tokenizer, {type(tokenizer).__name__}, is not CLIP's as transformers has it, without entities "
            f"and ftfy, which is the only one of a StableDiffusionPipeline: {REMEDY}"
        )
    configs = configurations(model, tokenizer)
    tensors = {}
    for part, (name, rules, begins) in parts_of(model).items():
        params = run.nets[name]["params"]
        tensors[f"{part}/{begins[0]}.safetensors"] = as_published(params, rules)
        if groups := configs[part].get("norm_num_groups"):
            _checked(check_groups, params, groups, part)
    for part in (*configs, "tokenizer"):
        (folder / part).mkdir()
    for place, arrays in tensors.items():
        save_file(arrays, folder / place, {"format": "pt"})
    for name, content in tokenizer.files().items():
        (folder / "tokenizer" / name).write_bytes(content)
    files = {f"{part}/{'scheduler_' * (part == 'scheduler')}config.json": config for part, config in configs.items()}
    files["tokenizer/tokenizer_config.json"] = tokenizer_of(tokenizer)
    files["model_index.json"] = _index(configs["scheduler"]["_class_name"])
    for name, config in files.items():
        (folder / name).write_text(json.dumps(config, indent=2) + "\n")


def configurations(model: Any, tokenizer: BytePairs) -> dict[str, Config]:
    """Returns the configuration of each part of a model's pipeline, such that their import is that model.

    Raises ValueError, which names the settings, for a model that cannot be such a pipeline.
    """
    space = space_of(model)
    if (
        not isinstance(model, Diffusion)
        or not isinstance(model.network, LatentUNet)
        or not isinstance(model.text, CLIPText)
        or not isinstance(space, Latents)
        or not isinstance(space.autoencoder, AutoencoderKL)
        or not isinstance(space.autoencoder.network.encoder, ConvEncoder)
    ):
        raise ValueError(
            f"a {type(model).__name__} of this network, text encoder and space is no StableDiffusionPipeline, which "
            f"has a LatentUNet, a CLIPText and an AutoencoderKL with ConvEncoder and ConvDecoder: {REMEDY}"
        )
    if not isinstance(space.scale, float | int):
        raise ValueError(f"space.scale={space.scale}: a StableDiffusionPipeline has one number for all: {REMEDY}")
    found: dict[str, Config] = {
        "unet": unet_of(model.network, model.image_shape, model.text.width),
        "vae": vae_of(space.autoencoder, space.scale),
        "text_encoder": clip_text_of(model.text, tokenizer),
        "scheduler": scheduler_of(model),
    }
    again = _checked(model_of, {part: (config, part) for part, config in found.items()}, tokenizer)
    if faults := list(_differences(_as_drawn(model, again), again, "")):
        raise ValueError(f"a StableDiffusionPipeline cannot have {'; '.join(faults[:3])}: {REMEDY}")
    return found


def unet_of(network: LatentUNet, latent_shape: tuple[int, int, int], text_width: int) -> dict[str, Any]:
    """Returns the configuration of a U-Net that sees texts of so many features; its projections are linear layers."""
    height, width, channels = latent_shape
    widths = [network.width * multiplier for multiplier in network.multipliers]
    attends = ["CrossAttn" * (depth > 0) for depth in network.depths]
    deepest = next((depth for depth in network.depths[::-1] if depth), 1)
    heads = network.head_channels
    given = {
        "attention_head_dim": [c // heads for c in widths] if heads else network.heads,
        "block_out_channels": widths,
        "cross_attention_dim": text_width,
        "down_block_types": [f"{word}DownBlock2D" for word in attends],
        "dropout": network.dropout,
        "in_channels": channels,
        "layers_per_block": network.blocks,
        "norm_num_groups": _groups(network.width),
        "out_channels": channels,
        "sample_size": height if height == width else [height, width],
        "transformer_layers_per_block": [depth or deepest for depth in network.depths],
        "up_block_types": [f"{word}UpBlock2D" for word in reversed(attends)],
        "use_linear_projection": True,
    }
    return {"_class_name": "UNet2DConditionModel", "_diffusers_version": VERSION, **supported(LATENT_UNET), **given}


def vae_of(autoencoder: AutoencoderKL, scale: float) -> dict[str, Any]:
    """Returns the configuration of an autoencoder whose latents are multiplied by `scale`."""
    network, (height, width, channels) = autoencoder.network, autoencoder.image_shape
    encoder: Any = network.encoder
    levels = len(encoder.multipliers)
    given = {
        "block_out_channels": [encoder.width * multiplier for multiplier in encoder.multipliers],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "in_channels": channels,
        "latent_channels": network.latent_channels,
        "layers_per_block": encoder.blocks,
        "mid_block_add_attention": encoder.middle_attention,
        "norm_num_groups": _groups(encoder.width),
        "out_channels": channels,
        "sample_size": height if height == width else [height, width],
        "scaling_factor": float(scale),
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "use_post_quant_conv": network.pointwise,
        "use_quant_conv": network.pointwise,
    }
    return {"_class_name": "AutoencoderKL", "_diffusers_version": VERSION, **supported(KL), **given}


def clip_text_of(text: CLIPText, tokenizer: BytePairs) -> dict[str, Any]:
    """Returns the configuration of a text encoder."""
    given = {
        "bos_token_id": tokenizer.vocabulary[START],
        "eos_token_id": tokenizer.vocabulary[END],
        "hidden_act": text.activation,
        "hidden_size": text.width,
        "intermediate_size": text.expansion * text.width,
        "max_position_embeddings": text.context,
        "num_attention_heads": text.heads,
        "num_hidden_layers": text.depth,
        "pad_token_id": tokenizer.vocabulary[tokenizer.padding],
        "projection_dim": text.width,
        "vocab_size": text.vocabulary_size,
    }
    return {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", **supported(CLIP), **given}


def tokenizer_of(tokenizer: BytePairs) -> dict[str, Any]:
    """Returns the settings of a tokenizer."""
    named = {"bos_token": START, "eos_token": END, "pad_token": tokenizer.padding, "unk_token": END}
    return {"tokenizer_class": "CLIPTokenizer", "model_max_length": tokenizer.context, "do_lower_case": True, **named}


def _index(scheduler: str) -> Config:
    return {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": VERSION,
        "feature_extractor": _NONE,
        "image_encoder": _NONE,
        "requires_safety_checker": False,
        "safety_checker": _NONE,
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def _groups(channels: int) -> int:
    return int(group_norm(channels, np.dtype(np.float32), "norm").num_groups)


def _checked(read: Any, *given: Any) -> Any:
    """Returns what `read` makes of what would be written. Raises ValueError where it refuses that."""
    try:
        return read(*given)
    except ValueError as error:
        raise ValueError(f"no StableDiffusionPipeline has these settings ({error}): {REMEDY}") from error


def _differences(ours: Any, there: Any, place: str) -> Iterator[str]:
    """Names the settings that differ, with both values."""
    if type(ours) is not type(there) or not dataclasses.is_dataclass(ours):
        if ours != there:
            yield f"{place}={ours!r} (but {there!r})"
        return
    for field in dataclasses.fields(ours):
        if field.name not in ("parent", "name"):  # of a linen module, which are no settings
            inside = f"{place}{'.' * bool(place)}{field.name}"
            yield from _differences(getattr(ours, field.name), getattr(there, field.name), inside)


def _as_drawn(ours: Diffusion, again: Diffusion) -> Diffusion:
    """Returns the model with the other's training, sampling and arithmetic: what is left decides on its images."""
    space: Any = ours.space
    there: Any = again.space
    other: Any = again.network
    network: Any = _as_computed(ours.network, other, "attention", "dtype", "dropout")
    if network.head_channels:
        network = network.clone(heads=other.heads)
    coders = {
        half: _as_computed(getattr(space.autoencoder.network, half), getattr(there.autoencoder.network, half))
        for half in ("encoder", "decoder")
    }
    stage = space.autoencoder.network.clone(dtype=there.autoencoder.network.dtype, **coders)
    autoencoder = dataclasses.replace(there.autoencoder, network=stage, image_shape=space.autoencoder.image_shape)
    return dataclasses.replace(
        ours,
        network=network,
        space=dataclasses.replace(space, autoencoder=autoencoder, decoding=there.decoding),
        text=_as_computed(ours.text, again.text, "dtype"),
        **{name: getattr(again, name) for name in NOT_DRAWING},
    )


def _as_computed(ours: Any, again: Any, *names: str) -> Any:
    """Returns a network that computes as another does, where it is of the same kind."""
    same = {name: getattr(again, name) for name in names or ("attention", "dtype")}
    return ours.clone(**same) if type(ours) is type(again) else ours
