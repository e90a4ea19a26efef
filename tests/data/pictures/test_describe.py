"""Figures and pictures of a data set, and sources named on the command line."""

from __future__ import annotations

import pathlib
import tracemalloc
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagegen_jax.core.drawing.grid import grid, write_png
from imagegen_jax.data import TFDS, Arrays, Dataset, Digits, Folder, Shapes, Source, parse_source
from imagegen_jax.data.pictures.describe import channel_statistics, describe, picture_grid


def test_channel_statistics() -> None:
    """Those of NumPy over all pixels in float64."""
    images = np.random.default_rng(0).integers(0, 200, (50, 7, 5, 3), np.uint8)
    mean, std = channel_statistics(Dataset(images))
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), rtol=1e-12)


def test_channel_statistics_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that do not divide the set change nothing."""
    dataset = Dataset(np.random.default_rng(0).integers(0, 256, (11, 4, 4, 1), np.uint8))
    whole = channel_statistics(dataset)
    monkeypatch.setattr("imagegen_jax.data.pictures.describe._CHUNK_BYTES", 3 * 16)
    np.testing.assert_array_equal(channel_statistics(dataset), whole)


@pytest.mark.parametrize("channels", [1, 3])
def test_one_large_image_takes_little_more_memory_than_its_own(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    """Its figures are counted piece by piece, and its picture is made of a reduced one."""
    monkeypatch.setattr("imagegen_jax.data.pictures.describe._CHUNK_BYTES", 1 << 16)
    monkeypatch.setattr("imagegen_jax.data.pictures.describe._LARGEST", 64)
    dataset = Dataset(np.full((1, 1000, 2000, channels), 51, np.uint8))
    small = Dataset(np.full((1, 8, 8, channels), 51, np.uint8))
    describe(small, "small"), picture_grid(small, tmp_path / "small.png")  # import what they need
    tracemalloc.start()
    try:
        assert "mean                0.2000" in describe(dataset, "large")
        picture_grid(dataset, tmp_path / "a.png")
        assert tracemalloc.get_traced_memory()[1] < 2 * dataset.images.nbytes
    finally:
        tracemalloc.stop()
    image = np.asarray(Image.open(tmp_path / "a.png"))
    assert image.shape[:2] == (32 + 4, 10 * (63 + 2) + 2) and image[10, 10].min() == 51


def test_describe() -> None:
    """Count, shape, figures, and the classes with their counts, the empty one too."""
    images = np.zeros((4, 2, 3, 1), np.uint8)
    images[0] = 255
    text = describe(Dataset(images, np.array([0, 0, 2, 0], np.int32), ("cat", "dog", "horse")), "pets")
    assert "pets: 4 images of 2x3x1" in text
    assert "mean                0.2500" in text and "standard deviation  0.4330" in text
    assert [line.split() for line in text.splitlines()[-3:]] == [
        ["0", "cat", "3"],
        ["1", "dog", "0"],
        ["2", "horse", "1"],
    ]
    assert "none" in describe(Dataset(images), "pets")


def test_grid() -> None:
    """Each image at its place, one line of padding around it, white where there is none."""
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] + np.zeros((5, 2, 3, 1), np.uint8)
    picture = grid(images, columns=3, pad=1)
    assert picture.shape == (2 * 3 + 1, 3 * 4 + 1, 1)
    expected = np.full((7, 13), 255)
    for number in range(5):
        row, column = divmod(number, 3)
        expected[1 + 3 * row : 3 + 3 * row, 1 + 4 * column : 4 + 4 * column] = number
    np.testing.assert_array_equal(picture[..., 0], expected)
    with pytest.raises(ValueError, match="grid of 0 images"):
        grid(images[:0], 3)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_write_png(tmp_path: pathlib.Path, channels: int) -> None:
    """What is written is read back."""
    image = np.random.default_rng(0).integers(0, 256, (5, 6, channels), np.uint8)
    write_png(tmp_path / "a.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")).reshape(image.shape), image)


def test_picture_grid(tmp_path: pathlib.Path) -> None:
    """A row a class, filled from the left; a square of the first where there are no labels."""
    images = np.arange(30, dtype=np.uint8)[:, None, None, None] + np.zeros((30, 4, 4, 3), np.uint8)
    labels = np.array([0] * 28 + [1, 1], np.int32)
    picture_grid(Dataset(images, labels, ("a", "b")), tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png"))[2::6, 2::6, 0]
    assert pixels.tolist() == [list(range(10)), [28, 29] + [255] * 8]
    picture_grid(Dataset(images), tmp_path / "b.png")
    assert np.asarray(Image.open(tmp_path / "b.png"))[2::6, 2::6, 0].ravel().tolist() == list(range(30))


@pytest.mark.parametrize(
    ("text", "settings", "source"),
    [
        ("digits", {"size": 16}, Digits(size=16)),
        ("shapes", {"size": 16, "split": "held_out"}, Shapes(size=16, split="held_out")),
        ("tfds:cifar10", {"split": "test", "data_dir": "d"}, TFDS("cifar10", split="test", data_dir="d")),
        ("mnist", {}, TFDS("mnist")),
        ("celeb_a", {"size": 64}, TFDS("celeb_a", size=64)),
        ("cats.zip", {"size": 64, "channels": 3}, Folder("cats.zip", size=64, channels=3)),
        ("cats.npz", {}, Arrays("cats.npz")),
        ("CATS.NPZ", {}, Arrays("CATS.NPZ")),
        ("CATS.ZIP", {}, Folder("CATS.ZIP")),
        ("CATS.ZIP/train", {}, Folder("CATS.ZIP/train")),
    ],
)
def test_parse_source(text: str, settings: dict[str, Any], source: Source) -> None:
    """Each form, with settings."""
    assert parse_source(text, **settings) == source


def test_parse_source_folder(tmp_path: pathlib.Path) -> None:
    """A folder that is there."""
    assert parse_source(str(tmp_path), channels=1) == Folder(str(tmp_path), channels=1)


def test_parse_source_errors() -> None:
    """An unknown word, with the nearest and all forms; a setting that the source does not have."""
    with pytest.raises(
        ValueError, match="'cifar_10' is no source .*perhaps you meant cifar10.*a .zip, a .tar or an .npz"
    ):
        parse_source("cifar_10")
    for text in ("/no/where", ""):
        with pytest.raises(ValueError, match=f"'{text}' is no source"):
            parse_source(text)
    with pytest.raises(ValueError, match=r"split='test': cats.zip \(Folder\) has no split"):
        parse_source("cats.zip", split="test")
