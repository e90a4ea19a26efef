"""The library diffusers' `UNet2DModel` as a network of this package: DDPM's U-Net or, by its settings, ADM's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagegen_jax.interop.diffusers_config import (
    UNET,
    Channels,
    attention_levels,
    check_class,
    height_and_width,
    network_of,
)
from imagegen_jax.interop.name_map import Rule
from imagegen_jax.interop.names import unets
from imagegen_jax.interop.settings import Config, Settings, complete, short
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.nn.backbones.unet import UNet

ADM_UNET: Settings = UNET | {
    "attention_head_dim": (8, Channels | None),  # of each head; None: one head
    "attn_norm_num_groups": (None, Channels | None),
    "downsample_padding": (1, (1,)),
    "downsample_type": ("conv", ("conv", "resnet")),
    "flip_sin_to_cos": (True, (True,)),
    "freq_shift": (0, (0,)),
    "norm_eps": (1e-5, (1e-5,)),
    "resnet_time_scale_shift": ("default", ("default", "scale_shift")),
    "upsample_type": ("conv", ("conv", "resnet")),
}
_RESNETS = {"ResnetDownsampleBlock2D": "DownBlock2D", "ResnetUpsampleBlock2D": "UpBlock2D"}  # without attention


def unet_of(config: Config, place: str) -> tuple[UNet | ADM, tuple[int, int, int]]:
    """Makes the network of a `UNet2DModel`'s configuration, which was read at `place`, and returns its image shape too.

    Cosines come first (`flip_sin_to_cos`) in the times of all but DDPM's own U-Net. Raises ValueError, and names
    setting, place and remedy, where neither network can be that one.
    """
    if config.get("flip_sin_to_cos", True) is True:
        return adm_of(config, place)
    return network_of(config, place)


def rules_of(network: UNet | ADM) -> list[Rule]:
    """Returns the names of a network's tensors."""
    levels = len(network.multipliers)
    return unets.adm(levels) if isinstance(network, ADM) else unets.ddpm(levels)


def adm_of(config: Config, place: str) -> tuple[ADM, tuple[int, int, int]]:
    """Makes an `ADM`, as `unet_of` does."""
    check_class(config, ("UNet2DModel",), place)
    found = complete(config, ADM_UNET, place)
    height, width = height_and_width(found["sample_size"], place)
    channels = found["in_channels"]
    if channels != found["out_channels"]:
        raise ValueError(
            f"{place}: in_channels={channels}, out_channels={found['out_channels']}: only networks whose output has "
            "the channels of their input can be imported, without a variance or a condition"
        )
    _check_changes(found, place)
    _check_middle(found, place)
    levels = attention_levels(found | _without_resnets(found), place)
    network = ADM(
        **levels_of(found["block_out_channels"], place),
        blocks=found["layers_per_block"],
        attention_at=tuple(height >> level for level in levels),
        head_channels=found["attention_head_dim"],
        heads=1,
        scale_shift=found["resnet_time_scale_shift"] == "scale_shift",
        resample="block" if found["downsample_type"] == "resnet" else "conv",
        learned_variance=False,
        dropout=found["dropout"],
    )
    return network, (height, width, channels)


def levels_of(widths: Sequence[int], place: str) -> dict[str, Any]:
    """Returns the fields of the channels of each level."""
    if not widths or any(width % widths[0] for width in widths):
        raise ValueError(f"{place}: block_out_channels={list(widths)}: only multiples of the first can be imported")
    return {"width": widths[0], "multipliers": tuple(width // widths[0] for width in widths)}


def _without_resnets(found: Mapping[str, Any]) -> dict[str, list[str]]:
    ways = ("down_block_types", "up_block_types")
    return {way: [_RESNETS.get(name, name) for name in found[way]] for way in ways}


def _check_changes(found: Mapping[str, Any], place: str) -> None:
    """Raises ValueError where some changes of resolution are convolutions and others are blocks."""
    down, up = found["down_block_types"], found["up_block_types"]
    blocks = found["downsample_type"] == "resnet"
    changing = [*down[:-1], *up[:-1]]  # the last ones of both ways change nothing
    others = [name for name in changing if name in (_RESNETS.values() if blocks else _RESNETS)]
    if found["upsample_type"] != found["downsample_type"] or others:
        raise ValueError(
            f"{place}: downsample_type={found['downsample_type']!r}, upsample_type={found['upsample_type']!r}, "
            f"down_block_types={short(list(down))}, up_block_types={short(list(up))}: only networks that change "
            "resolution everywhere by a convolution, or everywhere by a block, can be imported"
        )


def _check_middle(found: Mapping[str, Any], place: str) -> None:
    """Raises ValueError where the attention in the middle has no norm, or one of other groups."""
    groups, own = found["norm_num_groups"], found["attn_norm_num_groups"]
    if own is None and found["resnet_time_scale_shift"] == "default":
        return
    if own != groups:
        raise ValueError(
            f"{place}: attn_norm_num_groups={own}, norm_num_groups={groups}, resnet_time_scale_shift="
            f"{found['resnet_time_scale_shift']!r}: the attention in the middle would have another norm than ours; "
            "such a network cannot be imported"
        )
