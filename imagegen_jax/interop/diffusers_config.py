"""Configurations of the library diffusers as a model of this one: a `UNet2DModel` of DDPM's design, and its scheduler.

Where a file leaves a setting out, the default of diffusers holds here too. An error names a value that the network or
the samplers of this package do not support, and a setting that is unknown: ignoring either would give other images than
the model was trained for.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp

from imagegen_jax.core.config.bounds import BelowOne, Positive, Range, Share
from imagegen_jax.diffusion.models.ddpm import DDPM
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process.prediction import Kind
from imagegen_jax.diffusion.process.times import WholeTimes
from imagegen_jax.diffusion.process.variance_preserving import Discrete
from imagegen_jax.diffusion.sampling.ancestral import DDPMAncestral, EulerAncestral
from imagegen_jax.diffusion.sampling.discrete_time import DDIM, Ancestral, AnySampler
from imagegen_jax.diffusion.sampling.levels import Spaced
from imagegen_jax.interop.diffusers_solvers import SOLVERS, flow, settings_of, solved, spaced_as_said
from imagegen_jax.interop.settings import Config, Settings, complete, short
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.denoising import AnyNetwork
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.distributions.noise_steps import CosineSchedule, LinearSchedule
from imagegen_jax.nn.norm import group_norm

# Far above any network's: a configuration must not fill the memory before the weights show that it is wrong.
Side = Annotated[int, Range(1, 1 << 14)]
Channels = Annotated[int, Range(1, 1 << 16)]
Few = Annotated[int, Range(1, 64)]
Steps = Annotated[int, Range(1, 1 << 20)]

DDIM_STEPS = 50  # the default of its pipeline; no file holds it

UNET: Settings = {
    "act_fn": ("silu", ("silu", "swish")),
    "add_attention": (True, (True,)),
    "attention_head_dim": (8, (None,)),  # None: one head
    "attn_norm_num_groups": (None, (None,)),
    "block_out_channels": ((224, 448, 672, 896), tuple[Channels, ...]),
    "center_input_sample": (False, (False,)),
    "class_embed_type": (None, (None,)),
    "down_block_types": (("DownBlock2D", *3 * ("AttnDownBlock2D",)), tuple[str, ...]),
    "downsample_padding": (1, (0,)),  # 0: below and right only, as TensorFlow pads
    "downsample_type": ("conv", ("conv",)),
    "dropout": (0.0, BelowOne),
    "flip_sin_to_cos": (True, (False,)),
    "freq_shift": (0, (1,)),  # 1: the lowest frequency is among them
    "in_channels": (3, Channels),
    "layers_per_block": (2, Few),
    "mid_block_scale_factor": (1, (1,)),
    "mid_block_type": ("UNetMidBlock2D", ("UNetMidBlock2D",)),
    "norm_eps": (1e-5, (1e-6,)),
    "norm_num_groups": (32, Channels),
    "num_class_embeds": (None, Channels | None),
    "num_train_timesteps": (None, Steps | None),  # of learned embeddings alone
    "out_channels": (3, Channels),
    "resnet_time_scale_shift": ("default", ("default",)),
    "sample_size": (None, Side | tuple[Side, Side] | None),
    "time_embedding_dim": (None, (None,)),
    "time_embedding_type": ("positional", ("positional",)),
    "up_block_types": ((*3 * ("AttnUpBlock2D",), "UpBlock2D"), tuple[str, ...]),
    "upsample_type": ("conv", ("conv",)),
}
SCHEDULER: Settings = {
    "beta_end": (0.02, Share),
    "beta_schedule": ("linear", ("linear", "scaled_linear", "squaredcos_cap_v2")),
    "beta_start": (1e-4, Share),
    "clip_sample": (True, (True, False)),
    "clip_sample_range": (1.0, (1.0,)),
    "dynamic_thresholding_ratio": (0.995, Share),  # of thresholding alone, as is sample_max_value
    "num_train_timesteps": (1000, Steps),
    "prediction_type": ("epsilon", ("epsilon", "sample", "v_prediction")),
    "rescale_betas_zero_snr": (False, (False,)),
    "sample_max_value": (1.0, Positive),
    "set_alpha_to_one": (True, (True, False)),
    "skip_prk_steps": (False, (True, False)),  # of PNDM, whose files some were made from
    "steps_offset": (0, Annotated[int, Range(0, 1 << 20)]),
    "thresholding": (False, (False,)),
    "timestep_values": (None, (None,)),  # of the first versions
    "timestep_spacing": ("leading", ("leading", "trailing")),
    "trained_betas": (None, (None,)),
    "variance_type": ("fixed_small", ("fixed_small", "fixed_small_log", "fixed_large")),
}
PREDICTIONS: Mapping[str, Kind] = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v"}


def network_of(config: Config, place: str) -> tuple[UNet, tuple[int, int, int]]:
    """Makes the network of a `UNet2DModel`'s configuration, which was read at `place`, and returns its image shape too.

    Raises ValueError, and names setting, place and remedy, where the `UNet` of this package cannot be that network.
    """
    check_class(config, ("UNet2DModel",), place)
    found = complete(config, UNET, place)
    height, width = height_and_width(found["sample_size"], place)
    channels, first = found["block_out_channels"], found["block_out_channels"][0]
    if found["in_channels"] != found["out_channels"]:
        raise ValueError(
            f"{place}: in_channels={found['in_channels']}, out_channels={found['out_channels']}: only networks whose "
            "output has the channels of their input can be imported, without a variance or a condition"
        )
    if any(c % first for c in channels):
        raise ValueError(
            f"{place}: block_out_channels={channels}: only multiples of the first, {first}, can be imported"
        )
    network = UNet(
        width=first,
        multipliers=tuple(c // first for c in channels),
        blocks=found["layers_per_block"],
        attention_at=tuple(height >> level for level in attention_levels(found, place)),
        dropout=found["dropout"],
    )
    shape = (height, width, found["in_channels"])
    try:
        parameters = abstract_parameters(network, shape)
    except ValueError as error:
        sizes = f"sample_size={found['sample_size']}, block_out_channels={short(channels)}"
        raise ValueError(f"{place}: {sizes}: these do not go together: {error}") from error
    check_groups(parameters, found["norm_num_groups"], place)
    return network, shape


def model_of(
    network: AnyNetwork, image_shape: tuple[int, int, int], scheduler: Config, place: str, num_classes: int = 0
) -> DDPM | Diffusion:
    """Makes the model of a network and of a scheduler's configuration, which was read at `place`.

    It is a `DDPM` where the configuration fits that class: the network predicts the noise, the schedule is linear, and
    estimates of the image are clipped. Otherwise it is a `Diffusion`. A DDIMScheduler's steps keep the noise of
    estimates before they are clipped, as the pipelines of diffusers do (`use_clipped_model_output=False`); setting
    `clipped_noise` of the sampler, or of the solver, to true keeps that of clipped ones. Raises ValueError as
    `network_of` does.
    """
    fields = sampling_of(scheduler, place)
    solver, levels = fields["solver"], fields["levels"]
    if isinstance(solver, DDPMAncestral | EulerAncestral) and fields["prediction"] == "epsilon" and fields["clip"]:
        schedule = fields["process"].schedule
        if isinstance(schedule, LinearSchedule) and not levels.offset and levels.to_zero:
            ddim = DDIM(levels.steps or schedule.steps, spacing=levels.spacing, clipped_noise=False)
            sampler: AnySampler = Ancestral(variance=solver.variance) if isinstance(solver, DDPMAncestral) else ddim
            return DDPM(network, schedule, sampler, image_shape, num_classes)
    return Diffusion(network=network, image_shape=image_shape, num_classes=num_classes, **fields)


def sampling_of(scheduler: Config, place: str) -> dict[str, Any]:
    """Returns the fields of a `Diffusion` that a scheduler's configuration tells, which was read at `place`.

    Raises ValueError for a scheduler, or a setting, that is not supported here.
    """
    kind = check_class(scheduler, ("DDPMScheduler", "DDIMScheduler", *SOLVERS), place)
    found = settings_of(scheduler, place) if kind in SOLVERS else complete(scheduler, SCHEDULER, place)
    if "shift" in found:
        return flow(found)
    schedule = _schedule(found, place)
    stepped = kind not in SOLVERS
    path: tuple[Any, Any] = _stepped(kind, found, schedule, place) if stepped else solved(kind, found, schedule, place)
    return {
        "prediction": PREDICTIONS[found["prediction_type"]],
        "process": Discrete(schedule),
        "times": WholeTimes(schedule.steps),
        "levels": path[1],
        "solver": path[0],
        "clip": stepped and found["clip_sample"],
    }


def _stepped(
    kind: str, found: Mapping[str, Any], schedule: LinearSchedule | CosineSchedule, place: str
) -> tuple[DDPMAncestral | EulerAncestral, Spaced]:
    """Returns solver and levels of a DDPMScheduler or a DDIMScheduler."""
    if kind == "DDPMScheduler":
        variance: Literal["large", "small"] = "large" if found["variance_type"] == "fixed_large" else "small"
        return DDPMAncestral(variance), Spaced(schedule, None, found["timestep_spacing"])
    return EulerAncestral(eta=0.0, clipped_noise=False), spaced_as_said(found, schedule, DDIM_STEPS, place)


@functools.lru_cache(maxsize=8)
def abstract_parameters(network: UNet, image_shape: tuple[int, int, int], num_classes: int = 0) -> Any:
    """Returns the shapes of the network's parameters. Raises ValueError where its levels cannot halve the image."""
    key, image, t = jax.random.key(0), jnp.zeros((1, *image_shape)), jnp.zeros(1)
    told = Conditioning(jnp.zeros((1, num_classes)) if num_classes else None)
    return jax.eval_shape(network.init, key, image, t, told)["params"]


def check_class(config: Config, known: tuple[str, ...], place: str) -> str:
    """Returns the name of a configuration's class. Raises ValueError where it is none of those that are known."""
    name = config.get("_class_name")
    if name not in known:
        raise ValueError(f"{place}: _class_name={short(name)}: only {' and '.join(known)} can be imported")
    return str(name)


def height_and_width(size: Any, place: str) -> tuple[int, int]:
    """Returns both sides of a size, of one number or two. Raises ValueError where it is left out."""
    if size is None:
        raise ValueError(f"{place}: sample_size is not there: add the height of its images, such as 32, or both sides")
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def attention_levels(found: Mapping[str, Any], place: str, word: str = "Attn") -> list[int]:
    """Returns the levels whose blocks attend, 0 at the top; the names of their kinds begin with `word`.

    Raises ValueError where blocks attend at other levels on the way up than on the way down.
    """
    attends = {}
    for way, kind in (("down", "Down"), ("up", "Up")):
        types, known = found[f"{way}_block_types"], {f"{kind}Block2D": False, f"{word}{kind}Block2D": True}
        for name in types:
            if name not in known:
                kinds, said = " and ".join(known), f"{way}_block_types={short(types)}"
                raise ValueError(f"{place}: {said}: only {kinds} can be imported, not {name!r}")
        if len(types) != len(found["block_out_channels"]):
            raise ValueError(
                f"{place}: {len(types)} {way}_block_types, but {len(found['block_out_channels'])} block_out_channels: "
                "give a block for each"
            )
        attends[way] = [known[name] for name in types]
    if attends["down"] != attends["up"][::-1]:
        raise ValueError(
            f"{place}: up_block_types={list(found['up_block_types'])} attend at other levels than down_block_types="
            f"{list(found['down_block_types'])}: only networks that attend at the same levels both ways can be imported"
        )
    return [level for level, attention in enumerate(attends["down"]) if attention]


def check_groups(parameters: Any, groups: int, place: str) -> None:
    """Raises ValueError where a group norm has other groups here; norms inside a transformer's blocks have none."""
    for path, leaf in jax.tree.leaves_with_path(parameters):
        if path[-1].key == "scale" and not any(part.key.startswith("block_") for part in path):
            ours = group_norm(leaf.size, jnp.dtype(jnp.float32), "norm").num_groups
            if ours != groups:
                raise ValueError(
                    f"{place}: norm_num_groups={groups}, but {leaf.size} channels have {ours} groups here (see "
                    "`group_norm`): a model with other groups cannot be imported"
                )


def _schedule(found: Mapping[str, Any], place: str) -> LinearSchedule | CosineSchedule:
    steps, start, end = found["num_train_timesteps"], found["beta_start"], found["beta_end"]
    if found["beta_schedule"] == "squaredcos_cap_v2":
        return CosineSchedule(steps)
    if not 0 < start <= end < 1:
        raise ValueError(f"{place}: beta_start={start}, beta_end={end}: must obey 0 < beta_start <= beta_end < 1")
    return LinearSchedule(steps, start, end, 2.0 if found["beta_schedule"] == "scaled_linear" else 1.0)
