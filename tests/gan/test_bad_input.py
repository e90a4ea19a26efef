"""What users get wrong with GANs: an error that names value, place and remedy, before anything is compiled."""

from __future__ import annotations

import dataclasses
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from recipes_of_gans import GANS, shapes

import imagegen_jax as ig
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.config.choices import options_of
from imagegen_jax.core.drawing.draw import _sampler, sample
from imagegen_jax.core.experiment import abstract_nets, row_shapes, validate
from imagegen_jax.data import Dataset, Digits, Paired
from imagegen_jax.gan.augment import ADA, DiffAugment
from imagegen_jax.gan.residual.biggan import BigGAN
from imagegen_jax.gan.style.stylegan2 import StyleGAN2
from imagegen_jax.nn.objectives import AnyObjective, Hinge, LeastSquares, Saturating

CONDITIONAL = [name for name, experiment in GANS.items() if experiment.num_classes]


@pytest.fixture(autouse=True)
def nothing_is_compiled():
    """Neither a training step nor a sampler."""
    before = compiling.compilations(), _sampler.cache_info().currsize
    yield
    assert (compiling.compilations(), _sampler.cache_info().currsize) == before


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(3, 3), (20, 23), (36, 36)])
@pytest.mark.parametrize("name", GANS)
def test_a_model_draws_images_of_any_size_or_says_which_value_is_wrong(name, size):
    """What it cannot halve, or is no power of two where it needs one, is the size, or a field that it does not fit."""
    experiment = GANS[name]
    shape = (*size, experiment.model.image_shape[2])
    try:
        model = dataclasses.replace(experiment.model, image_shape=shape)
        batch, nets = shapes(dataclasses.replace(experiment, model=model), 2)
    except ValueError as error:
        assert re.search(rf"{size[0]}x{size[1]}|\w+=\(?\d", str(error)) and ":" in str(error), error
        return
    drawn = jax.eval_shape(lambda nets, batch: model.sample(nets, jax.random.key(0), 2, batch), nets, batch)
    assert drawn.shape == (2, *shape)


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        ("stylegan2_eurosat", (20, 23), "image size 20x23: both sides must be divisible by 4; .*that are: 20x24"),
        ("r3gan_cifar10", (36, 36), r"image_shape=\(36, 36, 3\), but 2 stages make 8x8: sizes are 4, 8, 16, 32"),
        ("cyclegan_horse2zebra", (18, 18), r"image_shape=\(18, 18, 1\): height and width must be divisible by 4"),
        ("pix2pix_facades", (3, 3), "generator.levels=[0-9]: images of 3x3 can be halved 2 times.*: set it to 2"),
        ("dcgan_celeb_a64", (7, 64), "image size 7x64: height and width must be at least 8"),
        ("sngan_cifar10", (1, 1), "image size 1x1: too small to be halved 2 times: use fewer multipliers"),
    ],
)
def test_sizes_that_cannot_be(name, size, said):
    experiment = GANS[name]
    with pytest.raises(ValueError, match=said):
        model = dataclasses.replace(experiment.model, image_shape=(*size, experiment.model.image_shape[2]))
        shapes(dataclasses.replace(experiment, model=model), 2)


@pytest.mark.parametrize("name", GANS)
def test_data_of_another_size_are_refused(name):
    """Both sizes are named, and what to change."""
    experiment = GANS[name]
    height, width, channels = experiment.model.image_shape
    rows = {
        row: jax.ShapeDtypeStruct((2 * height, 2 * width, channels) if len(a.shape) == 3 else a.shape, a.dtype)
        for row, a in row_shapes(experiment.data.open()).items()
    }
    said = f"{2 * height}x{2 * width}x{channels}.*{height}x{width}x{channels}.*change the model's image_shape, or the"
    with pytest.raises(ValueError, match=said):
        abstract_nets(experiment.model, rows)


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONDITIONAL)
@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (7, "model.num_classes=7, but the data have labels from 0 to 9: set model.num_classes to 10"),
        (12, "model.num_classes=12, but the data have 10 classes: set model.num_classes to 10"),
    ],
)
def test_another_number_of_classes_than_the_data_is_refused(name, classes, said):
    experiment = GANS[name]
    wrong = dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, num_classes=classes))
    with pytest.raises(ValueError, match=said):
        ig.Program(wrong)


@pytest.mark.parametrize("name", CONDITIONAL)
def test_data_without_labels_are_refused(name):
    experiment = GANS[name]
    dataset = dataclasses.replace(experiment.data.open(), labels=None, class_names=())
    with pytest.raises(ValueError, match="num_classes=10, but the data have no labels: use data with classes"):
        validate(experiment, dataset)


def test_labels_that_are_not_as_many_as_the_images_are_refused():
    with pytest.raises(ValueError, match="3 labels for 4 images: give each image one"):
        Dataset(np.zeros((4, 2, 2, 1), np.uint8), np.zeros(3, np.int32), ("a",))


@pytest.mark.parametrize("name", CONDITIONAL)
@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 10, -1, 3], "labels: 10 is out of range: this model knows 0 to 9"),
        ([0, 1, 2], r"labels of shape \(3,\) for 4 images: give one label an image"),
        (None, "draws images of 10 classes: say which"),
    ],
)
def test_classes_that_cannot_be_drawn_are_refused(name, labels, said):
    nets = {"generator": {"params": jnp.zeros(1)}}
    with pytest.raises(ValueError, match=said):
        sample(GANS[name].model, nets, 4, conditions={} if labels is None else {"label": np.array(labels)})


@pytest.mark.parametrize("truncation", [-0.1, 1.5, float("nan"), [0.5, 2.0]])
def test_biggans_truncation_out_of_range_is_refused(truncation):
    wrong = np.max(truncation) if np.ndim(truncation) else truncation
    with pytest.raises(ValueError, match=f"truncation {wrong}: must be from 0 .* to 1"):
        BigGAN().check_conditions({"truncation": np.asarray(truncation)})


# --- pairs -----------------------------------------------------------------------------------------------------------


def test_two_sets_of_unequal_count_are_no_pairs(tmp_path: pathlib.Path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))
    for folder, count in (("photos", 3), ("labels", 2)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            Image.new("RGB", (8, 8)).save(tmp_path / folder / f"{number}.png")
    said = "1 files have no partner of the same name, of 3 images and 2 sources: add the partners, or take these away:"
    with pytest.raises(ValueError, match=f"{said}\n  .*photos/2.png"):
        Paired(str(tmp_path / "photos"), str(tmp_path / "labels")).open()
    images = np.zeros((3, 2, 2, 1), np.uint8)
    with pytest.raises(ValueError, match="2 sources for 3 images: give each image one, or set paired=False"):
        Dataset(images, sources=images[:2])
    assert len(Dataset(images, sources=images[:2], paired=False).sources) == 2


@pytest.mark.parametrize("name", [name for name, e in GANS.items() if hasattr(e.model, "condition_rows")])
def test_data_without_sources_are_refused(name):
    model = GANS[name].model
    with pytest.raises(ValueError, match="makes images from 'source', which is not given: train on data that have it"):
        validate(GANS[name], Digits(model.image_shape[0], channels=model.image_shape[2]).open())


# --- augmentation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", options_of(AnyObjective).load_all())
def test_adaptive_augmentation_needs_signs(objective):
    settings = {"image_shape": (8, 8, 3), "objective": objective()}
    StyleGAN2(**settings, augment=ADA(target=None, p=0.2))
    StyleGAN2(**settings, augment=DiffAugment())
    if objective.signed:
        assert StyleGAN2(**settings, augment=ADA()).objective == objective()
        return
    with pytest.raises(
        ValueError, match=rf"augment=ADA.*signs.*objective={objective.__name__}.*: take NonSat.*target=None"
    ):
        StyleGAN2(**settings, augment=ADA())


def test_the_objectives_that_the_error_names_have_signs():
    assert Saturating.signed and Hinge.signed and not LeastSquares.signed
