"""State dicts of openai/guided-diffusion's classifiers of noisy images, the first half of ADM's network with a pool."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np

from imagegen_jax.core.config.bounds import Natural, Range
from imagegen_jax.core.files.weight_files import WeightFile
from imagegen_jax.diffusion.models.noisy_classifier import NoisyClassifier
from imagegen_jax.diffusion.process.times import WholeTimes
from imagegen_jax.diffusion.process.variance_preserving import Discrete
from imagegen_jax.interop.importing import Published, shapes_of
from imagegen_jax.interop.name_map import Rule, Tensors, fused, layer, renamed
from imagegen_jax.interop.official.guided_diffusion import (
    PRESETS,
    Layout,
    Preset,
    attention_rules,
    check_groups,
    ratio,
    shared_fields,
    unet_rules,
)
from imagegen_jax.nn.backbones.adm import ADMClassifier
from imagegen_jax.nn.distributions.noise_steps import CosineSchedule, LinearSchedule


@dataclasses.dataclass(frozen=True)
class Options:
    """What a state dict of a classifier does not say; the defaults are those of the published ones of its levels."""

    size: Natural = 0  # height and width of images, where several networks have such layers; 0: the only one, published
    cosine: bool | None = None  # whether the schedule is the cosine one, not the linear one
    head_channels: Natural = 64  # 0: `heads` heads
    heads: Annotated[int, Range(1, 64)] = 4
    new_order: bool = False  # use_new_attention_order, in all blocks; the pool always has it


def read(file: WeightFile, place: str, options: Options = Options()) -> Published:  # noqa: B008
    """Reads a classifier that pools by attention. Raises ValueError where it is none of ours."""
    tensors = file.arrays
    check_groups(tensors, place)
    layout, size = layout_of(tensors, place, options.size)
    shared = shared_fields(tensors, layout, size, options.head_channels, options.heads)
    network = ADMClassifier(num_classes=len(tensors["out.2.c_proj.weight"]), **shared)
    preset = PRESETS.get(layout.multipliers, Preset(0))
    cosine = preset.cosine if options.cosine is None else options.cosine
    model = NoisyClassifier(
        network=network,
        process=Discrete(CosineSchedule(1000) if cosine else LinearSchedule(1000)),
        times=WholeTimes(1000),
        precondition=False,
        image_shape=(size, size, tensors["input_blocks.0.0.weight"].shape[1]),
    )
    shapes, rules = shapes_of(model)["network"]["params"], network_rules(network, options.new_order)
    nets = {"network": {"params": renamed(tensors, shapes, rules, place)}}
    return Published(model, nets, {"options": dataclasses.asdict(options)})


def network_rules(network: ADMClassifier, new_order: bool) -> list[Rule]:
    """Returns the rules for a network of these fields."""
    attention = attention_rules(network, new_order)
    return [
        *unet_rules(len(network.multipliers), network.blocks, attention, "/attention"),
        Rule("out.2.positional_embedding", "pool/position", np.transpose),
        *fused("out.2.qkv_proj", [f"pool/{name}" for name in ("query", "key", "value")]),
        *layer("out.2.c_proj", "pool/out"),
    ]


def layout_of(tensors: Tensors, place: str, size: int) -> tuple[Layout, int]:
    """Finds the levels, and the size of images, which names leave open: what halves has the names of a block.

    Raises ValueError where no layout of these layers is for images of `size` pixels a side; 0: of any size.
    """
    lowest = round((tensors["out.2.positional_embedding"].shape[1] - 1) ** 0.5)
    count = len({name.split(".")[1] for name in tensors if name.startswith("input_blocks.")})
    found = {}
    for levels in range(1, count // 2 + 1):
        if count % levels == 0 and (layout := _layout(tensors, levels, count // levels)):
            found[lowest << (levels - 1)] = layout
    published = {side for side, layout in found.items() if PRESETS.get(layout.multipliers, Preset(0)).size == side}
    chosen = {size} if size else published if len(found) > 1 else set(found)
    if len(chosen & found.keys()) == 1:
        (side,) = chosen
        return found[side], side
    sizes = " or ".join(map(str, found)) or "no"
    remedy = f"--set size={next(iter(found))}" if found else "give the file as it was published"
    raise ValueError(f"{place}: its layers are those of a classifier of images of size={sizes}, not {size}: {remedy}")


def _layout(tensors: Tensors, levels: int, each: int) -> Layout | None:
    """Returns the layout of levels with so many modules each, of which the last halves; None where it is none."""
    width, by_level, attends = tensors["time_embed.0.weight"].shape[1], list[int](), list[bool]()
    for level in range(levels):
        modules = range(1 + level * each, (level + 1) * each)
        channels = {_channels(tensors, at) for at in modules}
        attention = {f"input_blocks.{at}.1.norm.weight" in tensors for at in modules}
        last = (level + 1) * each
        if level < levels - 1:
            channels.add(_channels(tensors, last))
        if len(channels) > 1 or len(attention) > 1 or f"input_blocks.{last}.1.norm.weight" in tensors:
            return None
        by_level += channels
        attends += attention
    by_blocks = not any(name.endswith(".0.op.weight") for name in tensors)
    return Layout(width, tuple(ratio(c, width) for c in by_level), each - 1, tuple(attends), by_blocks)


def _channels(tensors: Tensors, at: int) -> int:
    """Returns the channels that a module of the way down puts out."""
    names = (f"input_blocks.{at}.0.{name}.weight" for name in ("out_layers.3", "op"))
    return next(len(tensors[name]) for name in names if name in tensors)
