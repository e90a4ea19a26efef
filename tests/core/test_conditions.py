"""Models that make images from rows of the data: what they are given in grids, in sampling and when it is missing."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image
from toys import Regression

import imagegen_jax as ig
from imagegen_jax.core.drawing.draw import panels
from imagegen_jax.core.experiment import model_row_shapes
from imagegen_jax.core.model import check_condition_rows
from imagegen_jax.core.optim import SGD
from imagegen_jax.data import DigitPairs, Digits, to_float

pytestmark = pytest.mark.versions


@dataclasses.dataclass(frozen=True)
class Negative(Regression):
    """The negative of the source; what it trains looks at four pixels."""

    image_shape: tuple[int, int, int] = (8, 8, 1)

    @property
    def condition_rows(self):
        return {"source": jax.ShapeDtypeStruct((8, 8, 1), np.uint8)}

    def init(self, key, batch):
        check_condition_rows(self, batch)
        return {"network": self.network.init(key, batch["image"][:, :2, :2])}

    def loss(self, nets, inputs):
        assert inputs.batch["source"].dtype == np.float32
        return super().loss(nets, inputs._replace(batch={"image": inputs.batch["image"][:, :2, :2]}))

    def sample(self, nets, key, n, conditions):
        return -conditions["source"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps whose data are digits and their negatives."""
    experiment = ig.Experiment(
        "negative", Negative(), DigitPairs(size=8), {"network": SGD(0.0)}, batch_size=8, steps=2, samples=4, log_every=1
    )
    return ig.fit(experiment, tmp_path_factory.mktemp("run") / "run", quiet=True)


def test_grids_show_source_sample_and_image(run):
    """Side by side, from the first rows of the data."""
    picture = np.asarray(Image.open(run.workdir / "samples" / "00000002.png"))
    first = run.experiment.data.open().batch(0, 4)
    assert picture.shape == (2 + 2 * (8 + 2), 2 + 2 * (3 * 8 + 2))
    cell = picture[2:10, 2:26]
    np.testing.assert_array_equal(cell[:, :8], first["source"][0, :, :, 0])
    np.testing.assert_array_equal(cell[:, 8:16], 255 - first["source"][0, :, :, 0])
    np.testing.assert_array_equal(cell[:, 16:], first["image"][0, :, :, 0])


def test_panels_are_of_what_fits():
    """Small sources are magnified, or else left out; a model that makes images from nothing has the images alone."""
    images = np.zeros((2, 8, 8, 3), np.uint8)
    batch = {"image": images, "source": np.zeros((2, 8, 8, 1), np.uint8)}
    assert panels(Negative(), images, batch).shape == (2, 8, 24, 3)
    assert panels(Negative(), images, {**batch, "source": np.zeros((2, 4, 4, 1), np.uint8)}).shape == (2, 8, 24, 3)
    assert panels(Negative(), images, {**batch, "source": np.zeros((2, 3, 4, 1), np.uint8)}) is images
    assert panels(Regression(), images, batch) is images


def test_samples_are_made_from_what_is_given_or_from_the_data(run):
    """Given as uint8 or float, in any number of chunks; else in the order of the seed."""
    sources = run.experiment.data.open().batch(3, 10)["source"]
    found = run.sample(10, source=sources)
    np.testing.assert_array_equal(found, 255 - sources)
    np.testing.assert_array_equal(run.sample(10, source=sources, chunk=8), found)
    np.testing.assert_array_equal(run.sample(10, source=np.asarray(to_float(sources))), found)
    for seed in (0, 5):
        rows = run.experiment.data.open().batch(0, 10, seed)["source"]
        np.testing.assert_array_equal(run.sample(10, seed=seed), 255 - rows)


def test_what_is_missing_or_does_not_fit_is_refused(run):
    sources = run.experiment.data.open().batch(0, 10)["source"]
    with pytest.raises(ValueError, match="9 rows of 'source' for 10 images"):
        run.sample(10, source=sources[:9])
    with pytest.raises(ValueError, match="'source' has rows of 4x8x1, but this Negative wants 8x8x1"):
        run.sample(10, source=sources[:, :4])
    with pytest.raises(ValueError, match="makes images from 'source', which is not given: train on data that have it"):
        ig.Program(dataclasses.replace(run.experiment, data=Digits()))


def test_what_the_model_does_not_read_is_refused(run):
    """Such as a guidance that it has none of, or one that is misspelt."""
    with pytest.raises(ValueError, match=r"'guidence' given, but a Negative reads \['label', 'source'\] alone"):
        run.sample(10, guidence=2.0)


@pytest.mark.parametrize("chunk", [0, -5])
def test_chunks_without_an_image_are_refused(run, chunk):
    with pytest.raises(ValueError, match=f"chunk={chunk}: must be an integer, at least 1"):
        run.sample(8, chunk=chunk)


def test_rows_of_a_model_include_them(run):
    """So that `imagegen info` counts parameters without data."""
    assert model_row_shapes(run.experiment)["source"].shape == (8, 8, 1)
