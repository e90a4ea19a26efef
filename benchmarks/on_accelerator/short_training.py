"""A GAN and a diffusion model that train for as long as there is time, and a grid of what they draw then."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from imagegen_jax import Experiment, Program, override
from imagegen_jax.core.drawing.draw import class_rows, label_conditions
from imagegen_jax.core.drawing.grid import grid, write_png
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.optim import Adam, WarmUp
from imagegen_jax.data import TFDS, Digits, HorizontalFlip
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.recipes.shipped import module_of
from on_accelerator.networks import NETWORKS
from on_accelerator.parts import Settings, Tell

RECIPES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "dcgan": ("dcgan_celeb_a64", {"model.image_shape": (32, 32, 3)}),
    "edm": (  # half as wide, without dropout and augmentation, and with averages for minutes
        "edm_cifar10",
        {
            "model.network.width": 64,
            "model.network.blocks": 2,
            "model.network.dropout": 0.0,
            "model.augment": None,
            "augment": (HorizontalFlip(),),
            "batch_size": 256,
            "optim.network": Adam(WarmUp(1e-3, steps=200)),
            "averages": {"ema": HalfLife(images=25_000)},
            "clip_norm": 1.0,
            "model.levels.steps": 16,
            "model.solver": DPMSolver(2),
        },
    ),
}
SAMPLES, TOGETHER = 100, 20  # images in a grid; steps between two looks at the clock
RESERVE = 5.0  # seconds for the grid, beside what its first draw took without compilation


def measure(settings: Settings, tell: Tell, name: str) -> None:
    """Tells how far it came; writes OUT/NAME.png."""
    program = Program(experiment_of(name, settings))
    state, samples = program.init(), 10 if settings.dry_run else SAMPLES
    tell({"data": str(program.experiment.data), "batch": program.experiment.batch_size})
    draw(program, state, samples)  # compiled before the time is spent
    begun = time.time()
    draw(program, state, samples)
    until = settings.until - RESERVE - 2 * (time.time() - begun)
    begun, step, metrics = time.time(), 0, {}
    while step < TOGETHER or (time.time() < until and not settings.dry_run):
        for step in range(step, step + TOGETHER):  # noqa: B020 -- goes on from where it is
            state, metrics = program.advance(state, step, program.batch(step))
        step += 1
        jax.block_until_ready(metrics)
    seconds = time.time() - begun
    picture = draw(program, state, samples)
    write_png(pathlib.Path(settings.out, f"{name}.png"), picture)
    tell(
        {
            "steps": step,
            "images": step * program.experiment.batch_size,
            "seconds": seconds,  # the first has the compilation of the step
            "metrics": {key: float(value) for key, value in metrics.items()},
            "picture": f"{name}.png",
        }
    )


def experiment_of(name: str, settings: Settings) -> Experiment:
    """The recipe for CIFAR-10, or for digits of its size where there are no such data."""
    recipe, changes = RECIPES[name]
    module = module_of(recipe)
    if settings.dry_run:
        return override(module.experiment, {**module.smoke, **(NETWORKS[recipe].tiny if recipe in NETWORKS else {})})
    data = TFDS("cifar10", data_dir=settings.data) if settings.data else Digits(size=32, channels=3)
    return override(module.experiment, {**changes, "data": data})


def draw(program: Program, state: Any, samples: int) -> np.ndarray:
    """A grid, with a class a row where there are classes."""
    labels, columns = class_rows(program.experiment.num_classes, samples)
    return grid(program.sample(state, samples, 0, label_conditions(labels)), columns)
