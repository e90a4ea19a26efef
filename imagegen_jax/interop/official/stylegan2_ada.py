"""Pickles of NVlabs/stylegan2-ada-pytorch: the averaged generator G_ema, and the discriminator D."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import numpy as np

from imagegen_jax.core.config.bounds import Natural, Positive, Range
from imagegen_jax.core.files.weight_files import WeightFile, with_prefix
from imagegen_jax.gan.style.stylegan2 import StyleGAN2
from imagegen_jax.gan.style.stylegan2_networks import Discriminator, Generator, resolutions
from imagegen_jax.interop.importing import Published, completed, shapes_of
from imagegen_jax.interop.name_map import Rule, channels_last, convolution, kernel, layer, renamed, within
from imagegen_jax.interop.official.pickled import settings
from imagegen_jax.interop.settings import Settings

_Width = Annotated[int, Range(1, 1 << 16)]
_TAPS = ([1, 3, 3, 1],)

# Of arithmetic in half precision, and of training alone, all values will do.
_MAPPING: Settings = {
    "activation": ("lrelu", ("lrelu",)), "embed_features": (None, (None,)), "layer_features": (None, (None,)),
    "lr_multiplier": (0.01, Positive), "num_layers": (8, _Width), "w_avg_beta": (0.995, float | None),
}  # fmt: skip
_BLOCKS: Settings = {
    "channel_base": (32768, Annotated[int, Range(1, 1 << 24)]), "channel_max": (512, _Width),
    "conv_clamp": (None, float | None), "num_fp16_res": (0, Natural),
}  # fmt: skip
_SYNTHESIS = _BLOCKS | {
    "activation": ("lrelu", ("lrelu",)), "architecture": ("skip", ("skip",)), "fp16_channels_last": (False, bool),
    "fused_modconv_default": (True, bool | str), "kernel_size": (3, (3,)), "resample_filter": ([1, 3, 3, 1], _TAPS),
    "use_noise": (True, (True,)),
}  # fmt: skip
_SHAPE: Settings = {"c_dim": (0, Natural), "img_channels": (3, (1, 3)), "img_resolution": (None, _Width)}
GENERATOR: Settings = {
    **_SHAPE,
    "w_dim": (512, _Width),
    "z_dim": (512, _Width),
    **{f"mapping_kwargs/{name}": value for name, value in _MAPPING.items()},
    **{f"synthesis_kwargs/{name}": value for name, value in _SYNTHESIS.items()},
}
DISCRIMINATOR: Settings = {
    **_SHAPE,
    **_BLOCKS,
    "architecture": ("resnet", ("resnet", "orig")),
    "block_kwargs/activation": ("lrelu", ("lrelu",)),
    "block_kwargs/fp16_channels_last": (False, bool),
    "block_kwargs/freeze_layers": (0, Natural),
    "block_kwargs/resample_filter": ([1, 3, 3, 1], _TAPS),
    "cmap_dim": (None, (None,)),
    "epilogue_kwargs/activation": ("lrelu", ("lrelu",)),
    "epilogue_kwargs/mbstd_group_size": (4, _Width),
    "epilogue_kwargs/mbstd_num_channels": (1, (1,)),
    **{f"mapping_kwargs/{name}": value for name, value in _MAPPING.items()},
}


def read(file: WeightFile, place: str) -> Published:
    """Reads a generator, and a discriminator where there is one. Raises ValueError where they are none of ours."""
    made = {"generator": settings(file, "G_ema", "Generator", GENERATOR, place)}
    g = made["generator"]
    model = StyleGAN2(
        image_shape=(g["img_resolution"], g["img_resolution"], g["img_channels"]),
        generator=Generator(
            g["w_dim"],
            g["mapping_kwargs/num_layers"],
            g["mapping_kwargs/lr_multiplier"],
            g["synthesis_kwargs/channel_base"],
            g["synthesis_kwargs/channel_max"],
        ),
        latent_dim=g["z_dim"],
        num_classes=g["c_dim"],
    )
    levels = len(resolutions(*model.image_shape[:2]))
    if has_discriminator(file):
        made["discriminator"] = settings(file, "D", "Discriminator", DISCRIMINATOR, place)
        model = dataclasses.replace(model, discriminator=_discriminator(made["discriminator"]))
    nets = shapes_of(model)
    averages = nets["generator"]["averages"]
    wanted = {**nets["generator"], "averages": {"w": averages["w"]}}
    generator = renamed(with_prefix(file.arrays, "G_ema", place), wanted, generator_rules(levels), f"{place}, G_ema")
    generator["averages"]["path_length"] = np.zeros((), np.float32)  # no file has it; training finds it anew
    found = {"generator": generator}
    if has_discriminator(file):
        tensors, rules = with_prefix(file.arrays, "D", place), discriminator_rules(levels)
        found["discriminator"] = renamed(tensors, nets["discriminator"], rules, f"{place}, D")
    return Published(model, completed(model, found, nets), made)


def has_discriminator(file: WeightFile) -> bool:
    """Tells whether the file has D: files for drawing alone do without."""
    return any(name.startswith("D/") for name in file.arrays)


def _discriminator(d: dict[str, Any]) -> Discriminator:
    return Discriminator(
        d["channel_base"],
        d["channel_max"],
        residual=d["architecture"] == "resnet",
        group=d["epilogue_kwargs/mbstd_group_size"],
        mapping_layers=d["mapping_kwargs/num_layers"],
        mapping_rate=d["mapping_kwargs/lr_multiplier"],
    )


def mirrored(tensor: np.ndarray) -> np.ndarray:
    """Reorders a kernel that the authors' upsampling layers mirror before they convolve."""
    return kernel(tensor)[::-1, ::-1]


def _mapping() -> list[Rule]:
    return within({"mapping.": "params/mapping/"}, [*layer("embed", "embed"), *layer("fc{i}", "dense_{i}")])


def generator_rules(levels: int) -> list[Rule]:
    """Returns the rules for a generator of so many resolutions, the smallest of 4x4 pixels."""
    start = Rule("synthesis.b4.const", "params/synthesis/start", channels_last)
    rules = [*_mapping(), Rule("mapping.w_avg", "averages/w"), start]
    rules += [Rule("synthesis.b{i}.resample_filter", ()), Rule("synthesis.b{i}.conv{j}.resample_filter", ())]
    for level in range(levels):
        block = f"synthesis.b{4 << level}."
        for name, at, form in (("conv0", 2 * level - 1, mirrored), ("conv1", 2 * level, kernel)):
            theirs, ours = f"{block}{name}", f"synthesis/conv_{at}"
            rules += [*layer(theirs, f"params/{ours}", form), *layer(f"{theirs}.affine", f"params/{ours}/style")]
            rules.append(Rule(f"{theirs}.noise_strength", f"params/{ours}/noise_strength"))
            rules.append(Rule(f"{theirs}.noise_const", f"noise/{ours}/constant", lambda noise: noise[..., None]))
        path = f"params/synthesis/image_{level}"
        rules += [*convolution(f"{block}torgb", path), *layer(f"{block}torgb.affine", f"{path}/style")]
    return rules


def discriminator_rules(levels: int) -> list[Rule]:
    """Returns the rules for a discriminator of so many resolutions, the smallest of 4x4 pixels."""

    def flat(tensor: np.ndarray) -> np.ndarray:
        return kernel(tensor.reshape(len(tensor), -1, 4, 4)).reshape(-1, len(tensor))

    filtered = ("", "conv{j}.", "conv.", "skip.", "fromrgb.")
    rules = [*_mapping(), *(Rule(f"b{{i}}.{name}resample_filter", ()) for name in filtered)]
    rules += convolution(f"b{2 << levels}.fromrgb", "params/from_image")
    for level in range(levels - 1):
        block = f"b{2 << (levels - level)}"
        for name, ours in (("conv0", "conv"), ("conv1", "halve"), ("skip", "skip")):
            rules += convolution(f"{block}.{name}", f"params/{ours}_{level}")
    rules += [*convolution("b4.conv", "params/last_conv"), *layer("b4.fc", "params/dense", flat)]
    return [*rules, *layer("b4.out", "params/logit")]
