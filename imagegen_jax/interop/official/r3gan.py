"""Pickles of brownvc/R3GAN: the averaged generator G_ema, and the discriminator D; their shapes say all."""

from __future__ import annotations

import re

import numpy as np

from imagegen_jax.core.files.weight_files import WeightFile, with_prefix
from imagegen_jax.gan.r3gan import R3GAN, Discriminator, Generator, Stages
from imagegen_jax.interop.importing import Published, completed, shapes_of
from imagegen_jax.interop.name_map import (
    Rule,
    Tensors,
    channels_last,
    dense,
    kernel,
    renamed,
    within,
)

EXPANSION = 2  # of blocks, in all published networks
MODEL = "Model."  # all names begin so


def read(file: WeightFile, place: str) -> Published:
    """Reads a generator, and a discriminator where there is one. Raises ValueError where they are none of ours."""
    made = with_prefix(file.arrays, "G_ema", place)
    judge = with_prefix(file.arrays, "D", place) if any(name.startswith("D/") for name in file.arrays) else {}
    stages = stages_of(made)
    label, latent = made.get(f"{MODEL}EmbeddingLayer.weight"), made[f"{MODEL}MainLayers.0.Layers.0.LinearLayer.weight"]
    classes, embedding = (0, 1) if label is None else (label.shape[1], label.shape[0])
    shared = judge.get(f"{MODEL}EmbeddingLayer.weight")
    side = 4 << (len(stages.widths) - 1)
    model = R3GAN(
        image_shape=(side, side, len(made[f"{MODEL}AggregationLayer.Layer.weight"])),
        num_classes=classes,
        generator=Generator(stages, embedding),
        discriminator=Discriminator(stages, embedding if shared is None else len(shared)),
        latent_dim=latent.shape[1] - (embedding if classes else 0),
    )
    shapes = shapes_of(model)
    nets = {"generator": renamed(made, shapes["generator"], generator_rules(stages), f"{place}, G_ema")}
    if judge:
        nets["discriminator"] = renamed(judge, shapes["discriminator"], discriminator_rules(stages), f"{place}, D")
    return Published(model, completed(model, nets, shapes), {})


def stages_of(made: Tensors) -> Stages:
    """Finds the stages of a generator from the shapes of its grouped convolutions."""
    found: dict[int, list[np.ndarray]] = {}
    for name, tensor in made.items():
        if at := re.fullmatch(r"Model\.MainLayers\.(\d+)\.Layers\.\d+\.LinearLayer2\.Layer\.weight", name):
            found.setdefault(int(at[1]), []).append(tensor)
    firsts = [found[at][0] for at in range(len(found))]
    return Stages(
        widths=tuple(len(first) // EXPANSION for first in firsts),
        groups=tuple(len(first) // first.shape[1] for first in firsts),
        blocks=tuple(len(found[at]) for at in range(len(found))),
    )


BLOCK = [
    Rule("LinearLayer1.Layer.weight", "Linear_0/kernel", dense),
    Rule("LinearLayer2.Layer.weight", "kernel", kernel),
    Rule("LinearLayer3.Layer.weight", "Linear_1/kernel", dense),
    Rule("NonLinearity1.Bias", "bias_1"),
    Rule("NonLinearity2.Bias", "bias_2"),
]
# Filters, and what belongs to both networks.
COMMON = [
    Rule("EmbeddingLayer.weight", "label/kernel", dense),
    Rule("MainLayers.{i}.Layers.{j}.Resampler.Kernel", ()),
]


def generator_rules(stages: Stages) -> list[Rule]:
    """Returns the rules for a generator, whose layers and blocks are counted in their order here."""
    rules = [Rule("MainLayers.0.Layers.0.Basis", "basis", channels_last)]
    layers = ["MainLayers.0.Layers.0.LinearLayer"]
    layers += [f"MainLayers.{i}.Layers.0.LinearLayer.Layer" for i in changes(stages)]
    blocks = [f"MainLayers.{i}.Layers.{j + 1}." for i, count in enumerate(stages.blocks) for j in range(count)]
    return _numbered([*layers, "AggregationLayer.Layer"], blocks, rules)


def discriminator_rules(stages: Stages) -> list[Rule]:
    """Returns the rules for a discriminator, which goes through the stages from the last to the first."""
    last = len(stages.widths) - 1
    basis = f"MainLayers.{last}.Layers.{stages.blocks[0]}"
    rules = [Rule(f"{basis}.Basis.weight", "basis", lambda tensor: channels_last(tensor[:, 0]))]
    layers = ["ExtractionLayer.Layer"]
    layers += [f"MainLayers.{last - i}.Layers.{stages.blocks[i]}.LinearLayer.Layer" for i in reversed(changes(stages))]
    blocks = [f"MainLayers.{last - i}.Layers.{j}." for i in range(last, -1, -1) for j in range(stages.blocks[i])]
    return _numbered([*layers, f"{basis}.LinearLayer"], blocks, rules)


def changes(stages: Stages) -> list[int]:
    """Returns the stages that have other channels than the one before."""
    return [i for i in range(1, len(stages.widths)) if stages.widths[i] != stages.widths[i - 1]]


def _numbered(layers: list[str], blocks: list[str], rules: list[Rule]) -> list[Rule]:
    rules += [Rule(f"{name}.weight", f"Linear_{i}/kernel", dense) for i, name in enumerate(layers)]
    rules += within({name: f"Block_{i}/" for i, name in enumerate(blocks)}, BLOCK)
    return within({MODEL: "params/"}, rules + COMMON)
