"""Pickles of NVlabs/edm2: a magnitude-preserving U-Net of pixels or of Stable Diffusion's latents, as "ema"."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np

from imagegen_jax.core.arrays.space import AnySpace, Latents, Pixels
from imagegen_jax.core.config.bounds import BelowOne, Count, Natural, Range, Share
from imagegen_jax.core.files.weight_files import WeightFile, with_prefix
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process.times import LogNormal
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.interop.importing import Published, shapes_of
from imagegen_jax.interop.name_map import Rule, dense, kernel, parts, renamed, within
from imagegen_jax.interop.official.edm import blocks_of
from imagegen_jax.interop.official.pickled import settings
from imagegen_jax.interop.settings import Settings
from imagegen_jax.nn.backbones.edm2 import EDM2UNet, Uncertainty

_Few = Annotated[int, Range(1, 64)]
_Width = Annotated[int, Range(1, 1 << 16)]

PRECOND: Settings = {
    "attn_balance": (0.3, (0.3,)), "attn_resolutions": ([16, 8], tuple[Count, ...]),
    "channel_mult": ([1, 2, 3, 4], tuple[_Few, ...]), "channel_mult_emb": (None, (None,)),
    "channel_mult_noise": (None, (None,)), "channels_per_head": (64, _Width), "clip_act": (256, (256,)),
    "concat_balance": (0.5, (0.5,)), "dropout": (0, BelowOne), "img_channels": (3, _Width),
    "img_resolution": (None, _Width), "label_balance": (0.5, (0.5,)), "label_dim": (0, Natural),
    "logvar_channels": (128, _Width), "model_channels": (192, _Width), "num_blocks": (3, _Few),
    "res_balance": (0.3, (0.3,)), "resample_filter": ([1, 1], ([1, 1],)), "sigma_data": (0.5, Share),
    "use_fp16": (True, bool),
}  # fmt: skip

# Means and deviations of the latents of stabilityai/sd-vae-ft-mse over ImageNet at 512x512, which the authors train on.
MEANS, DEVIATIONS = (5.81, 3.25, 0.12, -2.15), (4.17, 4.62, 3.71, 3.28)


def read(file: WeightFile, place: str) -> Published:
    """Reads a denoiser and the uncertainty that it was trained with. Raises ValueError where it is none of ours."""
    found = settings(file, "ema", "Precond", PRECOND, place)
    side, channels = found["img_resolution"], found["img_channels"]
    network = EDM2UNet(
        width=found["model_channels"],
        multipliers=tuple(found["channel_mult"]),
        blocks=found["num_blocks"],
        attention_at=tuple(found["attn_resolutions"]),
        head_channels=found["channels_per_head"],
        dropout=found["dropout"],
    )
    space: AnySpace = Pixels()
    if channels == len(MEANS):
        space = Latents(tuple(found["sigma_data"] / deviation for deviation in DEVIATIONS), MEANS)
    model = Diffusion(
        network=network,
        times=LogNormal(-0.4, 1.0) if channels == len(MEANS) else LogNormal(-0.8, 1.6),
        levels=Karras(32),
        image_shape=(side, side, channels),
        num_classes=found["label_dim"],
        sigma_data=found["sigma_data"],
        space=space,
        uncertainty=Uncertainty(found["logvar_channels"]),
    )
    tensors, rules = with_prefix(file.arrays, "ema", place), network_rules(network, side)
    return Published(model, renamed(tensors, shapes_of(model), rules, place), {"ema": found})


def turns(tensor: np.ndarray) -> np.ndarray:
    """Returns frequencies, or phases, in turns where they are in radians."""
    return tensor / (2 * math.pi)


BLOCK = [
    Rule("emb_gain", "gain"),
    Rule("conv_res0.weight", "conv_1/kernel", kernel),
    Rule("conv_res1.weight", "conv_2/kernel", kernel),
    Rule("emb_linear.weight", "embed/kernel", dense),
    Rule("conv_skip.weight", "shortcut/kernel", dense),
    Rule("attn_qkv.weight", [f"{name}/kernel" for name in ("query", "key", "value")], parts(3, dense, heads=None)),
    Rule("attn_proj.weight", "out/kernel", dense),
]


def network_rules(network: EDM2UNet, side: int) -> list[Rule]:
    """Returns the rules for a network of images with so many pixels a side, and for its uncertainty."""
    inside = [
        Rule("out_gain", "gain"),
        Rule("emb_noise.weight", "time/kernel", dense),
        Rule("emb_label.weight", "label/kernel", dense),
        Rule(f"enc.{side}x{side}_conv.weight", "conv_in/kernel", kernel),
        Rule("out_conv.weight", "conv_out/kernel", kernel),
        *within(blocks_of(len(network.multipliers), network.blocks, side), BLOCK),
    ]
    waves = [Rule("fourier.freqs", "fourier/f", turns), Rule("fourier.phases", "fourier/phi", turns)]
    return [
        *within({"unet.": "network/params/"}, inside),
        *within({"unet.emb_": "network/constants/", "logvar_": "uncertainty/constants/"}, waves),
        Rule("logvar_linear.weight", "uncertainty/params/dense/kernel", dense),
    ]
