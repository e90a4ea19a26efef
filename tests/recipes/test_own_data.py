"""Images of one's own: recipes of families for them, and any recipe on other data."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from imagegen_jax.cli.train_options import FAMILIES as NAMED
from imagegen_jax.core.arrays.space import autoencoder_of, sample_shape
from imagegen_jax.core.config.override import override
from imagegen_jax.core.experiment import validate
from imagegen_jax.core.model import frozen_networks
from imagegen_jax.data import Captioned, Digits, Folder, Latents, Paired, Unpaired
from imagegen_jax.gan.r3gan import R3GAN
from imagegen_jax.nn.distributions.pixel import Categorical
from imagegen_jax.recipes.families import FAMILIES, recipe_of
from imagegen_jax.recipes.fit import fitted, model_for_images
from imagegen_jax.recipes.own_data import own_size, own_source
from imagegen_jax.recipes.shipped import module_of, recipes

pytestmark = pytest.mark.usefixtures("place")


def pictures(folder, classes=("cat", "dog"), size=(20, 16), mode="RGB", count=8):
    """A folder of images of noise, in a folder for each class, or in none."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{i}.png")
    return str(folder)


# --- the model follows the data --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(recipes()))
def test_every_recipe_takes_other_images_or_says_why_not(tmp_path, name):
    """Traced, not trained, at the sizes of smoke runs: with 16x16 RGB of two classes in place of what it has."""
    module = module_of(name)
    of_latents = isinstance(module.experiment.data, Latents) and autoencoder_of(module.experiment.model) is None
    experiment = module.experiment if of_latents else override(module.experiment, module.smoke)  # a smoke's are digits
    data = Folder(pictures(tmp_path / "photos"), size=16, channels=3)
    if isinstance(experiment.data, (Latents, Paired, Unpaired)) or "Pairs" in type(experiment.data).__name__:
        with pytest.raises(ValueError, match="are images: take another recipe|makes images from 'source'"):
            fitted(experiment, data)
        return
    if isinstance(getattr(experiment.model, "distribution", None), Categorical):
        with pytest.raises(ValueError, match="of one channel, but images have 3: use LogisticMixture"):
            fitted(experiment, data)
        return
    if isinstance(experiment.data, Captioned):
        with pytest.raises(ValueError, match="has no captions: name a source that has"):
            fitted(experiment, data)
        return
    found = fitted(experiment, data)
    assert sample_shape(found.model) == (16, 16, 3)
    assert found.num_classes in (0, 2) and (found.num_classes == 2) >= (experiment.num_classes > 0)
    random = dict.fromkeys((*frozen_networks(found.model), *found.adapted_networks), "random")
    validate(dataclasses.replace(found, pretrained=random), found.data.open())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("size", "mode", "classes"), [(32, "L", ("a", "b")), (16, "RGB", ("",))])
def test_every_family_follows_shape_channels_and_classes(tmp_path, family, size, mode, classes):
    recipe = recipe_of(family, size)
    data = Folder(pictures(tmp_path / "photos", classes, (size, size), mode, count=2))
    experiment = override(recipe.experiment, recipe.smoke)
    if family == "cgan" and len(classes) == 1:
        with pytest.raises(ValueError, match="the data have no classes, and a CGAN may need some: put the images of"):
            fitted(experiment, data)
        return
    found = fitted(experiment, data)
    assert found.model.image_shape == (size, size, {"L": 1, "RGB": 3}[mode])
    knows = family not in ("dcgan", "wgan", "vae")
    assert found.num_classes == (2 if knows and len(classes) == 2 else 0)
    assert found.data == data


def test_families_are_named_where_they_are_not_imported():
    assert NAMED == ", ".join(FAMILIES)
    with pytest.raises(ValueError, match=r"--recipe stylgan2: .* only dcgan, .*; did you mean 'stylegan2'"):
        recipe_of("stylgan2")


def test_r3gan_has_a_stage_for_each_size():
    stages = R3GAN().for_images((64, 64, 3), 0).generator.stages
    assert stages.widths == (768,) * 5 and R3GAN().for_images((8, 8, 1), 3).discriminator.stages.blocks == (2, 2)
    with pytest.raises(ValueError, match="the nearest are 16 and 32"):
        R3GAN().for_images((28, 28, 3), 0)


def test_the_size_of_sources_keeps_its_proportion():
    module = module_of("superres_digits")
    found = model_for_images(module.experiment.model, (32, 32, 3), 0)
    assert found.source_shape == (16, 16, 3)


def test_sizes_that_do_not_fit_are_answered_with_the_nearest_that_do(tmp_path):
    recipe = recipe_of("ddpm", 30)
    experiment = override(recipe.experiment, recipe.smoke)
    data = Folder(pictures(tmp_path / "photos", ("",), count=1), size=30)
    with pytest.raises(ValueError, match=r"The nearest sizes that this recipe takes: 28 \(--size 28\) and 32 \(--size"):
        fitted(experiment, data)
    with pytest.raises(ValueError, match="the nearest that are: 32x32"):
        recipe_of("stylegan2", 30)


# --- how the images are read -----------------------------------------------------------------------------------------


def test_photos_are_brought_to_a_size_and_small_images_keep_theirs(tmp_path, capsys):
    large, small = pictures(tmp_path / "large", size=(90, 80), count=1), pictures(tmp_path / "small", size=(12, 12))
    assert own_source(large, {}, (64, 64, 3)) == Folder(large, size=64)
    assert "64x64 pixels (--size for another)" in capsys.readouterr().err
    assert own_source(small, {}, (64, 64, 3)).size == 12 and own_size("digits", 64) == 8
    assert own_source(small, {"size": 24}, (64, 64, 3)).size == 24
    assert own_source("digits", {}, (64, 64, 3)) == Digits()


def test_images_of_several_kinds_are_read_as_rgb(tmp_path, capsys):
    place = pictures(tmp_path / "photos", ("",), (16, 16), count=2)
    Image.new("L", (16, 16)).save(tmp_path / "photos" / "grey.png")
    assert own_source(place, {}, (16, 16, 3)).channels == 3 and "all as RGB" in capsys.readouterr().err


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("family", "classes"), [("dcgan", 0), ("vae", 0), ("edm", 2)])
def test_own_photos_are_trained_on_with_a_report_at_the_end(imagegen, tmp_path, family, classes):
    photos = pictures(tmp_path / "my photos")
    words = ("--recipe", family, "--size", 16, "--smoke", "--seed", 3, "--mesh.data", 1)
    code, _, said = imagegen("train", photos, *words)
    run = pathlib.Path("runs") / f"{family}_my_photos"
    assert code == 0 and f"report: {run / 'report.html'}" in said and (run / "report.html").is_file(), said
    stored = json.loads((run / "experiment.json").read_text())
    assert stored["model"]["image_shape"] == [16, 16, 3] and stored["model"].get("num_classes", 0) == classes
    assert stored["seed"] == 3 and stored["data"]["path"] == photos
    labels = ("--labels", "dog") if classes else ()
    assert imagegen("sample", run, "--n", 4, *labels)[0] == 0


@pytest.mark.slow
def test_a_recipe_is_trained_on_other_data(imagegen, tmp_path):
    photos = pictures(tmp_path / "photos", ("",), (12, 12), "L")
    words = ("--data", photos, "--size", 12, "--smoke", "--workdir", tmp_path / "run")
    code, _, said = imagegen("train", "experiments.vae_mnist", *words)
    assert code == 0, said
    stored = json.loads((tmp_path / "run" / "experiment.json").read_text())
    assert stored["model"]["image_shape"] == [12, 12, 1] and stored["name"] == "vae_mnist"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("experiments.vae_mnist", "--size", "32"), "--size 32: says how other data are read, but none are named"),
        (("photos", "--recipe", "edn"), "did you mean 'edm'"),
        (("photos", "--recipe", "edm_cifar10"), "imagegen train edm_cifar10 --data PHOTOS"),
        (("photos",), "say by which model: --recipe, one of dcgan, "),
        (("photos.zip",), "imagegen train ddpm_cifar10 --data photos.zip"),
        (("edm", "--data", "photos"), "imagegen train PHOTOS --recipe edm"),
        (("photos", "--recipe", "vae", "--data", "digits"), "--data digits: with --recipe the images are named first"),
        (("nowhere", "--recipe", "vae"), "'nowhere' is no source of images"),
        (("photos", "--recipe", "vae", "--split", "test"), "--split test: photos has no such setting"),
        (("experiments.vae_mnist", "--data", "nowhere"), "'nowhere' is no source of images"),
        (("experiments.dit_b4_imagenet256", "--data", "photos"), "is trained on latents, but"),
        (("photos", "--recipe", "cgan", "--smoke"), "put the images of each class in a folder of its own"),
    ],
)
def test_what_cannot_be_trained_is_said(imagegen, words, says):
    pictures(pathlib.Path("photos"), ("",), (16, 16), count=2)
    code, _, said = imagegen("train", *words)
    assert code == 1 and says in said and not pathlib.Path("runs").exists(), said
