"""Arrays: an .npz file, what a notebook holds, and every array that is no image or label."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

from imagegen_jax.data import Arrays, from_arrays


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts with an empty cache."""
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))


IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("names", [("image", "label"), ("arr_0", "arr_1"), ("x_train", "y_train")])
def test_npz(tmp_path: pathlib.Path, names: tuple[str, str]) -> None:
    """Images and labels come back as they were saved, under any of the usual names."""
    np.savez(tmp_path / "a.npz", **dict(zip(names, (IMAGES, LABELS), strict=True)))
    dataset = Arrays(str(tmp_path / "a.npz")).open()
    np.testing.assert_array_equal(dataset.images, IMAGES)
    np.testing.assert_array_equal(dataset.labels, LABELS)
    assert dataset.class_names == ("0", "1", "2")


def test_npz_at_another_size(tmp_path: pathlib.Path) -> None:
    """`size` and `channels` hold for arrays too; grey images may lack the last axis."""
    np.savez_compressed(tmp_path / "grey.npz", IMAGES[..., 0])
    assert Arrays(str(tmp_path / "grey.npz")).open().image_shape == (8, 8, 1)
    assert Arrays(str(tmp_path / "grey.npz"), size=4).open().image_shape == (4, 4, 1)
    dataset = Arrays(str(tmp_path / "grey.npz"), size=4, channels=3).open()
    assert dataset.image_shape == (4, 4, 3) and dataset.labels is None


def test_a_changed_npz_is_read_anew(tmp_path: pathlib.Path) -> None:
    """The cache goes by content, not by name or time."""
    path = tmp_path / "a.npz"
    np.savez(path, IMAGES)
    Arrays(str(path)).open()
    np.savez(path, 255 - IMAGES)
    np.testing.assert_array_equal(Arrays(str(path)).open().images, 255 - IMAGES)


def test_from_arrays() -> None:
    """The source that it returns reads them, is the same for the same arrays, and other for others."""
    source = from_arrays(IMAGES, LABELS, class_names=("a", "b", "c"))
    dataset = source.open()
    np.testing.assert_array_equal(dataset.images, IMAGES)
    np.testing.assert_array_equal(dataset.labels, LABELS)
    assert dataset.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(from_arrays(np.asfortranarray(IMAGES[:5])).open().images, IMAGES[:5])
    assert source == from_arrays(IMAGES.copy(), LABELS.astype(np.uint8), class_names=("a", "b", "c"))
    others = [
        from_arrays(IMAGES),
        from_arrays(255 - IMAGES),
        from_arrays(IMAGES, 2 - LABELS),
        from_arrays(IMAGES, LABELS),
    ]
    assert len({source, *others}) == 5
    resized = Arrays(source.path, size=4).open()
    assert resized.image_shape == (4, 4, 3) and resized.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(resized.labels, LABELS)


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (IMAGES / 255.0, None, "float64: bring them to .* to_uint8"),
        (IMAGES.astype(np.int64), None, r"int64, not uint8: convert them with .astype"),
        (IMAGES[0, 0], None, r"shape \(8, 3\)"),
        (IMAGES[:0], None, r"shape \(0, 8, 8, 3\)"),
        (IMAGES[..., :2], None, r"shape \(6, 8, 8, 2\)"),
        (np.moveaxis(IMAGES, -1, 1), None, "numpy.moveaxis"),
        (IMAGES, LABELS - 1, r"labels are in -1..1"),
        (IMAGES, LABELS[:5], r"labels are int64 \[5\], not integers \[6\]"),
        (IMAGES, LABELS / 2, r"labels are float64 \[6\], not integers"),
        (IMAGES, np.eye(6), r"labels are float64 \[6, 6\]"),
        (IMAGES, LABELS * 10**6, "2000000 is too high"),
    ],
)
def test_wrong_arrays(tmp_path: pathlib.Path, images: np.ndarray, labels: np.ndarray | None, said: str) -> None:
    """Of type, shape or range: from a notebook and from a file, before anything is stored."""
    with pytest.raises(ValueError, match=said):
        from_arrays(images, labels)
    saved: dict[str, Any] = {"images": images} if labels is None else {"images": images, "labels": labels}
    np.savez(tmp_path / "wrong.npz", **saved)
    with pytest.raises(ValueError, match=said) as caught:
        Arrays(str(tmp_path / "wrong.npz")).open()
    assert "wrong.npz" in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_class_names_that_do_not_fit() -> None:
    """Fewer names than labels, or names without labels."""
    with pytest.raises(ValueError, match=r"labels are in 0..2, not in 0..1"):
        from_arrays(IMAGES, LABELS, class_names=("a", "b"))
    with pytest.raises(ValueError, match="class_names are given, but no labels"):
        from_arrays(IMAGES, class_names=("a", "b"))


def test_wrong_files(tmp_path: pathlib.Path) -> None:
    """Missing, not an .npz, cut short, without images, or with objects that would have to be unpickled."""
    path = tmp_path / "a.npz"
    with pytest.raises(FileNotFoundError, match=r"no file .*a\.npz"):
        Arrays(str(path)).open()
    path.write_text("not a zip")
    with pytest.raises(ValueError, match="not an .npz of images"):
        Arrays(str(path)).open()
    np.savez(path, IMAGES)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="not an .npz of images"):
        Arrays(str(path)).open()
    np.savez(path, IMAGES)
    data = bytearray(path.read_bytes())
    data[600] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match="or it is damaged .*CRC"):
        Arrays(str(path)).open()
    np.savez(path, features=IMAGES)
    with pytest.raises(ValueError, match=r"\(features\) is called image, images"):
        Arrays(str(path)).open()
    np.savez(path, images=np.array([{}, "x"], object))
    with pytest.raises(ValueError, match="holds Python objects"):
        Arrays(str(path)).open()
