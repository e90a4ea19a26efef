"""Sources that are what is left of their images, against what they are by definition."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from imagegen_jax.data import Arrays, Digits, Erased, Greyed, Lowered
from imagegen_jax.data.pictures.describe import describe, picture_grid
from imagegen_jax.data.source import Dataset
from imagegen_jax.data.wrappers.derived import erased, greyed, lowered


@dataclasses.dataclass(frozen=True)
class Fixed:
    """Four images of random colours; or latents."""

    channels: int = 3
    dtype: str = "uint8"

    def open(self):
        images = np.random.default_rng(0).integers(0, 256, (4, 6, 8, self.channels)).astype(self.dtype)
        return Dataset(images, np.arange(4, dtype=np.int32), tuple("abcd"))


def test_lowered_images_are_means():
    images = Fixed().open().images
    found = lowered(images, 2)
    assert found.shape == (4, 3, 4, 3) and found.dtype == np.uint8
    np.testing.assert_array_equal(found[1, 2, 3], np.rint(images[1, 4:6, 6:8].mean(axis=(0, 1))))
    np.testing.assert_array_equal(lowered(images, 1), images)


def test_grey_images_are_pillows():
    images = Fixed().open().images
    expected = [np.asarray(Image.fromarray(image).convert("L")) for image in images]
    np.testing.assert_allclose(greyed(images)[..., 0], np.float32(expected), atol=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_holes_are_transparent_and_stay_where_they_are(channels):
    images, rows = Fixed(channels).open().images, np.arange(4)
    found = erased(images, rows, 3, 4, seed=0)
    assert found.shape == (4, 6, 8, 4) and ((found[..., 3] == 0).sum(axis=(1, 2)) == 12).all()
    known = found[..., 3:] > 0
    np.testing.assert_array_equal(found[..., :3], np.where(known, images, 0).repeat(3 // channels, -1))
    np.testing.assert_array_equal(erased(images[2:3], rows[2:3], 3, 4, seed=0), found[2:3])
    tops = {int(np.argmax(~known[row].all(axis=(1, 2)))) for row in rows}
    assert len(tops) > 1 or (erased(images, rows, 3, 4, seed=1) != found).any()


def test_batches_have_each_image_with_its_own():
    """Labels stay, and what reads a source as a whole reads it as it would an array."""
    for source, shape in [(Lowered(Fixed()), (3, 4, 3)), (Greyed(Fixed()), (6, 8, 1)), (Erased(Fixed()), (6, 8, 4))]:
        dataset = source.open()
        assert dataset.sources.shape == (4, *shape) and len(dataset.sources) == 4
        batch = dataset.batch(1, 3, seed=5)
        assert batch["source"].shape == (3, *shape) and batch["source"].dtype == np.uint8
        np.testing.assert_array_equal(batch["source"], dataset.sources[batch["label"]])
        np.testing.assert_array_equal(dataset.sources[1:3], dataset.sources[np.array([1, 2])])


def test_they_are_described_and_drawn(tmp_path):
    dataset = Lowered(Digits(), 4).open()
    assert "sources             1,797 of 2x2x1, one for each image" in describe(dataset, "x")
    picture_grid(dataset, tmp_path / "grid.png")
    picture = np.asarray(Image.open(tmp_path / "grid.png"))
    np.testing.assert_array_equal(picture[2:10:4, 2:10:4], dataset.sources[:1][0, :, :, 0])


def test_what_cannot_be_is_refused():
    for source, words in [
        (Lowered(Fixed(), 4), "factor=4 must be at least 1 and divide the images of 6x8"),
        (Lowered(Fixed(), 0), "factor=0 must be at least 1"),
        (Lowered(Fixed(dtype="float32")), "these are latents"),
        (Greyed(Fixed(1)), "images of 1 channels, but only RGB has colours to lose"),
        (Erased(Fixed(), 1.0), "share=1.0 must leave something"),
        (Erased(Fixed(), 0.01), "and take something"),
        (Erased(Fixed(4)), "images of 4 channels"),
    ]:
        with pytest.raises(ValueError, match=words):
            source.open()
    with pytest.raises(FileNotFoundError):
        Lowered(Arrays("nothing.npz")).open()
