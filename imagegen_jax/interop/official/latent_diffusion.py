"""Checkpoints of CompVis/latent-diffusion with their first stage: by a class, as on ImageNet, or without a condition.

The U-Net is averaged where the file has both. What the file does not say comes from its shapes; how many heads attend
no shape says, and --set does.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import numpy as np

from imagegen_jax.autoencoders.first_stages.unquantised import Unquantised
from imagegen_jax.autoencoders.vqgan import VQGAN
from imagegen_jax.core.arrays.space import Latents
from imagegen_jax.core.config.bounds import Natural, Range
from imagegen_jax.core.files.weight_files import WeightFile
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process.times import WholeTimes
from imagegen_jax.diffusion.process.variance_preserving import Discrete
from imagegen_jax.diffusion.sampling.ancestral import EulerAncestral
from imagegen_jax.diffusion.sampling.levels import Spaced
from imagegen_jax.interop.importing import Published, shapes_of
from imagegen_jax.interop.name_map import Rule, Tensors, renamed
from imagegen_jax.interop.names.unets import TRANSFORMER
from imagegen_jax.interop.official import first_stage, guided_diffusion
from imagegen_jax.interop.official.guided_diffusion import Layout, attention_rules, check_groups, layout_of, unet_rules
from imagegen_jax.nn.backbones.adm import ADM
from imagegen_jax.nn.backbones.latent_unet import LatentUNet
from imagegen_jax.nn.distributions.noise_steps import LinearSchedule

UNET, AVERAGED, STAGE = "model.diffusion_model.", "model_ema.", "first_stage_model."
CLASSES = "cond_stage_model.embedding.weight"
STEPS, DROPPED = 50, 0.1  # of DDIM, in the authors' scripts; the share of labels that training dropped
HEAD_CHANNELS = 32  # of the published networks but those of `HEADS`
HEADS = {(192, 4): 1, (192, 5): 8}  # of published networks by width and levels: ImageNet's by a class, LSUN Churches'


@dataclasses.dataclass(frozen=True)
class Options:
    """What a checkpoint of latent diffusion does not say; the defaults are those of the published networks."""

    size: Annotated[int, Range(8, 1 << 14)] = 256  # height and width of its images
    heads: Natural = 0  # 0: as many as have `head_channels`, or those of the published network
    head_channels: Natural = 0  # where `heads` is 0; 0: those of the published network
    no_class: bool | None = None  # whether the last class stands for none; None: where there are 1001


def read(file: WeightFile, place: str, options: Options = Options()) -> Published:  # noqa: B008
    """Reads a model with its autoencoder. Raises ValueError where it is none of ours."""
    tensors = {name.removeprefix("state_dict/"): x for name, x in file.arrays.items()}
    unet, stage = unet_in(tensors), first_stage.autoencoder_in(tensors, STAGE)
    found, _ = first_stage.model_of(stage, {}, options.size)
    autoencoder: Any = Unquantised(found.image_shape, found.network) if isinstance(found, VQGAN) else found
    channels = check_conditions(tensors, unet, autoencoder.latent_shape[2], place)
    check_groups(unet, place)
    rows = len(tensors.get(CLASSES, ()))
    no_class = rows == 1001 if options.no_class is None else options.no_class and rows > 1
    side = autoencoder.latent_shape[0]
    network, rules = by_class(unet, tensors[CLASSES], options, no_class) if rows else plain(unet, side, options)
    schedule = schedule_of(tensors["betas"], place)
    model = Diffusion(
        network=network,
        prediction="epsilon",
        process=Discrete(schedule),
        times=WholeTimes(schedule.steps),
        levels=Spaced(schedule, min(STEPS, schedule.steps - 1), "leading", 1, to_zero=False),
        solver=EulerAncestral(eta=0.0),
        image_shape=(side, side, channels),
        num_classes=rows - no_class,
        label_dropout=DROPPED if no_class else 0.0,
        space=Latents(float(tensors.get("scale_factor", 1.0)), 0.0, autoencoder),
    )
    shapes = shapes_of(model)
    given = unet | ({"class": tensors[CLASSES]} if rows else {})
    nets = {"network": {"params": renamed(given, shapes["network"]["params"], rules, place)}}
    nets["autoencoder"] = first_stage.filled(stage, shapes["autoencoder"], first_stage.RULES, place)
    return Published(model, nets, {"options": dataclasses.asdict(options)})


def unet_in(tensors: Tensors) -> dict[str, np.ndarray]:
    """Returns the tensors of the U-Net, averaged ones in the place of those that have an average.

    Averages are in the file under the names without their dots.
    """
    found = {name.removeprefix(UNET): x for name, x in tensors.items() if name.startswith(UNET)}
    return {name: tensors.get(AVERAGED + f"diffusion_model.{name}".replace(".", ""), x) for name, x in found.items()}


def check_conditions(tensors: Tensors, unet: Tensors, channels: int, place: str) -> int:
    """Returns the channels of latents. Raises ValueError for a network that sees more than latents and a class."""
    others = [name for name in tensors if name.startswith("cond_stage_model.") and name != CLASSES]
    if others:
        raise ValueError(
            f"{place} has {others[0]}: of networks with a condition only those by a class can be imported from such "
            "files; those by a text from a folder that diffusers saved: imagegen import diffusers FOLDER"
        )
    seen, out = unet["input_blocks.0.0.weight"].shape[1], len(unet["out.2.weight"])
    if not seen == out == channels:
        raise ValueError(
            f"{place}: the U-Net sees {seen} channels and puts out {out}, and its autoencoder's latents have "
            f"{channels}: only networks that see nothing beside latents can be imported, no inpainting, no enlarging"
        )
    return channels


def plain(unet: Tensors, side: int, options: Options) -> tuple[ADM, list[Rule]]:
    """Returns the network without a condition, for latents of a height, and its rules."""
    heads, head_channels = heads_of(layout_of(unet), options)
    fields = guided_diffusion.Options(heads=heads, head_channels=head_channels or 0)
    network = guided_diffusion.network_of(unet, side, fields, guided_diffusion.Preset(side))
    network = network.clone(learned_variance=False)
    attention = attention_rules(network, new_order=False)
    return network, unet_rules(len(network.multipliers), network.blocks, attention, "/attention")


def by_class(unet: Tensors, table: np.ndarray, options: Options, no_class: bool) -> tuple[LatentUNet, list[Rule]]:
    """Returns the network that attends to a class's token, and its rules."""
    layout = layout_of(unet)
    depth = len({name.split(".")[3] for name in unet if name.startswith("middle_block.1.transformer_blocks.")})
    heads, head_channels = heads_of(layout, options)
    network = LatentUNet(
        layout.width,
        tuple(int(multiplier) for multiplier in layout.multipliers),
        layout.blocks,
        tuple(depth * attends for attends in layout.attends),
        head_channels=head_channels,
        heads=heads,
        class_token=table.shape[1],
        dropped_token=no_class,
    )
    rules = unet_rules(len(layout.multipliers), layout.blocks, TRANSFORMER, "_transformer")
    return network, [*rules, Rule("class", "label/kernel")]


def heads_of(layout: Layout, options: Options) -> tuple[int, int | None]:
    """Returns how many heads attend, and None; or, where each has as many channels, any number and these."""
    heads = options.heads
    if not heads and not options.head_channels:
        heads = HEADS.get((layout.width, len(layout.multipliers)), 0)
    return (heads, None) if heads else (1, options.head_channels or HEAD_CHANNELS)


def schedule_of(betas: np.ndarray, place: str) -> LinearSchedule:
    """Returns the schedule of a file's variances, whose roots grow evenly. Raises ValueError for another."""
    start, end = (float(f"{beta:.6g}") for beta in (betas[0], betas[-1]))
    schedule = LinearSchedule(len(betas), start, end, power=2.0)
    if not np.allclose(schedule.betas, betas, rtol=1e-4):
        raise ValueError(f"{place}: its betas are not those of latent diffusion's linear schedule: no other is read")
    return schedule
