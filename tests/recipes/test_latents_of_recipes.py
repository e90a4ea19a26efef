"""Models of latents compute what they did when latents posed as images: numbers of that version, and its experiments.

`reference/make_latents.py` made them. The data were raw latents times a `scale`, and the model multiplied by a `gain`.
"""

from __future__ import annotations

import importlib
import json
import pathlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import imagegen_jax as ig
from imagegen_jax.core.arrays.space import Latents, Pixels
from imagegen_jax.core.config.command_line import parse_overrides
from imagegen_jax.core.config.serial import differences, from_dict, to_dict
from imagegen_jax.core.model import Inputs
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.meanflow import MeanFlow

FOUND = json.loads((pathlib.Path(__file__).parents[1] / "reference" / "latents.json").read_text())
SCALE = 0.18215
OLD = SCALE / 5.0  # the data's scale then
RAW = (np.random.RandomState(0).standard_normal((8, 8, 8, 4)) / SCALE).astype(np.float32)
LABEL = np.arange(8, dtype=np.int32)
KEY = jax.random.key(1)
CONDITIONS = {"label": jnp.asarray(LABEL[:3])}
NAMES = ("dit_b4_imagenet256", "meanflow_b4_imagenet256", "latents")


def filled(model, batch):
    """Weights that follow from their names."""

    def leaf(path, x):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return jnp.asarray(0.1 * np.random.RandomState(zlib.crc32(name.encode())).standard_normal(x.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(leaf, jax.eval_shape(model.init, jax.random.key(0), batch))


def numbers(model, data):
    """The metrics of a loss, and samples, of data like these."""
    batch = {"image": jnp.asarray(data), "label": jnp.asarray(LABEL)}
    nets = filled(model, batch)
    inputs = Inputs(batch, KEY, jax.random.split(KEY, len(data)), jnp.int32(0), {})
    loss, aux = jax.jit(lambda nets: model.loss(nets, inputs))(nets)
    drawn = jax.jit(lambda nets: model.sample(nets, jax.random.key(2), 3, CONDITIONS))(nets)
    return {"loss": float(loss), **{name: float(value) for name, value in aux.metrics.items()}}, np.asarray(drawn)


def old_experiment(name):
    return from_dict(FOUND[name]["experiment"])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_old_experiment_computes_what_it_did(name):
    """Its file has a gain: it loads, and its losses and its samples, in the units of its data, are the same."""
    experiment = old_experiment(name)
    assert experiment.model.space == Latents(5.0) and experiment.data.scale == OLD
    metrics, drawn = numbers(experiment.model, RAW * np.float32(OLD))
    _compare(FOUND[name], metrics, drawn, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_raw_latents_in_their_space_compute_the_same(name):
    """One factor in place of two: the same losses to rounding, and samples over the data's scale of then."""
    model = ig.override(old_experiment(name), {"model.space": Latents(SCALE)}).model
    metrics, drawn = numbers(model, RAW)
    _compare(FOUND[name], metrics, drawn, OLD)


def _compare(old, metrics, drawn, units):
    for name, value in old["metrics"].items():
        assert metrics[name] == pytest.approx(value, rel=2e-5), name
    found, expected = units * drawn[:, ::4, ::4], np.array(old["sample"])
    # `Diffusion` began at deviation sqrt(1 + s^2) of images, now of what is denoised: 25 and 1 beside 80^2.
    tolerance = 5e-3 if old["experiment"]["name"] == "latents" else 2e-5
    np.testing.assert_allclose(np.clip(found, -1, 1), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NAMES[:2])
def test_the_recipes_are_of_raw_latents_now(name):
    """The factor that is published, in the model alone; otherwise they are the recipes of before."""
    recipe, old = importlib.import_module(f"experiments.{name}").experiment, old_experiment(name)
    assert recipe.model.space == Latents(SCALE) and recipe.data.scale == 1
    assert recipe.model.times == old.model.times if name.startswith("mean") else recipe.model.label_dropout == 0.1
    assert old.data.scale * old.model.space.scale == pytest.approx(SCALE, rel=1e-15)
    resumed = parse_overrides(recipe, ["--data.scale", "0.036430000000000004", "--model.gain", "5"], "train")
    assert differences(to_dict(old.model.space), to_dict(resumed.model.space)) == {} and resumed.data.scale == OLD


def test_options_of_before(capsys):
    """A gain is a space of latents, 1 that of pixels; a word says what to write now."""
    recipe = ig.override(old_experiment("latents"), {"model.space": Pixels()})
    for words, space in ((["--model.gain", "5"], Latents(5)), (["--model.gain=0.5"], Latents(0.5))):
        assert parse_overrides(recipe, words, "train").model.space == space
    said = capsys.readouterr().err
    assert "model.gain is a name of an earlier version: it is model.space now" in said
    assert ig.override(recipe, {"model.gain": 1}).model.space == Pixels()
    one = ["--model.space", "latents", "--model.space.scale", "0.2"]
    assert parse_overrides(recipe, one, "train").model.space == Latents(0.2)
    of_channels = ["--model.space", "latents", "--model.space.scale", "1", "2", "3", "4", "--model.space.shift", "0.5"]
    assert parse_overrides(recipe, of_channels, "train").model.space == Latents((1.0, 2.0, 3.0, 4.0), 0.5)
    with pytest.raises(ValueError, match="space.scale=0.0: must be above 0"):
        ig.override(recipe, {"model.gain": 0})


def test_a_clipped_model_of_latents_loads_unclipped():
    """It kept them in [-1, 1], which they are no longer in."""
    items = FOUND["latents"]["experiment"]["model"] | {"clip": True}
    assert from_dict(items).clip is False
    assert from_dict(items | {"gain": 1.0}).clip is True
    assert Diffusion.upgraded({}) == {} and MeanFlow.upgraded({"steps": 2}) == {"steps": 2}
