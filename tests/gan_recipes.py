"""Every GAN among the recipes, as its `smoke` shrinks it: discovered, never listed."""

from __future__ import annotations

import importlib
import pathlib

import imagegen_jax as ig
from imagegen_jax.core.experiment import abstract_nets, example_batch, rows_of_model

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "experiments"


def smoke(name: str) -> ig.Experiment:
    """The recipe of that name, made small."""
    module = importlib.import_module(f"experiments.{name}")
    return ig.override(module.experiment, module.smoke)


def is_gan(experiment: ig.Experiment) -> bool:
    return type(experiment.model).__module__.startswith("imagegen_jax.gan.")


RECIPES = {path.stem: smoke(path.stem) for path in sorted(FOLDER.glob("[a-z]*.py"))}
GANS = {name: experiment for name, experiment in RECIPES.items() if is_gan(experiment)}


def shapes(experiment: ig.Experiment, n: int):
    """The shapes of a batch of `n` rows as losses see it, and of the networks; raises what the model's `init` does."""
    rows = rows_of_model(experiment)
    return example_batch(rows, n), abstract_nets(experiment.model, rows)
