"""Transformers of diffusers' pipelines, and T5, as networks of this package, by their configurations.

Functions are as those of `networks`.
"""

from __future__ import annotations

from typing import Annotated, Any

from imagegen_jax.core.config.bounds import Positive, Range
from imagegen_jax.interop.diffusers_config import Channels, Few, Side, check_class
from imagegen_jax.interop.settings import Config, Settings, complete, short
from imagegen_jax.nn.backbones.dit import DiT
from imagegen_jax.nn.backbones.transformers.mmdit import MMDiT
from imagegen_jax.nn.backbones.transformers.pixart import PixArt
from imagegen_jax.nn.text_encoders.t5 import T5Encoder

Shape = tuple[int, int, int]

_Depth = Annotated[int, Range(1, 256)]
_BLOCKS: Settings = {
    "activation_fn": ("gelu-approximate", ("gelu-approximate",)),
    "attention_bias": (True, (True,)),
    "attention_head_dim": (72, Channels),
    "attention_type": ("default", ("default",)),
    "double_self_attention": (False, (False,)),
    "dropout": (0.0, (0.0,)),
    "in_channels": (4, Channels),
    "norm_elementwise_affine": (False, (False,)),
    "norm_num_groups": (32, Channels),  # of other kinds of input
    "num_attention_heads": (16, Channels),
    "num_layers": (28, _Depth),
    "num_vector_embeds": (None, (None,)),
    "only_cross_attention": (False, (False,)),
    "patch_size": (2, Few),
    "sample_size": (32, Side),
    "upcast_attention": (False, (False, True)),  # how to compute in half precision
    "use_linear_projection": (False, (False, True)),  # of other kinds of input
}
DIT: Settings = _BLOCKS | {
    "caption_channels": (None, (None,)),
    "cross_attention_dim": (None, (None,)),
    "norm_eps": (1e-5, Positive),
    "norm_type": ("ada_norm_zero", ("ada_norm_zero",)),
    "num_embeds_ada_norm": (1000, Channels),
    "out_channels": (None, Channels | None),
}
PIXART: Settings = _BLOCKS | {
    "caption_channels": (None, Channels),
    "cross_attention_dim": (1152, Channels),
    "interpolation_scale": (None, Positive | None),
    "norm_eps": (1e-6, (1e-6,)),
    "norm_type": ("ada_norm_single", ("ada_norm_single",)),
    "num_embeds_ada_norm": (1000, Channels),  # without a use
    "out_channels": (8, Channels | None),
    "sample_size": (128, Side),
    "use_additional_conditions": (None, (None, True, False)),
}
MMDIT: Settings = {
    "attention_head_dim": (64, Channels),
    "caption_projection_dim": (1152, Channels),
    "in_channels": (16, Channels),
    "joint_attention_dim": (4096, Channels),
    "num_attention_heads": (18, Channels),
    "num_layers": (18, _Depth),
    "out_channels": (16, Channels),
    "patch_size": (2, Few),
    "pooled_projection_dim": (2048, Channels),
    "pos_embed_max_size": (96, Channels),
    "qk_norm": (None, (None, "rms_norm")),
    "sample_size": (128, Side),
}
T5: Settings = {
    "d_ff": (2048, Channels),
    "d_kv": (64, Channels),
    "d_model": (512, Channels),
    "feed_forward_proj": ("relu", ("gated-gelu",)),
    "layer_norm_epsilon": (1e-6, (1e-6,)),
    "num_heads": (8, Channels),
    "num_layers": (6, _Depth),
    "relative_attention_max_distance": (128, Annotated[int, Range(2, 1 << 20)]),
    "relative_attention_num_buckets": (32, Channels),
    "vocab_size": (32_128, Annotated[int, Range(2, 1 << 24)]),
}
_DUAL = "dual_attention_layers"  # of a list that may be empty
SIZED = 128  # the side of the latents of PixArt's pipelines that are told sizes


def dit_of(config: Config, place: str) -> tuple[DiT, Shape, dict[str, Any]]:
    """Makes the network of a `DiTTransformer2DModel`, and returns the shape of its latents and its settings too."""
    check_class(config, ("DiTTransformer2DModel", "Transformer2DModel"), place)
    found = complete(config, DIT, place)
    network = DiT(
        patch=found["patch_size"], depth=found["num_layers"], width=_width(found), heads=found["num_attention_heads"],
        out_channels=_outputs(found, place), endpoint=True, mlp_epsilon=found["norm_eps"],
    )  # fmt: skip
    return network, _latents(found, place), found


def pixart_of(config: Config, place: str) -> tuple[PixArt, Shape, dict[str, Any]]:
    """Makes the network of a `PixArtTransformer2DModel`, as `dit_of` does."""
    check_class(config, ("PixArtTransformer2DModel", "Transformer2DModel"), place)
    found = complete(config, PIXART, place)
    side, told = found["sample_size"], found["use_additional_conditions"]
    extent = side // found["patch_size"] / (found["interpolation_scale"] or max(side // 64, 1))
    if not extent.is_integer():
        raise ValueError(
            f"{place}: interpolation_scale={found['interpolation_scale']}: places would span {extent}, but only whole "
            "numbers can be imported"
        )
    if found["cross_attention_dim"] != _width(found):
        raise ValueError(
            f"{place}: cross_attention_dim={found['cross_attention_dim']}: only the width, num_attention_heads times "
            f"attention_head_dim, {_width(found)}, can be imported"
        )
    if told is not None and told != (side == SIZED):
        raise ValueError(
            f"{place}: use_additional_conditions={told}, sample_size={side}: its pipeline tells sizes where "
            f"sample_size={SIZED}, and nowhere else: delete the line"
        )
    network = PixArt(
        patch=found["patch_size"], depth=found["num_layers"], width=_width(found), heads=found["num_attention_heads"],
        out_channels=_outputs(found, place), sizes=side == SIZED, extent=int(extent),
    )  # fmt: skip
    return network, _latents(found, place), found


def mmdit_of(config: Config, place: str) -> tuple[MMDiT, Shape, dict[str, Any]]:
    """Makes the network of an `SD3Transformer2DModel`, as `dit_of` does."""
    check_class(config, ("SD3Transformer2DModel",), place)
    dual = config.get(_DUAL) or ()
    found = complete({name: value for name, value in config.items() if name != _DUAL}, MMDIT, place)
    if not isinstance(dual, list | tuple) or list(dual) != list(range(len(dual))):
        raise ValueError(f"{place}: dual_attention_layers={short(dual)}: only the first ones can be imported")
    if found["caption_projection_dim"] != _width(found) or found["out_channels"] != found["in_channels"]:
        raise ValueError(
            f"{place}: caption_projection_dim={found['caption_projection_dim']}, out_channels={found['out_channels']}: "
            f"only num_attention_heads times attention_head_dim, {_width(found)}, and in_channels, "
            f"{found['in_channels']}, can be imported"
        )
    network = MMDiT(
        patch=found["patch_size"], depth=found["num_layers"], width=_width(found), heads=found["num_attention_heads"],
        query_key_norm=found["qk_norm"] is not None, dual=len(dual), largest=found["pos_embed_max_size"],
        extent=found["sample_size"] // found["patch_size"],
    )  # fmt: skip
    return network, _latents(found, place), found


def t5_of(config: Config, place: str, **fields: Any) -> T5Encoder:
    """Makes the encoder of a `T5EncoderModel`, whose configuration has settings of other uses as well."""
    if (kind := config.get("model_type", "t5")) != "t5":
        raise ValueError(f"{place}: model_type={short(kind)}: only t5 can be imported")
    found = complete({name: value for name, value in config.items() if name in T5}, T5, place)
    return T5Encoder(
        found["vocab_size"], width=found["d_model"], depth=found["num_layers"], heads=found["num_heads"],
        head_channels=found["d_kv"], hidden=found["d_ff"], buckets=found["relative_attention_num_buckets"],
        max_distance=found["relative_attention_max_distance"], **fields,
    )  # fmt: skip


def _width(found: dict[str, Any]) -> int:
    width: int = found["num_attention_heads"] * found["attention_head_dim"]
    return width


def _outputs(found: dict[str, Any], place: str) -> int | None:
    """Returns the channels that are put out; None: those of the latents."""
    channels, out = found["in_channels"], found["out_channels"]
    if out not in (None, channels, 2 * channels):
        raise ValueError(
            f"{place}: in_channels={channels}, out_channels={out}: only as many, or twice that with a variance, can be "
            "imported"
        )
    return 2 * channels if out == 2 * channels else None


def _latents(found: dict[str, Any], place: str) -> Shape:
    side, patch = found["sample_size"], found["patch_size"]
    if side % patch:
        raise ValueError(f"{place}: sample_size={side}, patch_size={patch}: the second must divide the first")
    return side, side, found["in_channels"]
