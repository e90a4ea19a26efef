"""Images a second that samplers draw, from networks whose weights are random: that changes no time."""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np

from imagegen_jax import Experiment, override
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.drawing.draw import sample
from imagegen_jax.core.experiment import initializer
from on_accelerator.networks import NETWORKS, experiment_of, zeros
from on_accelerator.parts import Settings, Tell

ORDER = ("edm_cifar10", "ddpm_cifar10", "stylegan2_256", "dit_xl2_imagenet256")
TIMES = 3  # chunks that are drawn after the first


def measure(settings: Settings, tell: Tell) -> None:
    """Tells of each network with the solver and steps of its recipe, or those in `NETWORKS`."""
    compiling.use_persistent_cache()
    for name in ORDER[-1:] if settings.dry_run else ORDER:
        experiment = experiment_of(name, settings.dry_run)
        if not settings.dry_run:
            experiment = override(experiment, NETWORKS[name].sampling)
        chunk = 8 if settings.dry_run else NETWORKS[name].chunk * len(jax.devices())
        tell({name: of_sampler(experiment, chunk, dict(NETWORKS[name].conditions))})


def of_sampler(experiment: Experiment, chunk: int, conditions: dict[str, Any]) -> dict[str, Any]:
    """Seconds until the first chunk, compilation included, and of each that follows."""
    model = experiment.model
    nets = jax.block_until_ready(compiling.jit(initializer(model))(np.uint32(0), zeros(experiment)))
    if experiment.num_classes:
        conditions["label"] = np.arange(chunk, dtype=np.int32) % experiment.num_classes
    seconds = []
    for seed in range(1 + TIMES):
        begun = time.perf_counter()
        sample(model, nets, chunk, seed, conditions, chunk)
        seconds.append(time.perf_counter() - begun)
    first, *others = seconds
    fastest = min(others)  # what is drawn goes to the host, which has other things to do now and then
    return {"chunk": chunk, "first_seconds": first, "seconds": others, "images_per_second": chunk / fastest}
