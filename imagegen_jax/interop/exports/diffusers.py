"""A diffusion model of DDPM's U-Net as a folder that diffusers reads: configurations, weights, pipeline."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from imagegen_jax.core.model import Model
from imagegen_jax.core.run import Run
from imagegen_jax.diffusion.models.ddpm import DDPM
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.process.variance_preserving import Discrete
from imagegen_jax.diffusion.sampling.ancestral import DDPMAncestral
from imagegen_jax.diffusion.sampling.discrete_time import DDIM, Ancestral
from imagegen_jax.diffusion.sampling.levels import Spaced
from imagegen_jax.interop.diffusers_config import PREDICTIONS, UNET, model_of, network_of
from imagegen_jax.interop.name_map import as_published
from imagegen_jax.interop.names import unets
from imagegen_jax.interop.settings import Config, Settings
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.nn.distributions.noise_steps import CosineSchedule, LinearSchedule
from imagegen_jax.nn.norm import group_norm

FILE = "diffusion_pytorch_model.safetensors"
VERSION = "0.42.1"  # of diffusers, that the folder was tried with
SHARED = {"clip_sample": True, "clip_sample_range": 1.0, "prediction_type": "epsilon", "trained_betas": None}
REMEDY = "--to safetensors writes the weights of any model"


def export_diffusers(run: Run, folder: pathlib.Path) -> None:
    """Writes model_index.json, unet/ and scheduler/. Raises ValueError for a model that diffusers does not have."""
    from safetensors.numpy import save_file

    model = run.experiment.model
    unet, scheduler = configurations(model)
    pipeline = {
        "_class_name": scheduler["_class_name"].replace("Scheduler", "Pipeline"),
        "_diffusers_version": VERSION,
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", scheduler["_class_name"]],
    }
    tensors = as_published(run.nets["network"]["params"], unets.ddpm(len(unet["block_out_channels"])))
    (folder / "unet").mkdir()
    (folder / "scheduler").mkdir()
    save_file(tensors, folder / "unet" / FILE, {"format": "pt"})
    for name, config in (
        ("model_index.json", pipeline),
        ("unet/config.json", unet),
        ("scheduler/scheduler_config.json", scheduler),
    ):
        (folder / name).write_text(json.dumps(config, indent=2) + "\n")


def configurations(model: Model) -> tuple[Config, Config]:
    """Returns the configurations of a model's network and scheduler, such that their import is that model.

    Raises ValueError for a model that diffusers does not have.
    """
    if not isinstance(model, DDPM | Diffusion) or not isinstance(model.network, UNet):
        raise ValueError(
            f"a {type(model).__name__} is none of those that diffusers has with DDPM's U-Net (`UNet2DModel`): {REMEDY}"
        )
    unet, scheduler = unet_of(model.network, model.image_shape, model.num_classes), scheduler_of(model)
    network, shape = network_of(unet, "the network")
    found = model_of(network, shape, scheduler, "the scheduler", model.num_classes)
    ours = dataclasses.replace(model, network=_without_arithmetic(model.network, network))
    if _unsampled(found) != _unsampled(ours):
        raise ValueError(f"diffusers has no model with all settings of {ours}; the nearest is {found}: {REMEDY}")
    return unet, scheduler


def unet_of(network: UNet, image_shape: tuple[int, int, int], num_classes: int) -> dict[str, Any]:
    """Returns the configuration of a network that sees labels of so many classes, or none."""
    height, width, channels = image_shape
    levels = range(len(network.multipliers))
    attends = ["Attn" * (height >> level in network.attention_at) for level in levels]
    given = {
        "block_out_channels": [network.width * multiplier for multiplier in network.multipliers],
        "down_block_types": [f"{word}DownBlock2D" for word in attends],
        "dropout": network.dropout,
        "in_channels": channels,
        "layers_per_block": network.blocks,
        "norm_num_groups": group_norm(network.width, np.dtype(np.float32), "norm").num_groups,
        "num_class_embeds": num_classes or None,
        "out_channels": channels,
        "sample_size": height if height == width else [height, width],
        "up_block_types": [f"{word}UpBlock2D" for word in reversed(attends)],
    }
    return {"_class_name": "UNet2DModel", "_diffusers_version": VERSION, **supported(UNET), **given}


def scheduler_of(model: DDPM | Diffusion) -> dict[str, Any]:
    """Returns the configuration of a schedule and a way to sample: a DDPMScheduler, or a DDIMScheduler."""
    process = Discrete(model.schedule) if isinstance(model, DDPM) else model.process
    schedule = process.schedule if isinstance(process, Discrete) else None
    if not isinstance(schedule, LinearSchedule | CosineSchedule):
        raise ValueError(f"{model}: diffusers has the linear and the cosine schedule: {REMEDY}")
    given = {"num_train_timesteps": schedule.steps, **SHARED}
    if isinstance(schedule, LinearSchedule):
        kinds = {1.0: "linear", 2.0: "scaled_linear"}
        kind = kinds.get(schedule.power, "linear")
        given |= {"beta_start": schedule.start, "beta_end": schedule.end, "beta_schedule": kind}
    else:
        given["beta_schedule"] = "squaredcos_cap_v2"
    if isinstance(model, Diffusion):
        words = {kind: word for word, kind in PREDICTIONS.items()}
        given |= {"clip_sample": model.clip, "prediction_type": words.get(model.prediction, "epsilon")}
    path = model.sampler if isinstance(model, DDPM) else model.solver
    if isinstance(path, Ancestral | DDPMAncestral):
        given["variance_type"] = "fixed_large" if path.variance == "large" else "fixed_small"
        return {"_class_name": "DDPMScheduler", "_diffusers_version": VERSION, **given}
    spaced = path if isinstance(model, DDPM) else model.levels
    spacing = spaced.spacing if isinstance(spaced, DDIM | Spaced) else None
    given["timestep_spacing"] = spacing if spacing in ("leading", "trailing") else "leading"
    levels = model.levels if isinstance(model, Diffusion) and isinstance(model.levels, Spaced) else Spaced()
    given |= {"set_alpha_to_one": levels.to_zero, "steps_offset": levels.offset}
    return {"_class_name": "DDIMScheduler", "_diffusers_version": VERSION, **given}


def supported(settings: Settings) -> dict[str, Any]:
    """Returns the value that is supported here of each setting that has one alone."""
    return {name: known[0] for name, (_, known) in settings.items() if isinstance(known, tuple)}


def _without_arithmetic(ours: UNet, found: UNet) -> UNet:
    """Returns the network as it is read again: without how it computes, and heights that do not occur."""
    same = set(found.attention_at) <= set(ours.attention_at)
    return ours.clone(
        attention=found.attention, dtype=found.dtype, **({"attention_at": found.attention_at} if same else {})
    )


def _unsampled(model: Any) -> Any:
    """Returns the model without its way to sample, which a configuration says only in part."""
    if isinstance(model, DDPM):
        return dataclasses.replace(model, sampler=Ancestral())
    return dataclasses.replace(model, solver=DDPMAncestral(), levels=Spaced())
