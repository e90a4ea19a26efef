"""Spaces: what is denoised of data, and back; the shapes and pictures of samples."""

from __future__ import annotations

import dataclasses
import types

import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.arrays.space import Latents, Pixels, Space, picture_of, sample_shape, space_of
from imagegen_jax.core.config.serial import from_dict, to_dict
from imagegen_jax.core.drawing.draw import panels
from imagegen_jax.metrics.sets import ArraySet, SampleSet

RNG = np.random.default_rng(0)
DATA = (5 * RNG.standard_normal((6, 3, 3, 4)) + 2).astype(np.float32)
SD3 = Latents(1.5305, 0.0609)


@dataclasses.dataclass(frozen=True)
class Model:
    """As much of a model as spaces look at."""

    space: Space = Pixels()
    image_shape: tuple[int, int, int] = (3, 3, 4)


def test_pixels_are_denoised_as_they_are_and_kept_in_range():
    x = jnp.asarray(DATA)
    assert Pixels().encode(x) is x and Pixels().clips and Pixels().draws_images
    np.testing.assert_array_equal(Pixels().decode(x, {}), np.clip(DATA, -1, 1))


@pytest.mark.parametrize(
    "space", [Latents(), Latents(0.18215), SD3, Latents((1.0, 2.0, 0.5, 0.1), (0.0, 3.0, -1.0, 8.0))]
)
def test_latents_come_back_as_they_were(space):
    """(latent - shift) * scale by the numbers of each channel, as NumPy has it; nothing is clipped."""
    found = space.encode(jnp.asarray(DATA))
    expected = (DATA - np.array(space.shift)) * np.array(space.scale)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert found.dtype == jnp.float32
    back = space.decode(found, {})
    np.testing.assert_allclose(back, DATA, rtol=1e-5, atol=1e-5)
    assert back.dtype == jnp.float32 and float(jnp.abs(back).max()) > 5
    assert not space.clips and not space.draws_images and isinstance(space, Space)
    assert from_dict(to_dict(space)) == space and hash(from_dict(to_dict(space))) == hash(space)


def test_statistics_of_latents_bring_them_to_the_deviation_that_is_asked_for():
    """EDM2's way: its scale is 0.5 over the deviation of each channel, its shift the mean."""
    data = DATA * np.array([1.0, 10.0, 0.1, 3.0], np.float32)
    mean, std = data.mean((0, 1, 2)), data.std((0, 1, 2))
    found = Latents(tuple(float(0.5 / s) for s in std), tuple(map(float, mean))).encode(jnp.asarray(data))
    np.testing.assert_allclose(found.std((0, 1, 2)), 0.5, rtol=1e-5)
    np.testing.assert_allclose(found.mean((0, 1, 2)), 0, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scale": 0}, "space.scale=0: must be above 0"),
        ({"scale": (1.0, -2.0)}, "space.scale=.1.0, -2.0.: must be above 0"),
        ({"scale": float("nan")}, "space.scale=nan: must be above 0"),
        ({"shift": float("inf")}, "space.shift=inf: must be finite"),
    ],
)
def test_wrong_numbers(fields, said):
    with pytest.raises(ValueError, match=said):
        Latents(**fields)


def test_shapes_of_samples():
    """Those of the data; of a model that says nothing, of its images; numbers of channels must be as many as these."""
    assert sample_shape(Model()) == sample_shape(Model(SD3)) == (3, 3, 4)
    assert space_of(object()) == Pixels() and space_of(Model(SD3)) is SD3
    with pytest.raises(ValueError, match="space.shift has 2 numbers, but latents of 4 channels"):
        sample_shape(Model(Latents(shift=(1.0, 2.0))))


def test_pictures_for_looking_at():
    """Three deviations are black and white; three channels are colours, of two the first is grey; images stay."""
    space = Latents(2.0, (1.0, 1.0, 1.0, 1.0))
    latents = np.zeros((2, 1, 1, 4), np.float32) + np.array([1, 2.5, -0.5, 9], np.float32)
    np.testing.assert_array_equal(picture_of(Model(space), latents)[:, 0, 0], [[128, 255, 0]] * 2)
    assert picture_of(Model(Latents()), latents[..., :2]).shape == (2, 1, 1, 1)
    images = np.zeros((2, 4, 4, 4), np.uint8)
    assert picture_of(Model(), images) is images


def test_grids_of_latents_have_three_channels():
    """Images of four channels keep their transparency, unless their data are latents that pose as images."""
    images, latents = np.zeros((2, 4, 4, 4), np.uint8), np.zeros((2, 4, 4, 4), np.float32)
    assert panels(Model(Latents()), latents, {"image": latents}).shape == (2, 4, 4, 3)
    assert panels(Model(), images, {"image": latents}).shape == (2, 4, 4, 3)
    assert panels(Model(), images, {"image": images}).shape == (2, 4, 4, 4)


def test_metrics_are_of_images():
    """Latents are refused by name before any is drawn, and float arrays with what there is to do."""
    run = types.SimpleNamespace(experiment=types.SimpleNamespace(model=Model(SD3)), workdir="runs/dit")
    with pytest.raises(ValueError, match="runs/dit draws latents, and metrics are of images: .* decode them"):
        SampleSet(run, 4)
    with pytest.raises(ValueError, match="x: images of shape .* and type float32: .* latents are decoded first"):
        ArraySet("x", DATA)
