"""Losses, estimates and samples of models of latents, as they were when latents posed as images in [-1, 1].

    PYTHONPATH=CHECKOUT python tests/reference/make_latents.py     where CHECKOUT is one of commit 4849bfe

The data's `scale` and the model's `gain` were then two factors of what `core.arrays.space.Latents` has as one. Writes
latents.json: for each model its experiment as it was stored, and numbers of it on the latents, weights and keys that
`tests/recipes/test_latents_of_recipes.py` makes anew.
"""

from __future__ import annotations

import importlib
import json
import pathlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np

import imagegen_jax as ig
from imagegen_jax.core.config.serial import to_dict
from imagegen_jax.core.model import Inputs
from imagegen_jax.core.optim import Adam
from imagegen_jax.data import Latents
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.nn.backbones.dit import DiT

RAW = (np.random.RandomState(0).standard_normal((8, 8, 8, 4)) / 0.18215).astype(np.float32)
LABEL = np.arange(8, dtype=np.int32)
KEY = jax.random.key(1)


def filled(nets):
    """Weights that follow from their names."""

    def leaf(path, x):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return jnp.asarray(0.1 * np.random.RandomState(zlib.crc32(name.encode())).standard_normal(x.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(leaf, nets)


def recipe(name):
    """One of the recipes at its smoke sizes, but for its data and gain."""
    module = importlib.import_module(f"experiments.{name}")
    changes = {name: value for name, value in module.smoke.items() if name not in ("data", "model.gain")}
    return ig.override(module.experiment, changes)


def elucidated():
    """A `Diffusion` on latents."""
    model = Diffusion(DiT(2, 1, 16, 2), image_shape=(8, 8, 4), num_classes=10, gain=5.0, sigma_data=1.0)
    experiment = ig.Experiment("latents", model, Latents("latents", 0.18215 / 5), {"network": Adam(1e-3)})
    return ig.override(experiment, {"model.levels.steps": 3})


def numbers(experiment):
    """All of one model."""
    model = experiment.model
    batch = {"image": jnp.asarray(RAW * np.float32(experiment.data.scale)), "label": jnp.asarray(LABEL)}
    nets = filled(jax.eval_shape(model.init, jax.random.key(0), batch))
    inputs = Inputs(batch, KEY, jax.random.split(KEY, len(RAW)), jnp.int32(0), {})
    conditions = {"label": batch["label"][:3]}
    _, aux = jax.jit(lambda nets: model.loss(nets, inputs))(nets)
    x, sigma = 0.2 * jax.random.normal(jax.random.key(3), (3, 8, 8, 4)), jnp.asarray([0.01, 0.3, 2.0])
    estimate = jax.jit(lambda nets: model.denoiser(nets, conditions)(x, sigma))(nets)
    drawn = jax.jit(lambda nets: model.sample(nets, jax.random.key(2), 3, conditions))(nets)
    return {
        "metrics": {name: float(value) for name, value in aux.metrics.items()},
        "estimate": np.asarray(estimate)[:, ::4, ::4].tolist(),
        "sample": np.asarray(drawn)[:, ::4, ::4].tolist(),
        "experiment": to_dict(experiment),
    }


experiments = [recipe("dit_b4_imagenet256"), recipe("meanflow_b4_imagenet256"), elucidated()]
found = {experiment.name: numbers(experiment) for experiment in experiments}
(pathlib.Path(__file__).parent / "latents.json").write_text(json.dumps(found, indent=1) + "\n")
