"""The networks that are timed: recipes, with batches for one device of 80 GB, on random images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from imagegen_jax import Experiment, override
from imagegen_jax.core.experiment import example_batch, model_row_shapes
from imagegen_jax.data.source import Dataset
from imagegen_jax.diffusion.sampling.discrete_time import DDIM
from imagegen_jax.recipes.shipped import module_of


class Network(NamedTuple):
    """A recipe with changes."""

    recipe: str
    batch: int  # images on each device in a training step
    chunk: int  # images on each device that are drawn at a time
    changes: Mapping[str, Any] = {}  # of the model
    sampling: Mapping[str, Any] = {}  # likewise, when samples are drawn
    conditions: Mapping[str, Any] = {}
    tiny: Mapping[str, Any] = {}  # changes to the recipe's smoke settings


TINY_UNET = {"model.network.multipliers": (1,), "model.network.attention_at": ()}
LATENTS = ("dit_xl2_imagenet256",)
NETWORKS = {
    "ddpm_cifar10": Network("ddpm_cifar10", 128, 256, sampling={"model.sampler": DDIM(50)}, tiny=TINY_UNET),
    "dit_xl2_imagenet256": Network(
        "dit_xl2_imagenet256", 128, 32, sampling={"model.sampling_steps": 50}, conditions={"guidance": 1.5}
    ),
    "edm_cifar10": Network("edm_cifar10", 256, 256, tiny=TINY_UNET | {"model.augment": None}),
    "stylegan2_256": Network(  # the paper's half as wide networks for 256x256, on which most scores are published
        "stylegan2_ffhq1024",
        32,
        64,
        {
            "model.image_shape": (256, 256, 3),
            "model.generator.channel_base": 16_384,
            "model.discriminator.channel_base": 16_384,
        },
    ),
}
ROWS = 256  # images that batches are taken from, again and again


def experiment_of(name: str, dry_run: bool) -> Experiment:
    """The recipe with its changes, for all devices of this machine."""
    of, module = NETWORKS[name], module_of(NETWORKS[name].recipe)
    if dry_run:
        return override(module.experiment, {**module.smoke, **of.tiny})
    experiment = override(module.experiment, of.changes)
    return dataclasses.replace(experiment, batch_size=of.batch * len(jax.devices()))


def random_data(experiment: Experiment) -> Dataset:
    """Random images or latents of the model's size, and labels where it has classes."""
    generator, rows = np.random.default_rng(0), model_row_shapes(experiment)
    shape = (ROWS, *rows["image"].shape)
    latent = experiment.name in LATENTS
    images = generator.normal(size=shape).astype(np.float32) if latent else generator.integers(0, 256, shape, np.uint8)
    classes = experiment.num_classes
    labels = generator.integers(0, classes, ROWS).astype(np.int32) if classes else None
    return Dataset(images, labels, tuple(map(str, range(classes))))


def zeros(experiment: Experiment) -> dict[str, Any]:
    """Two rows that networks are made from."""
    rows = example_batch(model_row_shapes(experiment), 2)
    return {name: np.zeros(row.shape, row.dtype) for name, row in rows.items()}
