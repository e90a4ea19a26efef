"""Latents as data: every layout of files, what is wrong with files, drawing from posteriors, pictures."""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from imagegen_jax.core.drawing.grid import coloured, grid
from imagegen_jax.data import Dataset, Latents, Posterior, parse_source
from imagegen_jax.data.pictures.describe import channel_statistics, describe, picture_grid

RNG = np.random.default_rng(0)
MEAN = RNG.standard_normal((12, 8, 8, 4)).astype(np.float16)
STD = RNG.uniform(0.1, 0.5, MEAN.shape).astype(np.float16)
LABEL = np.arange(12) % 3


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts with an empty cache."""
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder for the data."""
    folder = tmp_path / "latents"
    folder.mkdir()
    return folder


def put(path: pathlib.Path, rows: slice = slice(None), **arrays: np.ndarray) -> None:
    """An .npz of these rows."""
    np.savez(path, **{name: array[rows] for name, array in arrays.items()})


def message(path: pathlib.Path, **fields: Any) -> str:
    """What opening it raises."""
    with pytest.raises(ValueError) as caught:
        Latents(str(path), **fields).open()
    return str(caught.value)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["file", "parts", "folder", "drawn", "one array"])
def test_every_layout_gives_the_same_rows(root: pathlib.Path, form: str) -> None:
    """In order, as float32, multiplied by the factor; deviations too, which drawn latents do not have."""
    place = root
    if form == "file":
        put(place := root / "a.npz", mean=MEAN, std=STD, label=LABEL, other=LABEL)
    elif form == "parts":
        put(root / "b.npz", slice(5, 12), mean=MEAN, std=STD, label=LABEL)
        put(root / "a.npz", slice(5), mean=MEAN, std=STD, label=LABEL)
    elif form == "folder":
        for name, array in {"mean": MEAN, "std": STD, "label": LABEL}.items():
            np.save(root / f"{name}.npy", array)
    elif form == "drawn":
        put(root / "a.npz", latent=MEAN, label=LABEL)
    else:
        np.save(place := root / "a.npy", MEAN)
    dataset = Latents(str(place), scale=0.25).open()
    assert len(dataset) == 12 and dataset.image_shape == (8, 8, 4)
    order = np.concatenate([Dataset(LABEL[:, None, None, None]).batch(step, 4)["image"] for step in range(3)])
    batches = [dataset.batch(step, 4) for step in range(3)]
    found = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    assert found["image"].dtype == np.float32
    np.testing.assert_allclose(np.sort(found["image"], axis=None), np.sort(0.25 * MEAN, axis=None), rtol=1e-6)
    if form == "one array":
        assert set(found) == {"image"} and dataset.num_classes == 0
        return
    assert dataset.class_names == ("0", "1", "2") and found["label"].dtype == np.int32
    np.testing.assert_array_equal(found["label"], order.ravel())
    rows = [int(np.flatnonzero((0.25 * MEAN == image).all((1, 2, 3)))[0]) for image in found["image"]]
    np.testing.assert_array_equal(LABEL[rows], found["label"])
    if form == "drawn":
        assert set(found) == {"image", "label"}
    else:
        np.testing.assert_array_equal(found["std"], np.float32(0.25) * STD[rows].astype(np.float32))


def test_arrays_in_a_folder_are_read_where_they_lie(root: pathlib.Path) -> None:
    """They may be larger than memory or the cache's disk; .npz files go through the cache, once."""
    np.save(root / "latent.npy", MEAN)
    images = Latents(str(root)).open().images
    assert isinstance(images, np.memmap) and pathlib.Path(images.filename) == root / "latent.npy"
    put(root / "a.npz", latent=MEAN)
    first, again = (Latents(str(root / "a.npz")).open().images for _ in range(2))
    assert isinstance(first, np.memmap) and isinstance(again, np.memmap) and first.filename == again.filename
    put(root / "a.npz", latent=-MEAN)
    np.testing.assert_array_equal(Latents(str(root / "a.npz")).open().images, -MEAN)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"mean": MEAN}, "wanted latent, or mean and std"),
        ({"latent": MEAN, "mean": MEAN, "std": STD}, "wanted latent, or mean and std"),
        ({"label": LABEL}, "wanted latent, or mean and std"),
        ({"other": MEAN}, "none of its arrays is called latent, mean, std, label"),
        ({"latent": MEAN.astype(np.int32)}, "latent is int32 .12, 8, 8, 4., not floats"),
        ({"latent": MEAN[0]}, "not floats .n h w c."),
        ({"latent": np.moveaxis(MEAN, -1, 1)}, "channels first: move the channels last with numpy.moveaxis"),
        ({"mean": MEAN, "std": STD[:, :4, :4]}, "give each mean one"),
        ({"latent": MEAN, "label": LABEL[:5]}, "label is int64 .5., not integers from 0, .12."),
        ({"latent": MEAN, "label": LABEL - 1}, "not integers from 0"),
        ({"latent": MEAN, "label": LABEL / 2}, "label is float64"),
    ],
)
def test_wrong_arrays(root: pathlib.Path, arrays: dict[str, np.ndarray], said: str) -> None:
    """By name, type and shape."""
    put(root / "a.npz", **arrays)
    with pytest.raises(ValueError, match=said) as caught:
        Latents(str(root)).open()
    assert str(root) in str(caught.value)


def test_wrong_files(root: pathlib.Path) -> None:
    """None, parts that differ, damaged ones, objects that would have to be unpickled; and a factor of 0."""
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        Latents(str(root / "no")).open()
    assert "has no .npz files" in message(root)
    put(root / "a.npz", latent=MEAN)
    put(root / "b.npz", latent=MEAN[:, :4])
    said = message(root)
    assert "b.npz holds latent float16 [12, 4, 8, 4], but a.npz latent float16 [12, 8, 8, 4]" in said
    (root / "b.npz").write_bytes((root / "a.npz").read_bytes()[:900])
    assert "b.npz does not hold latents, or it is damaged" in message(root)
    (root / "c.npy").write_bytes(b"no array")
    assert "c.npy does not hold latents" in message(root / "c.npy")
    np.savez(root / "b.npz", latent=np.array([{}, "x"], object))
    assert "latent.npy holds Python objects" in message(root)
    assert "scale=0 must be above 0" in message(root / "a.npz", scale=0)


# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_posteriors_are_drawn_anew_by_the_key_of_the_row() -> None:
    """Mean and deviation are those given; another key gives another draw, and the same rows the same."""
    n = 4000
    mean, std = jnp.full((n, 2, 2, 1), 0.3), jnp.full((n, 2, 2, 1), 0.05)
    batch, keys = {"image": mean, "std": std, "label": jnp.arange(n)}, jax.random.split(jax.random.key(0), n)
    found = jax.jit(Posterior())(batch, keys)
    assert set(found) == {"image", "label"}
    assert float(found["image"].mean()) == pytest.approx(0.3, abs=4 * 0.05 / np.sqrt(4 * n))
    assert float(found["image"].std()) == pytest.approx(0.05, rel=0.03)
    part = Posterior()({name: leaf[7:9] for name, leaf in batch.items()}, keys[7:9])
    np.testing.assert_allclose(part["image"], found["image"][7:9], rtol=1e-6)
    other = Posterior()(batch, jax.random.split(jax.random.key(1), n))
    assert (other["image"] != found["image"]).all()
    drawn = {"image": mean, "label": jnp.arange(n)}
    assert Posterior()(drawn, keys) is drawn


# --- figures and pictures --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_figures_and_pictures(root: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the scale of batches, in chunks; three channels are drawn, from -3 to 3 deviations, a class a row."""
    put(root / "a.npz", mean=MEAN, std=STD, label=LABEL)
    dataset = Latents(str(root), scale=0.25).open()
    monkeypatch.setattr("imagegen_jax.data.pictures.describe._CHUNK_BYTES", 5 * MEAN[0].nbytes)
    values = 0.25 * MEAN.astype(np.float64)
    mean, std = channel_statistics(dataset)
    np.testing.assert_allclose(mean, values.mean((0, 1, 2)), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(std, values.std((0, 1, 2)), rtol=1e-6)
    text = describe(dataset, "latents")
    assert "12 images of 8x8x4" in text and "posteriors" in text and "classes             3" in text
    picture_grid(dataset, root / "a.png")
    pixels = np.asarray(Image.open(root / "a.png"))
    assert pixels.shape == (3 * 10 + 2, 10 * 10 + 2, 3)
    expected = ((values - values.mean((0, 1, 2))) / values.std((0, 1, 2)))[0, :, :, :3] / 3
    expected = np.round((np.clip(expected, -1, 1) + 1) * 127.5)
    np.testing.assert_allclose(pixels[2:10, 2:10], expected, atol=1)
    picture_grid(Dataset(MEAN[..., :1]), root / "b.png")
    assert np.asarray(Image.open(root / "b.png")).ndim == 2


def test_a_grid_of_any_number_of_channels() -> None:
    """What has no colours is drawn by its first channels."""
    images = np.arange(16, dtype=np.uint8) + np.zeros((2, 3, 3, 1), np.uint8)
    for channels, drawn in {1: 1, 2: 1, 3: 3, 4: 4, 5: 3, 16: 3}.items():
        found = coloured(images[..., :channels])
        np.testing.assert_array_equal(found, images[..., :drawn])
        assert grid(images[..., :channels], 2).shape == (7, 12, drawn)


def test_parse_source() -> None:
    """A word of the command line."""
    assert parse_source("latents:a/b") == Latents("a/b")
    with pytest.raises(ValueError, match="has no size"):
        parse_source("latents:a/b", size=3)


# --- what made them --------------------------------------------------------------------------------------------------


def test_files_say_what_made_them_and_how_they_are_spread(root: pathlib.Path) -> None:
    """Where they all say the same; each file's own measures are none of the whole."""
    notes = {"autoencoder": np.array("abc"), "scale": np.array([1.0, 2.0, 3.0, 4.0]), "shift": np.array(0.5)}
    for name in "ab":
        np.savez(root / f"{name}.npz", latent=MEAN, **notes)
    found = Latents(str(root)).open()
    assert found.autoencoder == "abc" and found.measured == ((1.0, 2.0, 3.0, 4.0), 0.5)
    np.savez(root / "b.npz", latent=MEAN, **{**notes, "shift": np.array(1.0)})
    found = Latents(str(root)).open()
    assert found.autoencoder == "abc" and found.measured is None
    np.savez(root / "b.npz", latent=MEAN, **{**notes, "autoencoder": np.array("xyz")})
    assert "different autoencoders: abc (a.npz), xyz (b.npz)" in message(root)
    np.savez(root / "b.npz", latent=MEAN)
    assert Latents(str(root)).open().autoencoder is None
    for name, value in {"latent": MEAN, **notes}.items():
        np.save(root / f"{name}.npy", value)
    assert Latents(str(root)).open().measured == ((1.0, 2.0, 3.0, 4.0), 0.5)
