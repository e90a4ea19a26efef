"""Networks of diffusers' pipelines as networks of this package, by their configurations.

Each function is given a configuration and the place where it was read, and raises ValueError, which names setting,
place and remedy, where the network of this package cannot be that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from imagegen_jax.autoencoders.adversary import Likeness
from imagegen_jax.autoencoders.kl import AutoencoderKL, KLNetwork
from imagegen_jax.core.config.bounds import BelowOne, Positive, Range
from imagegen_jax.interop.diffusers_config import Channels, Few, Side, attention_levels, check_class, height_and_width
from imagegen_jax.interop.diffusers_unets import levels_of
from imagegen_jax.interop.settings import Config, Settings, complete, short
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder
from imagegen_jax.nn.backbones.latent_unet import SIZE_FREQUENCIES, LatentUNet
from imagegen_jax.nn.text_encoders.clip import CLIPText

_ONLY: Settings = {  # what the U-Net of Stable Diffusion leaves at its default
    name: (value, (value,))
    for name, value in {
        "act_fn": "silu", "addition_embed_type": None, "attention_type": "default", "center_input_sample": False,
        "class_embed_type": None, "class_embeddings_concat": False, "conv_in_kernel": 3, "conv_out_kernel": 3,
        "cross_attention_norm": None, "downsample_padding": 1, "dual_cross_attention": False, "encoder_hid_dim": None,
        "encoder_hid_dim_type": None, "flip_sin_to_cos": True, "freq_shift": 0, "mid_block_only_cross_attention": None,
        "mid_block_scale_factor": 1, "mid_block_type": "UNetMidBlock2DCrossAttn", "norm_eps": 1e-5,
        "num_attention_heads": None, "num_class_embeds": None, "only_cross_attention": False,
        "resnet_out_scale_factor": 1.0, "resnet_skip_time_act": False, "resnet_time_scale_shift": "default",
        "reverse_transformer_layers_per_block": None, "time_cond_proj_dim": None, "time_embedding_act_fn": None,
        "time_embedding_dim": None, "time_embedding_type": "positional", "timestep_post_act": None,
    }.items()
}  # fmt: skip
LATENT_UNET: Settings = _ONLY | {
    "addition_embed_type_num_heads": (64, Few),  # of other kinds than these alone, as the next and the last one
    "addition_time_embed_dim": (None, Channels | None),
    "attention_head_dim": (8, Channels | tuple[Channels, ...]),  # heads, whatever it is called
    "block_out_channels": ((320, 640, 1280, 1280), tuple[Channels, ...]),
    "cross_attention_dim": (1280, Channels),
    "down_block_types": ((*3 * ("CrossAttnDownBlock2D",), "DownBlock2D"), tuple[str, ...]),
    "dropout": (0.0, BelowOne),
    "in_channels": (4, Channels),
    "layers_per_block": (2, Few),
    "norm_num_groups": (32, Channels),
    "out_channels": (4, Channels),
    "sample_size": (None, Side | tuple[Side, Side] | None),
    "transformer_layers_per_block": (1, Few | tuple[Few, ...]),
    "up_block_types": (("UpBlock2D", *3 * ("CrossAttnUpBlock2D",)), tuple[str, ...]),
    "upcast_attention": (False, (False, True, None)),  # how to compute in half precision
    "use_linear_projection": (False, (False, True)),  # the layout of the same layers
    "projection_class_embeddings_input_dim": (None, Channels | None),
}
SDXL_UNET: Settings = LATENT_UNET | {
    "addition_embed_type": (None, ("text_time",)),
    "addition_time_embed_dim": (None, (SIZE_FREQUENCIES,)),
    "projection_class_embeddings_input_dim": (None, Channels),
}
AUTOENCODER: Settings = {
    "act_fn": ("silu", ("silu", "swish")),
    "block_out_channels": ((64,), tuple[Channels, ...]),
    "down_block_types": (("DownEncoderBlock2D",), tuple[str, ...]),
    "force_upcast": (True, (True, False)),  # how to compute in half precision
    "in_channels": (3, Channels),
    "latent_channels": (4, Channels),
    "layers_per_block": (1, Few),
    "mid_block_add_attention": (True, (True, False)),
    "norm_num_groups": (32, Channels),
    "out_channels": (3, Channels),
    "sample_size": (32, Side | tuple[Side, Side]),  # of its training: it takes others
    "scaling_factor": (0.18215, Positive),
    "up_block_types": (("UpDecoderBlock2D",), tuple[str, ...]),
}
KL: Settings = AUTOENCODER | {
    "latents_mean": (None, (None,)),
    "latents_std": (None, (None,)),
    "shift_factor": (None, float | None),
    "use_post_quant_conv": (True, (True, False)),
    "use_quant_conv": (True, (True, False)),
}
CLIP: Settings = {
    "hidden_act": ("quick_gelu", ("quick_gelu", "gelu")),
    "hidden_size": (512, Channels),
    "intermediate_size": (2048, Channels),
    "layer_norm_eps": (1e-5, (1e-5,)),
    "max_position_embeddings": (77, Annotated[int, Range(2, 1 << 12)]),
    "num_attention_heads": (8, Channels),
    "num_hidden_layers": (12, Annotated[int, Range(1, 256)]),
    "projection_dim": (512, Channels),
    "vocab_size": (49_408, Annotated[int, Range(2, 1 << 24)]),
}


def latent_unet_of(
    config: Config, place: str, settings: Settings = LATENT_UNET
) -> tuple[LatentUNet, tuple[int, int, int], dict[str, Any]]:
    """Makes the U-Net of a `UNet2DConditionModel`, and returns the shape of its latents and its settings too."""
    check_class(config, ("UNet2DConditionModel",), place)
    found = complete(config, settings, place)
    channels, widths = found["in_channels"], found["block_out_channels"]
    if channels != found["out_channels"]:
        raise ValueError(
            f"{place}: in_channels={channels}, out_channels={found['out_channels']}: only networks that see nothing "
            "beside latents and a text can be imported: no inpainting, no enlarging"
        )
    network = LatentUNet(
        **levels_of(widths, place),
        blocks=found["layers_per_block"],
        depths=_depths(found, place),
        **_heads(found["attention_head_dim"], widths, place),
        added=found["addition_embed_type"] is not None,
        dropout=found["dropout"],
    )
    return network, (*height_and_width(found["sample_size"], place), channels), found


def kl_of(config: Config, latent_shape: tuple[int, int, int], place: str) -> tuple[AutoencoderKL, dict[str, Any]]:
    """Makes the autoencoder of an `AutoencoderKL` for latents of a shape, and returns its settings too."""
    check_class(config, ("AutoencoderKL",), place)
    found = complete(config, KL, place)
    if found["use_quant_conv"] != found["use_post_quant_conv"]:
        raise ValueError(
            f"{place}: use_quant_conv and use_post_quant_conv differ: only both or neither can be imported"
        )
    encoder, decoder = coders_of(found, 2 * found["latent_channels"], place)
    network = KLNetwork(encoder, decoder, found["latent_channels"], found["use_quant_conv"])
    shape = image_shape_of(found, encoder, latent_shape, place)
    return AutoencoderKL(shape, network, Likeness(perceptual=None), None, learned_variance=False), found


def coders_of(found: Mapping[str, Any], features: int, place: str) -> tuple[ConvEncoder, ConvDecoder]:
    """Makes the encoder, of so many features, and the decoder of an autoencoder's settings."""
    widths, kinds = found["block_out_channels"], {"down": "DownEncoderBlock2D", "up": "UpDecoderBlock2D"}
    for way, kind in kinds.items():
        if set(found[f"{way}_block_types"]) != {kind} or len(found[f"{way}_block_types"]) != len(widths):
            types = short(found[f"{way}_block_types"])
            raise ValueError(f"{place}: {way}_block_types={types}: only {kind}, one for each width, can be imported")
    shared: dict[str, Any] = {
        **levels_of(widths, place),
        "blocks": found["layers_per_block"],
        "middle_attention": found["mid_block_add_attention"],
    }
    return ConvEncoder(**shared, features=features), ConvDecoder(**shared)


def image_shape_of(
    found: Mapping[str, Any], encoder: ConvEncoder, latent_shape: tuple[int, int, int], place: str
) -> tuple[int, int, int]:
    """Returns the shape of the images that an autoencoder makes of latents of a shape."""
    height, width, channels = latent_shape
    own = found.get("vq_embed_dim") or found["latent_channels"]
    if channels != own:
        raise ValueError(
            f"{place}: its latents have {own} channels, but the U-Net's in_channels={channels}: these two "
            "are not of one pipeline; fetch both again"
        )
    if found["in_channels"] != found["out_channels"]:
        raise ValueError(f"{place}: in_channels and out_channels differ: only images of one kind can be imported")
    return height * encoder.factor, width * encoder.factor, found["in_channels"]


def clip_of(config: Config, place: str, projected: bool = False, **fields: Any) -> CLIPText:
    """Makes the text encoder of a `CLIPTextModel`, or a `CLIPTextModelWithProjection`, with further `fields`.

    Its configuration has settings of other uses as well.
    """
    kind = config.get("model_type", "clip_text_model")
    if kind != "clip_text_model":
        raise ValueError(f"{place}: model_type={short(kind)}: only clip_text_model can be imported")
    found = complete({name: value for name, value in config.items() if name in CLIP}, CLIP, place)
    width, hidden = found["hidden_size"], found["intermediate_size"]
    if hidden % width or width % found["num_attention_heads"]:
        raise ValueError(
            f"{place}: hidden_size={width}: it must divide intermediate_size={hidden}, and num_attention_heads="
            f"{found['num_attention_heads']} must divide it"
        )
    return CLIPText(
        found["vocab_size"], found["max_position_embeddings"], width, found["num_hidden_layers"],
        found["num_attention_heads"], expansion=hidden // width, activation=found["hidden_act"],
        projection=found["projection_dim"] if projected else None, **fields,
    )  # fmt: skip


def _depths(found: Mapping[str, Any], place: str) -> tuple[int, ...]:
    """Returns the depth of the transformers of each level; the middle's is that of the lowest level that has any."""
    attends, levels = attention_levels(found, place, "CrossAttn"), len(found["block_out_channels"])
    if not attends:
        raise ValueError(f"{place}: down_block_types={short(found['down_block_types'])}: none of them sees the text")
    given = found["transformer_layers_per_block"]
    deep = [given] * levels if isinstance(given, int) else list(given)
    if len(deep) != levels or deep[-1] != deep[max(attends)]:
        raise ValueError(
            f"{place}: transformer_layers_per_block={short(given)}: only one number, or one for each of the {levels} "
            "levels of which the last is that of the lowest level that sees the text, can be imported"
        )
    return tuple(deep[level] if level in attends else 0 for level in range(levels))


def _heads(heads: int | Sequence[int], widths: Sequence[int], place: str) -> dict[str, int]:
    """Returns the field of attention's heads: their number, or their channels where these are all alike."""
    if isinstance(heads, int):
        return {"heads": heads}
    if len(heads) == len(widths):
        sizes = {width / count for width, count in zip(widths, heads, strict=True)}
        if len(sizes) == 1 and (size := sizes.pop()).is_integer():
            return {"head_channels": int(size)}
        if len(set(heads)) == 1:
            return {"heads": heads[0]}
    raise ValueError(
        f"{place}: attention_head_dim={list(heads)}: only one number of heads, or heads of as many channels at each "
        "level, can be imported"
    )
