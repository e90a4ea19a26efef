"""Pickles of NVlabs/edm: DDPM++, NCSN++ or ADM's network in EDM's preconditioning, as "ema"."""

from __future__ import annotations

import math
from typing import Annotated, Any

from imagegen_jax.core.config.bounds import BelowOne, Count, Natural, Range, Share
from imagegen_jax.core.files.weight_files import WeightFile, with_prefix
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.edm_augment import EDMAugment
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.interop.importing import Published, shapes_of
from imagegen_jax.interop.name_map import (
    Rule,
    convolution,
    dense,
    fused,
    layer,
    norm,
    renamed,
    sines_first,
    within,
)
from imagegen_jax.interop.official.pickled import settings
from imagegen_jax.interop.settings import Settings
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.nn.backbones.ncsnpp import SongUNet

_Few = Annotated[int, Range(1, 64)]
_Width = Annotated[int, Range(1, 1 << 16)]

SHARED: Settings = {
    "attn_resolutions": ([16], tuple[Count, ...]), "augment_dim": (0, (0, EDMAugment.labels)),
    "channel_mult": ([1, 2, 2, 2], tuple[_Few, ...]), "channel_mult_emb": (4, (4,)), "dropout": (0.1, BelowOne),
    "img_channels": (3, _Width), "img_resolution": (None, _Width), "label_dim": (0, Natural),
    "label_dropout": (0, Share), "model_channels": (128, _Width), "model_type": ("DhariwalUNet", ("SongUNet",)),
    "num_blocks": (4, _Few), "sigma_data": (0.5, Share), "sigma_max": (math.inf, (math.inf,)), "sigma_min": (0, (0,)),
    "use_fp16": (False, bool),
}  # fmt: skip
SONG = SHARED | {
    "channel_mult_noise": (1, (1, 2)), "decoder_type": ("standard", ("standard",)),
    "embedding_type": ("positional", ("positional", "fourier")),
    "encoder_type": ("standard", ("standard", "residual")), "resample_filter": ([1, 1], ([1, 1], [1, 3, 3, 1])),
}  # fmt: skip
DHARIWAL = SHARED | {
    "attn_resolutions": ([32, 16, 8], tuple[Count, ...]), "channel_mult": ([1, 2, 3, 4], tuple[_Few, ...]),
    "model_channels": (192, _Width), "model_type": ("DhariwalUNet", ("DhariwalUNet",)), "num_blocks": (3, _Few),
}  # fmt: skip


def read(file: WeightFile, place: str) -> Published:
    """Reads a denoiser of any of the three networks. Raises ValueError where it is none of ours."""
    song = file.metadata.get("ema/_init_kwargs/model_type") == "SongUNet"
    found = settings(file, "ema", "EDMPrecond", SONG if song else DHARIWAL, place)
    network = _song(found, place) if song else _adm(found)
    side = found["img_resolution"]
    model = Diffusion(
        network=network,
        levels=Karras(18 if side <= 32 else 40),  # the authors' for CIFAR-10 and for faces
        image_shape=(side, side, found["img_channels"]),
        num_classes=found["label_dim"],
        label_dropout=found["label_dropout"],
        sigma_data=found["sigma_data"],
        augment=EDMAugment(0.12) if found["augment_dim"] else None,
    )
    rules = network_rules(network, side)
    tensors = with_prefix(file.arrays, "ema", place)
    nets = {"network": renamed(tensors, shapes_of(model)["network"], rules, place)}
    return Published(model, nets, {"ema": found})


def _song(found: dict[str, Any], place: str) -> SongUNet:
    waves = 2 if found["embedding_type"] == "fourier" else 1
    if found["channel_mult_noise"] != waves:
        raise ValueError(
            f"{place}: channel_mult_noise={found['channel_mult_noise']} with embedding_type="
            f"{found['embedding_type']!r}: only {waves} can be imported"
        )
    return SongUNet(
        width=found["model_channels"],
        multipliers=tuple(found["channel_mult"]),
        blocks=found["num_blocks"],
        attention_at=tuple(found["attn_resolutions"]),
        embedding=found["embedding_type"],
        encoder=found["encoder_type"],
        taps=tuple(map(float, found["resample_filter"])),
        dropout=found["dropout"],
    )


def _adm(found: dict[str, Any]) -> ADM:
    return ADM(
        width=found["model_channels"],
        multipliers=tuple(found["channel_mult"]),
        blocks=found["num_blocks"],
        attention_at=tuple(found["attn_resolutions"]),
        dropout=found["dropout"],
        learned_variance=False,
    )


def blocks_of(levels: int, blocks: int, side: int) -> dict[str, str]:
    """Returns what blocks are called: in the authors' U-Nets by their resolution, here by their level."""
    found = {f"dec.{side >> (levels - 1)}x{side >> (levels - 1)}_in{i}.": f"middle_{i}/" for i in range(2)}
    for level in range(levels):
        size = f"{side >> level}x{side >> level}"
        above = f"{side >> (level - 1)}x{side >> (level - 1)}" if level else ""
        found |= {f"enc.{size}_down.": f"down_{level}/", f"dec.{above}_up.": f"up_{level}/"} if level else {}
        found |= {f"enc.{size}_block{i}.": f"down_{level}_{i}/" for i in range(blocks)}
        found |= {f"dec.{size}_block{i}.": f"up_{level}_{i}/" for i in range(blocks + 1)}
    return found


BLOCK = [
    *norm("norm0", "norm_1"),
    *convolution("conv0", "conv_1"),
    *layer("affine", "embed"),
    *norm("norm1", "norm_2"),
    *convolution("conv1", "conv_2"),
    *layer("skip", "shortcut"),
    *norm("norm2", "attention/norm"),
    *fused("qkv", [f"attention/{name}" for name in ("query", "key", "value")], heads=None),
    *layer("proj", "attention/out"),
    *(Rule(f"{name}.resample_filter", ()) for name in ("conv0", "conv1", "skip")),
]


def network_rules(network: SongUNet | ADM, side: int) -> list[Rule]:
    """Returns the rules for a network of images with so many pixels a side."""
    levels, size = len(network.multipliers), f"{side}x{side}"
    adm = isinstance(network, ADM)
    ends = ("out_norm", "out_conv") if adm else (f"dec.{size}_aux_norm", f"dec.{size}_aux_conv")
    rules = [*layer("map_layer0", "time_0", sines_first if adm else dense), *layer("map_layer1", "time_1")]
    rules += [*layer("map_label", "label"), *layer("map_augment", "augment")]
    rules += [
        *convolution(f"enc.{size}_conv", "conv_in"),
        *norm(ends[0], "norm_out"),
        *convolution(ends[1], "conv_out"),
    ]
    for level in range(1, levels):
        theirs = f"enc.{side >> level}x{side >> level}_aux_residual"
        rules += [*convolution(theirs, f"residual_{level}"), Rule(f"{theirs}.resample_filter", ())]
    rules += within(blocks_of(levels, network.blocks, side), BLOCK)
    return [*within({"model.": "params/"}, rules), Rule("model.map_noise.freqs", "constants/fourier/f")]
