"""Every GAN among the recipes, as its `smoke` shrinks it: discovered, never listed."""

from __future__ import annotations

import importlib

import imagegen_jax as ig
from imagegen_jax.core.experiment import abstract_nets, example_batch, model_row_shapes
from imagegen_jax.recipes.shipped import recipes


def smoke(name: str) -> ig.Experiment:
    """The recipe of that name, made small."""
    module = importlib.import_module(f"experiments.{name}")
    return ig.override(module.experiment, module.smoke)


def is_gan(experiment: ig.Experiment) -> bool:
    return type(experiment.model).__module__.startswith("imagegen_jax.gan.")


RECIPES = {name: smoke(name) for name in sorted(recipes())}
GANS = {name: experiment for name, experiment in RECIPES.items() if is_gan(experiment)}


def shapes(experiment: ig.Experiment, n: int):
    """The shapes of a batch of `n` rows as losses see it, and of the networks; raises what the model's `init` does."""
    rows = model_row_shapes(experiment)
    return example_batch(rows, n), abstract_nets(experiment.model, rows)
