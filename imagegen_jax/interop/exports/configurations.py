"""Networks and tokenizers as the configurations of diffusers and transformers: the way back from `interop.pipelines`.

A setting that has one supported value alone is written with it; whether a network is that one, whoever writes the
files asks by reading them again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from imagegen_jax.autoencoders.kl import AutoencoderKL
from imagegen_jax.interop.exports.diffusers import VERSION, supported
from imagegen_jax.interop.pipelines.networks import CLIP, KL, LATENT_UNET, SDXL_UNET
from imagegen_jax.interop.pipelines.transformers import MMDIT, PIXART, T5
from imagegen_jax.interop.settings import Settings
from imagegen_jax.nn.backbones.latent_unet import SIZE_FREQUENCIES, LatentUNet
from imagegen_jax.nn.backbones.transformers.mmdit import MMDiT
from imagegen_jax.nn.backbones.transformers.pixart import PixArt
from imagegen_jax.nn.norm import group_norm
from imagegen_jax.nn.text_encoders.clip import CLIPText
from imagegen_jax.nn.text_encoders.t5 import T5Encoder
from imagegen_jax.text.byte_pairs import END, START, BytePairs
from imagegen_jax.text.sentence_pieces import SentencePieces

Shape = tuple[int, int, int]

_OLD = (  # settings of PixArt's networks in files of the class that had others, too
    "double_self_attention", "num_vector_embeds", "only_cross_attention", "use_linear_projection",
)  # fmt: skip


def unet_of(
    network: LatentUNet, latent_shape: Shape, text_width: int, pooled_width: int | None = None
) -> dict[str, Any]:
    """Returns the configuration of a U-Net that sees texts of so many features; its projections are linear layers.

    With `pooled_width` it is SDXL's, which is told the whole text, of so many features, and the picture's sizes.
    """
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
    if pooled_width is None:
        return _network("UNet2DConditionModel", LATENT_UNET, given)
    told = {"projection_class_embeddings_input_dim": 6 * SIZE_FREQUENCIES + pooled_width}
    return _network("UNet2DConditionModel", SDXL_UNET, given | told)


def pixart_of(network: PixArt, latent_shape: Shape, text_width: int) -> dict[str, Any]:
    """Returns the configuration of a transformer that sees texts of so many features."""
    side, _, channels = latent_shape
    given = {
        **_blocks(network),
        "caption_channels": text_width,
        "cross_attention_dim": network.width,
        "in_channels": channels,
        "interpolation_scale": side / network.patch / network.extent,
        "out_channels": network.out_channels or channels,
        "sample_size": side,
        "use_additional_conditions": network.sizes,
    }
    found = _network("PixArtTransformer2DModel", PIXART, given)
    return {name: value for name, value in found.items() if name not in _OLD}


def mmdit_of(network: MMDiT, latent_shape: Shape, text_width: int, pooled_width: int) -> dict[str, Any]:
    """Returns the configuration of a transformer that sees texts of so many features, pooled ones among them."""
    side, _, channels = latent_shape
    given = {
        **_blocks(network),
        "caption_projection_dim": network.width,
        "dual_attention_layers": list(range(network.dual)),
        "in_channels": channels,
        "joint_attention_dim": text_width,
        "out_channels": channels,
        "pooled_projection_dim": pooled_width,
        "pos_embed_max_size": network.largest,
        "qk_norm": "rms_norm" if network.query_key_norm else None,
        "sample_size": side,
    }
    return _network("SD3Transformer2DModel", MMDIT, given)


def vae_of(autoencoder: AutoencoderKL, scale: float, shift: float = 0.0) -> dict[str, Any]:
    """Returns the configuration of an autoencoder whose latents are multiplied by `scale`, less `shift`."""
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
        "shift_factor": float(shift) or None,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "use_post_quant_conv": network.pointwise,
        "use_quant_conv": network.pointwise,
    }
    return _network("AutoencoderKL", KL, given)


def clip_text_of(text: CLIPText, tokenizer: BytePairs) -> dict[str, Any]:
    """Returns the configuration of an encoder of CLIP's kind, with its projection where it has one."""
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
        "projection_dim": text.projection or text.width,
        "vocab_size": text.vocabulary_size,
    }
    return {"architectures": [clip_class(text)], "model_type": "clip_text_model", **supported(CLIP), **given}


def clip_class(text: CLIPText) -> str:
    """Returns the name of the class in transformers of an encoder of CLIP's kind."""
    return "CLIPTextModelWithProjection" if text.projection else "CLIPTextModel"


def t5_of(text: T5Encoder) -> dict[str, Any]:
    """Returns the configuration of an encoder of T5's kind."""
    given = {
        "d_ff": text.hidden,
        "d_kv": text.head_channels,
        "d_model": text.width,
        "num_heads": text.heads,
        "num_layers": text.depth,
        "relative_attention_max_distance": text.max_distance,
        "relative_attention_num_buckets": text.buckets,
        "vocab_size": text.vocabulary_size,
    }
    return {"architectures": ["T5EncoderModel"], "model_type": "t5", **supported(T5), **given}


def tokenizer_of(tokenizer: BytePairs | SentencePieces) -> dict[str, Any]:
    """Returns the settings of a tokenizer of CLIP's kind or of T5's."""
    if isinstance(tokenizer, SentencePieces):
        named = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
        return {"tokenizer_class": "T5Tokenizer", "extra_ids": tokenizer.extra_ids, **named}
    named = {"bos_token": START, "eos_token": END, "pad_token": tokenizer.padding, "unk_token": END}
    return {"tokenizer_class": "CLIPTokenizer", "model_max_length": tokenizer.context, "do_lower_case": True, **named}


def _network(name: str, settings: Settings, given: dict[str, Any]) -> dict[str, Any]:
    return {"_class_name": name, "_diffusers_version": VERSION, **supported(settings), **given}


def _blocks(network: PixArt | MMDiT) -> dict[str, Any]:
    """Returns the settings of a transformer's blocks."""
    return {
        "attention_head_dim": network.width // network.heads,
        "num_attention_heads": network.heads,
        "num_layers": network.depth,
        "patch_size": network.patch,
    }


def _groups(channels: int) -> int:
    return int(group_norm(channels, np.dtype(np.float32), "norm").num_groups)
