"""Run folders, stored experiments and imports of an earlier version, made by it: `reference/make_old_runs.py`."""

import importlib
import json
import pathlib
import warnings
import zipfile

import numpy as np
import pytest

import imagegen_jax as ig
from imagegen_jax.core import run_folder as folders
from imagegen_jax.core.checkpoints.stored import Stored
from imagegen_jax.core.config.serial import from_dict

REFERENCE = pathlib.Path(__file__).parents[2] / "reference"
EXPERIMENTS = json.loads((REFERENCE / "old_experiments.json").read_text())
NAMES = json.loads((REFERENCE / "old_names.json").read_text())
RUNS = [
    "vae_mnist",
    *(pytest.param(n, marks=pytest.mark.slow) for n in ("edm_digits", "dcgan_mnist", "dit_b4_imagenet256")),
]

# Recipes of latents scaled these to [-1, 1], from which the model brought them to a deviation of 1; with these options,
# which the recipe names, they still do.
OF_LATENTS = ("dit_b4_imagenet256", "dit_xl2_imagenet256", "meanflow_b4_imagenet256")
IN_RANGE = {"data.scale": 0.18215 / 5, "model.space.scale": 5.0}

# What is smaller now than it was there, as it was: nothing of how an experiment is read depends on it.
UNET = {"model.network.multipliers": (1, 2), "model.network.attention_at": (4,)}
LARGER = {
    "adm_upsampler_imagenet256": UNET,
    "consistency_digits": UNET,
    "ddpm_mnist": {
        "data.size": 28,
        "model.image_shape": (28, 28, 1),
        "model.network.multipliers": (1, 1, 1),
        "model.network.attention_at": (7,),
    },
    "edm_digits": UNET,
    "progan_mnist": {"model.growth.hold": 1},
    "progressive_digits": {name.replace("network", "diffusion.network"): value for name, value in UNET.items()},
    "scm_digits": UNET,
    "stylegan_ffhq1024": {"model.growth.hold": 1},
    "stylegan2_ada_cifar10": {"model.r1_every": 4},
    "superres_digits": UNET,
}


@pytest.fixture
def old_runs(place):
    """The folders, with the data of the latent one, in the folder that the test works in."""
    zipfile.ZipFile(REFERENCE / "old_runs.zip").extractall()
    return pathlib.Path()


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_an_old_experiment_is_todays(name):
    recipe = importlib.import_module(f"experiments.{name}")
    today = ig.override(recipe.experiment, IN_RANGE) if name in OF_LATENTS else recipe.experiment
    assert from_dict(EXPERIMENTS[name]["experiment"]) == today
    smoke = ig.override(recipe.experiment, {**recipe.smoke, **LARGER.get(name, {})})
    assert from_dict(EXPERIMENTS[name]["smoke"]) == smoke


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_draws_what_it_drew_and_goes_on(old_runs, name):
    expected = np.load(old_runs / name / "expected.npz")
    run = ig.load(old_runs / name)
    labels = np.arange(4) % run.experiment.num_classes if run.experiment.num_classes else None
    assert run.step == 4
    _assert_alike(run.sample(4, labels), expected["half"])
    assert folders.compare_experiment(old_runs / name, run.experiment) == {}
    resumed = ig.fit(run.experiment, old_runs / name, quiet=True)
    _assert_alike(resumed.sample(4, labels), expected["end"])
    assert Stored(old_runs / name / "checkpoints").steps() == [4, 8]
    assert not (old_runs / name / "changes.jsonl").exists()


def _assert_alike(images, expected):
    """Equal but for rounding on another number of devices, or another processor; images were made of latents too."""
    images = images if images.dtype == np.uint8 else np.clip(np.round(127.5 * (images + 1)), 0, 255)
    assert np.abs(images.astype(int) - expected.astype(int)).max() <= 1


def test_old_imports_go_on():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for module, classes in NAMES.items():
            found = importlib.import_module(module)
            assert [name for name in classes if not isinstance(getattr(found, name, None), type)] == [], module
