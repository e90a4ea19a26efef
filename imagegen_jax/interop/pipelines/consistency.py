"""Consistency models (Song et al. 2023, arXiv 2303.01469) as diffusers saves them: a `Consistency` of one step.

Further steps are further levels: `--model.levels.sigmas 80 1.38`.
"""

from __future__ import annotations

import pathlib
from typing import Annotated

from imagegen_jax.core.config.bounds import Positive, Range
from imagegen_jax.diffusion.models.consistency import Consistency
from imagegen_jax.diffusion.sampling.levels import Listed
from imagegen_jax.interop.diffusers_config import check_class
from imagegen_jax.interop.diffusers_unets import rules_of, unet_of
from imagegen_jax.interop.importing import Published
from imagegen_jax.interop.pipelines.parts import Part, config_of, published
from imagegen_jax.interop.settings import Config, Settings, complete

SCHEDULER: Settings = {
    "clip_denoised": (True, (True, False)),
    "num_train_timesteps": (40, Annotated[int, Range(2, 1 << 20)]),  # to name levels by
    "rho": (7.0, Positive),
    "s_noise": (1.0, (1.0,)),
    "sigma_data": (0.5, Positive),
    "sigma_max": (80.0, Positive),
    "sigma_min": (0.002, Positive),
}
TIME_SCALE = 1000.0  # of log(sigma) / 4


def read(folder: pathlib.Path, index: Config) -> Published:
    """Reads a folder. Raises what `stable_diffusion.read` raises."""
    configs = {part: config_of(folder, part) for part in ("unet", "scheduler")}
    network, image_shape = unet_of(*configs["unet"])
    scheduler, place = configs["scheduler"]
    check_class(scheduler, ("CMStochasticIterativeScheduler",), place)
    found = complete(scheduler, SCHEDULER, place)
    if not found["sigma_min"] < found["sigma_max"]:
        raise ValueError(
            f"{place}: sigma_min={found['sigma_min']}, sigma_max={found['sigma_max']}: the first must be below the "
            "second; fetch the file again"
        )
    model = Consistency(
        network=network,
        levels=Listed((found["sigma_max"],)),
        image_shape=image_shape,
        num_classes=configs["unet"][0].get("num_class_embeds") or 0,
        **{name: found[name] for name in ("sigma_min", "sigma_max", "rho", "sigma_data")},
        time_scale=TIME_SCALE,
        clip=found["clip_denoised"],
    )
    return published(folder, model, configs, {"unet": Part("network", rules_of(network))})
