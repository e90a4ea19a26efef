"""State dicts of openai/guided-diffusion: ADM's network, an upsampler included; its layers tell most of what it is."""

from __future__ import annotations

import dataclasses
import functools
from typing import Annotated, Any, NamedTuple

import numpy as np

from imagegen_jax.core.config.bounds import Natural, Range
from imagegen_jax.core.files.weight_files import WeightFile
from imagegen_jax.diffusion.models.improved_ddpm import ImprovedDDPM
from imagegen_jax.interop.importing import Published, shapes_of
from imagegen_jax.interop.name_map import (
    Rule,
    Tensors,
    convolution,
    dense,
    layer,
    norm,
    parts,
    renamed,
    sines_first,
    within,
)
from imagegen_jax.nn.backbones.adm import ADM, ADMClassifier
from imagegen_jax.nn.distributions.noise_steps import CosineSchedule, LinearSchedule

GROUPS, LEAST = 32, 128  # groups of the authors' norms, which ours have from so many channels on


@dataclasses.dataclass(frozen=True)
class Options:
    """What a state dict of ADM does not say; the defaults are those of the published networks of these levels."""

    size: Natural = 0  # height and width of images; 0: those of the published networks
    cosine: bool | None = None  # whether the schedule is the cosine one, not the linear one
    head_channels: Natural | None = None  # 0: `heads` heads
    heads: Annotated[int, Range(1, 64)] = 4
    new_order: bool | None = None  # --use_new_attention_order
    source: Natural = 0  # of an upsampler, height and width of what it is given; 0: a quarter


class Preset(NamedTuple):
    """What the README of the authors' code has for a network."""

    size: int
    cosine: bool = False
    head_channels: int = 64
    new_order: bool = False


PRESETS: dict[tuple[float, ...], Preset] = {
    (1, 2, 3, 4): Preset(64, cosine=True, new_order=True),
    (1, 1, 2, 3, 4): Preset(128, head_channels=0),
    (1, 1, 2, 2, 4, 4): Preset(256),
    (0.5, 1, 1, 2, 2, 4, 4): Preset(512),
}


class Layout(NamedTuple):
    """What the names and shapes of a network's tensors say."""

    width: int
    multipliers: tuple[float, ...]
    blocks: int
    attends: tuple[bool, ...]  # by level
    by_blocks: bool  # whether blocks change the resolution, not convolutions


def read(file: WeightFile, place: str, options: Options = Options()) -> Published:  # noqa: B008
    """Reads a network that predicts noise and variance. Raises ValueError where it is none of ours."""
    tensors = file.arrays
    preset = PRESETS.get(layout_of(tensors).multipliers, Preset(0))
    if not (size := options.size or preset.size):
        raise ValueError(
            f"{place}: its levels are those of no published network: say the size of its images: --set size=64"
        )
    new_order = preset.new_order if options.new_order is None else options.new_order
    cosine = preset.cosine if options.cosine is None else options.cosine
    out, seen = len(tensors["out.2.weight"]), tensors["input_blocks.0.0.weight"].shape[1]
    channels = out // 2
    if out % 2 or seen not in (channels, 2 * channels):
        raise ValueError(
            f"{place}: {out} channels are put out for {seen}: only networks that predict noise and variance "
            "(--learn_sigma) can be imported"
        )
    network = network_of(tensors, size, options, preset)
    source = options.source or size // 4
    model = ImprovedDDPM(
        network=network,
        schedule=CosineSchedule(1000) if cosine else LinearSchedule(1000),
        image_shape=(size, size, channels),
        num_classes=len(tensors.get("label_emb.weight", ())),
        source_shape=(source, source, channels) if seen > channels else None,
        sampling_steps=250,
    )
    check_groups(tensors, place)
    shapes, rules = shapes_of(model)["network"]["params"], network_rules(network, new_order)
    return Published(
        model, {"network": {"params": renamed(tensors, shapes, rules, place)}}, {"options": dataclasses.asdict(options)}
    )


def network_of(tensors: Tensors, size: int, options: Options, preset: Preset) -> ADM:
    """Returns the network of a file's tensors, for images with so many pixels a side."""
    head_channels = preset.head_channels if options.head_channels is None else options.head_channels
    return ADM(**shared_fields(tensors, layout_of(tensors), size, head_channels, options.heads))


def shared_fields(tensors: Tensors, layout: Layout, size: int, head_channels: int, heads: int) -> dict[str, Any]:
    """Returns the fields of a network, or of a classifier, for images with so many pixels a side."""
    first = "input_blocks.1.0."
    scale_and_shift = 2 * len(tensors[f"{first}out_layers.3.weight"])
    return {
        "width": layout.width,
        "multipliers": layout.multipliers,
        "blocks": layout.blocks,
        "attention_at": tuple(size >> level for level, attends in enumerate(layout.attends) if attends),
        "head_channels": head_channels or None,
        "heads": heads,
        "scale_shift": len(tensors[f"{first}emb_layers.1.weight"]) == scale_and_shift,
        "resample": "block" if layout.by_blocks else "conv",
    }


def layout_of(tensors: Tensors) -> Layout:
    """Finds levels, widths and attention from the names and shapes of tensors."""
    ups = {name.split(".")[1]: name for name in tensors if is_up(name)}
    count = len({name.split(".")[1] for name in tensors if name.startswith("output_blocks.")})
    blocks = min(map(int, ups), default=count - 1)
    width, levels = tensors["time_embed.0.weight"].shape[1], count // (blocks + 1)
    firsts = [1 + level * (blocks + 1) for level in range(levels)]  # of a level's blocks, after one that halves
    channels = [len(tensors[f"input_blocks.{at}.0.out_layers.3.weight"]) for at in firsts]
    return Layout(
        width,
        tuple(ratio(c, width) for c in channels),
        blocks,
        tuple(f"input_blocks.{at}.1.norm.weight" in tensors for at in firsts),
        any(name.endswith("in_layers.0.weight") for name in ups.values()),
    )


def ratio(channels: int, width: int) -> float:
    """Returns how many times the width a level is."""
    return channels // width if channels % width == 0 else channels / width


def is_up(name: str) -> bool:
    """Tells whether a tensor is of what doubles the resolution, which comes after a block and its attention."""
    whole = name.split(".", 3)
    return whole[0] == "output_blocks" and whole[2] != "0" and whole[3] in ("in_layers.0.weight", "conv.weight")


def check_groups(tensors: Tensors, place: str) -> None:
    """Raises ValueError for norms that have other groups here."""
    least = min(len(x) for name, x in tensors.items() if name.endswith(("in_layers.0.weight", "out_layers.0.weight")))
    if least < LEAST:
        raise ValueError(
            f"{place}: norms over {least} channels have {GROUPS} groups there and fewer here: only networks with at "
            f"least {LEAST} channels can be imported"
        )


BLOCK = [
    *norm("in_layers.0", "norm_1"),
    *convolution("in_layers.2", "conv_1"),
    *layer("emb_layers.1", "embed"),
    *norm("out_layers.0", "norm_2"),
    *convolution("out_layers.3", "conv_2"),
    *layer("skip_connection", "shortcut"),
]


def network_rules(network: ADM, new_order: bool) -> list[Rule]:
    """Returns the rules for a network of these fields."""
    attention = attention_rules(network, new_order)
    rules = unet_rules(len(network.multipliers), network.blocks, attention, "/attention")
    return [*rules, Rule("label_emb.weight", "label/kernel")]


def unet_rules(levels: int, blocks: int, attention: list[Rule], suffix: str) -> list[Rule]:
    """Returns the rules of a U-Net whose attention is under the name of a block with that suffix."""
    rules = within({"middle_block.0.": "middle_0/", "middle_block.2.": "middle_1/"}, BLOCK)
    rules += within({"middle_block.1.": f"middle_0{suffix}/"}, attention)
    each = blocks + 1
    for level in range(levels):
        down, up = level * each, (levels - 1 - level) * each  # the first of its blocks; of the former it halves
        places = {f"input_blocks.{down + 1 + i}": f"down_{level}_{i}" for i in range(each - 1)}
        places |= {f"output_blocks.{up + i}": f"up_{level}_{i}" for i in range(each)}
        rules += within({f"{theirs}.0.": f"{ours}/" for theirs, ours in places.items()}, BLOCK)
        rules += within({f"{theirs}.1.": f"{ours}{suffix}/" for theirs, ours in places.items()}, attention)
        if level > 0:
            changes = {f"input_blocks.{down}.0.": f"down_{level}"}
            changes |= {f"output_blocks.{up + each - 1}.{at}.": f"up_{level}" for at in (1, 2)}
            rules += within({theirs: f"{ours}/" for theirs, ours in changes.items()}, BLOCK)
            rules += within(changes, [*convolution("op", ""), *convolution("conv", "")])
    rules += [
        *convolution("input_blocks.0.0", "conv_in"),
        *norm("out.0", "norm_out"),
        *convolution("out.2", "conv_out"),
    ]
    return [*rules, *layer("time_embed.0", "time_0", sines_first), *layer("time_embed.2", "time_1")]


def attention_rules(network: ADM | ADMClassifier, new_order: bool) -> list[Rule]:
    """Returns the rules of attention, whose queries, keys and values are one head's after another's, or together."""

    def split(tensor: np.ndarray, form: functools.partial) -> list[np.ndarray]:
        channels = len(tensor) // 3
        heads = channels // network.head_channels if network.head_channels else network.heads
        return form(heads=1 if new_order else heads)(tensor)

    names = [f"{name}/" for name in ("query", "key", "value")]
    kernels = functools.partial(split, form=functools.partial(parts, 3, dense))
    biases = functools.partial(split, form=functools.partial(parts, 3))
    return [
        *norm("norm", "norm"),
        Rule("qkv.weight", [f"{name}kernel" for name in names], kernels),
        Rule("qkv.bias", [f"{name}bias" for name in names], biases),
        *layer("proj_out", "out"),
    ]
