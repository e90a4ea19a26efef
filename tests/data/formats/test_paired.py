"""Paired and unpaired sets: partners stay together, sides are shuffled apart, and every kind of wrong pair."""

from __future__ import annotations

import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from imagegen_jax.core.drawing.grid import beside
from imagegen_jax.core.experiment import example_batch, row_shapes
from imagegen_jax.core.step import prepare
from imagegen_jax.data import Dataset, DigitPairs, HorizontalFlip, Jitter, Paired, Unpaired, parse_source, to_float
from imagegen_jax.data.pictures.describe import describe, picture_grid


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts with an empty cache."""
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """An empty folder."""
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


def put(root: pathlib.Path, name: str, value: int = 0, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> None:
    """A file of one value."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value,) * 3).save(root / name)


def zipped(root: pathlib.Path) -> pathlib.Path:
    """A zip of what is in `root`, beside it."""
    return pathlib.Path(shutil.make_archive(str(root), "zip", root))


def put_pair(root: pathlib.Path, name: str, left: int, right: int, size: int = 8) -> None:
    """A PNG file of two squares side by side, each of one value."""
    root.mkdir(parents=True, exist_ok=True)
    halves = [np.full((size, size, 3), value, np.uint8) for value in (left, right)]
    Image.fromarray(np.concatenate(halves, axis=1)).save(root / name)


def message(source: Paired | Unpaired) -> str:
    """Of the ValueError that opening `source` raises."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        source.open()
    return str(caught.value)


def values(images: np.ndarray) -> list[int]:
    """The first value of each."""
    return images[:, 0, 0, 0].tolist()


def two_sets(n: int, m: int, paired: bool) -> Dataset:
    """Images of 2x2 whose pixels are their number, and sources likewise."""
    images, sources = (np.arange(k, dtype=np.uint8).repeat(4).reshape(k, 2, 2, 1) for k in (n, m))
    return Dataset(images, sources=sources, paired=paired)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["folder", "zip", "folder of a zip"])
def test_side_by_side(root: pathlib.Path, form: str) -> None:
    """Either half can be the image; each is resized as a whole."""
    for name, (left, right) in {"train/b.png": (3, 103), "train/a.png": (1, 101), "train/c.png": (2, 102)}.items():
        put_pair((root / name).parent, pathlib.Path(name).name, left, right)
    place = {"folder": root, "zip": zipped(root), "folder of a zip": zipped(root) / "train"}[form]
    dataset = Paired(str(place)).open()
    assert dataset.image_shape == (8, 8, 3) and dataset.labels is None and dataset.paired
    assert values(dataset.images) == [101, 103, 102] and values(dataset.sources) == [1, 3, 2]
    dataset = Paired(str(place), image_side="left", size=4, channels=1).open()
    assert dataset.image_shape == (4, 4, 1) and dataset.sources.shape == (3, 4, 4, 1)
    assert values(dataset.images) == [1, 3, 2] and values(dataset.sources) == [101, 103, 102]
    assert (np.asarray(dataset.images).max((1, 2, 3)) == [1, 3, 2]).all()  # nothing of the other half


def test_two_places(root: pathlib.Path) -> None:
    """By name without its end, whatever the order of the full names; sources may have other channels."""
    for name, value in {"a.k.ppm": 1, "a.ppm": 2, "deep/b.ppm": 3}.items():
        put(root / "photos", name, value)
    for name, value in {"a.png": 2, "a.k.png": 1, "deep/b.png": 3}.items():
        put(root / "labels", name, value, mode="L")
    dataset = Paired(str(root / "photos"), str(root / "labels")).open()
    assert values(dataset.images) == values(dataset.sources) == [2, 1, 3]
    assert dataset.image_shape == (8, 8, 3) and dataset.sources.shape[1:] == (8, 8, 1)


def test_unpaired(root: pathlib.Path) -> None:
    """Two folders, two zips or two folders of one; their lengths may differ, their sizes not."""
    for value in range(5):
        put(root, f"trainA/{value}.png", value)
    for value in range(3):
        put(root, f"trainB/{value}.png", 100 + value)
    for place in (root, zipped(root)):
        dataset = Unpaired(str(place / "trainB"), str(place / "trainA")).open()
        assert len(dataset) == 3 and len(dataset.sources) == 5 and not dataset.paired
        assert dataset.images.min() == 100 and dataset.sources.max() == 4
    put(root, "other/0.png", size=(12, 10))
    said = message(Unpaired(str(root / "trainB"), str(root / "other")))
    assert "images are 8x8" in said and "sources 10x12" in said and said.endswith("have it done with size=8")
    with pytest.raises(FileNotFoundError, match="there is no folder trainC/ in .*only other, trainA, trainB"):
        Unpaired(str(zipped(root) / "trainC"), str(root / "trainA")).open()


def test_files_without_a_partner_are_named_and_counted(root: pathlib.Path) -> None:
    """On either side; and two files that would have one partner."""
    for number in range(14):
        put(root, f"photos/{number:02}.png")
    put(root, "labels/00.png")
    put(root, "labels/extra.png")
    said = message(Paired(str(root / "photos"), str(root / "labels")))
    assert "14 files have no partner of the same name" in said
    assert "photos/01.png" in said and "photos/10.png" in said and "photos/11.png" not in said and "and 4 more" in said
    put(root, "photos/00.ppm")
    assert "00.png" in (said := message(Paired(str(root / "photos"), str(root / "labels")))) and "have one name" in said


def test_wrong_shapes(root: pathlib.Path) -> None:
    """A file that is not twice as wide as high, sizes that differ, and grey among colour."""
    put_pair(root, "a.png", 1, 2)
    put(root, "b.png", size=(20, 8))
    said = message(Paired(str(root)))
    assert "b.png is 8x20 (height x width)" in said and "twice as wide as high" in said
    assert "paired:IMAGES,SOURCES" in said  # what is typed, where no `sources` can be
    put_pair(root, "b.png", 1, 2, size=12)
    said = message(Paired(str(root)))
    assert "a.png is 8x8x3" in said and "b.png is 12x12x3" in said and said.endswith("have it done with size=8")
    put(root, "b.png", size=(16, 8), mode="L")
    said = message(Paired(str(root)))
    assert "b.png is 8x8x1" in said and said.endswith("have it done with channels=3")
    assert Paired(str(root), channels=3).open().sources.shape == (2, 8, 8, 3)
    put(root.parent / "labels", "a.png", size=(4, 4))
    put(root.parent / "labels", "b.png", size=(4, 4))
    said = message(Paired(str(root), str(root.parent / "labels"), channels=3, size=None))
    assert "images are 8x16" in said and "sources 4x4" in said


def test_damaged_and_other_files(root: pathlib.Path) -> None:
    """They are named; a pair cannot be left out by half, so nothing is said of leaving out."""
    put_pair(root, "a.png", 1, 2)
    (root / "b.png").write_bytes(b"not an image")
    said = message(Paired(str(root)))
    assert "b.png (not an image)" in said and "skip_damaged" not in said
    (root / "b.png").unlink()
    (root / "notes.mp3").write_text("of the maker")
    assert "notes.mp3" in message(Paired(str(root)))
    (root / "notes.mp3").rename(root / "a.txt")  # a caption is no image of the same name
    assert len(Paired(str(root)).open()) == 1
    (root / "a.txt").unlink()
    assert "image_side must be left or right" in message(Paired(str(root), image_side="top"))  # type: ignore[arg-type]
    (root / "a.png").unlink()
    assert "no images in" in message(Paired(str(root)))


def test_a_second_opening_reads_the_cache(root: pathlib.Path) -> None:
    """Both halves are mapped from there."""
    put_pair(root, "a.png", 1, 2)
    first, again = Paired(str(root)).open(), Paired(str(root)).open()
    assert first.images.filename == again.images.filename != first.sources.filename == again.sources.filename


# --- batches ---------------------------------------------------------------------------------------------------------


def test_partners_stay_together() -> None:
    """In every batch, also where it straddles epochs; images come in the order of a set without sources."""
    dataset = two_sets(10, 10, paired=True)
    for step in range(8):
        batch = dataset.batch(step, 7, seed=3)
        np.testing.assert_array_equal(batch["image"], batch["source"])
        np.testing.assert_array_equal(batch["image"], Dataset(dataset.images).batch(step, 7, seed=3)["image"])


def test_sides_are_shuffled_apart() -> None:
    """Each holds all of its own once an epoch of its own; which meet is random."""
    dataset = two_sets(10, 14, paired=False)
    batches = [dataset.batch(step, 10, seed=3) for step in range(28)]
    images, sources = (np.concatenate([values(batch[name]) for batch in batches]) for name in ("image", "source"))
    assert (np.sort(images.reshape(-1, 10)) == np.arange(10)).all()
    assert (np.sort(sources.reshape(-1, 14)) == np.arange(14)).all()
    equal = two_sets(12, 12, paired=False)
    met = {pair for step in range(40) for pair in zip(*map(values, equal.batch(step, 12).values()), strict=True)}
    assert len(met) > 130  # of 144; 480 independent draws leave out 5 on average


def test_hosts_read_their_own_rows() -> None:
    """Of both sides."""
    for paired in (False, True):
        dataset = two_sets(10, 10, paired)
        whole = dataset.batch(2, 8, seed=5)
        parts = [dataset.batch(2, 8, seed=5, rows=slice(start, start + 4)) for start in (0, 4)]
        np.testing.assert_array_equal(np.concatenate([part["source"] for part in parts]), whole["source"])


def test_every_leaf_of_images_becomes_float() -> None:
    """By `prepare` as the shapes of `example_batch` say; labels, tokens and what is float already stay."""
    batch = {
        "image": np.full((2, 4, 4, 3), 255, np.uint8),
        "source": np.zeros((2, 4, 4, 1), np.uint8),
        "tokens": np.ones((2, 5), np.uint8),
        "label": np.ones(2, np.int32),
        "mask": np.ones((2, 4, 4, 1), np.float32),
    }

    class Rows:
        def batch(self, step: int, n: int) -> dict[str, np.ndarray]:
            return {name: leaf[:n] for name, leaf in batch.items()}

    found = prepare((), batch, jax.random.key(0))
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in found.items()} == {
        name: (row.shape, row.dtype) for name, row in example_batch(row_shapes(Rows()), 2).items()
    }
    assert (found["image"] == 1).all() and (found["source"] == -1).all()
    assert all(found[name] is batch[name] for name in ("tokens", "label", "mask"))


# --- augmentation ----------------------------------------------------------------------------------------------------

KEYS = jax.random.split(jax.random.key(0), 64)


def gradients(side: int = 16) -> dict[str, jax.Array]:
    """64 equal rows whose image tells the place of each pixel: row number, column number; the source is the same."""
    at = jnp.linspace(-0.9, 0.9, side)
    image = jnp.stack(jnp.meshgrid(at, at, indexing="ij"), axis=-1)
    image = jnp.broadcast_to(image, (64, side, side, 2))
    return {"image": image, "source": image, "label": jnp.arange(64)}


@pytest.mark.slow
def test_jitter_treats_partners_alike() -> None:
    """And rows not; where they are not together, image and source get their own."""
    found = jax.jit(Jitter(scale=1.25))(gradients(), KEYS)
    np.testing.assert_array_equal(found["image"], found["source"])
    np.testing.assert_array_equal(found["label"], jnp.arange(64))
    assert len(np.unique(np.asarray(found["image"]).reshape(64, -1), axis=0)) > 30
    apart = jax.jit(Jitter(scale=1.25, together=False))(gradients(), KEYS)
    same = (apart["image"] == apart["source"]).all((1, 2, 3))
    assert same.mean() < 0.1
    again = Jitter(scale=1.25)({name: leaf[10:20] for name, leaf in gradients().items()}, KEYS[10:20])
    np.testing.assert_allclose(again["image"], found["image"][10:20], atol=1e-6)  # the key of the row decides


@pytest.mark.slow
def test_jitter_is_a_window_of_the_enlarged_image() -> None:
    """All places occur, about half are mirrored, and the range of pixels is kept."""
    side, grown = 16, 20
    found = np.asarray(jax.jit(Jitter(scale=grown / side))(gradients(side), KEYS)["image"])
    large = np.asarray(jax.image.resize(gradients(side)["image"][0], (grown, grown, 2), "bilinear"))
    windows = {}
    for top in range(grown - side + 1):
        for left in range(grown - side + 1):
            window = large[top : top + side, left : left + side]
            windows |= {(top, left, False): window, (top, left, True): window[:, ::-1]}
    where = [next(at for at, window in windows.items() if np.abs(window - row).max() < 1e-5) for row in found]
    assert {at[0] for at in where} == {at[1] for at in where} == set(range(5))
    assert 20 < sum(at[2] for at in where) < 44
    assert np.abs(found).max() <= 0.9 + 1e-6
    unchanged = Jitter(scale=1.0, flip=0.0)(gradients(), KEYS)["image"]
    np.testing.assert_allclose(unchanged, gradients()["image"], atol=1e-6)
    for wrong in ({"scale": 0.9}, {"flip": 1.1}):
        with pytest.raises(ValueError, match="must be at least 1"):
            Jitter(**wrong)


def test_a_flip_mirrors_source_and_image() -> None:
    """`HorizontalFlip` keeps pairs, too."""
    found = HorizontalFlip()(gradients(), KEYS)
    np.testing.assert_array_equal(found["image"], found["source"])
    assert 20 < (found["image"] != gradients()["image"]).any((1, 2, 3)).sum() < 44


# --- digits, figures, names ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_digit_pairs() -> None:
    """Each source is a blurred negative: it predicts its image; unpaired, no digit is on both sides."""
    dataset = DigitPairs(size=16).open()
    assert len(dataset) == 1797 and dataset.sources.shape == (1797, 16, 16, 1) and dataset.paired
    batch = dataset.batch(0, 200)
    image, source = (np.asarray(to_float(batch[name])).ravel() for name in ("image", "source"))
    assert np.corrcoef(image, source)[0, 1] < -0.8
    apart = DigitPairs(size=16, channels=3, paired=False).open()
    assert len(apart) == 898 and len(apart.sources) == 899 and apart.image_shape == (16, 16, 3) and not apart.paired
    np.testing.assert_array_equal(apart.sources[..., :1], dataset.sources[898:])


def test_describe_and_picture(tmp_path: pathlib.Path) -> None:
    """`imagegen data info` tells of sources and shows each to the left of its image, grey as colour."""
    images = np.arange(7, dtype=np.uint8)[:, None, None, None] + np.zeros((7, 4, 4, 3), np.uint8)
    dataset = Dataset(images, sources=100 + images[..., :1])
    assert "sources             7 of 4x4x1, one for each image" in describe(dataset, "pairs")
    picture_grid(dataset, tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    assert pixels[2::6, 2::10, 0].tolist() == [[100, 101, 102, 103, 104], [105, 106, 255, 255, 255]]
    assert pixels[2::6, 6::10, 2].tolist() == [[0, 1, 2, 3, 4], [5, 6, 255, 255, 255]]
    text = describe(two_sets(3, 5, paired=False), "sets")
    assert "sources             5 of 2x2x1, shuffled apart from the images" in text


def test_beside() -> None:
    """Wider by all widths, with the most channels; other heights are refused."""
    grey, alpha = np.full((2, 3, 1, 1), 7, np.uint8), np.full((2, 3, 2, 4), 9, np.uint8)
    found = beside(grey, alpha)
    assert found.shape == (2, 3, 3, 4) and found[0, 0, 0].tolist() == [7, 7, 7, 255]
    with pytest.raises(ValueError, match="must be the same"):
        beside(grey, alpha[:, :2])


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("paired:facades.zip/train", Paired("facades.zip/train", size=64)),
        ("paired:photos,labels", Paired("photos", "labels", size=64)),
        ("unpaired:h2z.zip/trainB,h2z.zip/trainA", Unpaired("h2z.zip/trainB", "h2z.zip/trainA", size=64)),
    ],
)
def test_parse_source(text: str, source: Paired | Unpaired) -> None:
    """The forms of translation."""
    assert parse_source(text, size=64) == source
    with pytest.raises(ValueError, match="has no split"):
        parse_source(text, split="test")
    with pytest.raises(ValueError, match="names no sources"):
        parse_source("unpaired:photos")


@pytest.mark.slow
def test_real_pairs(shared: pathlib.Path) -> None:
    """The facades: 400 pairs of a photo and of labels in pure colours."""
    place = shared / "data" / "facades" / "facades_128.zip" / "train"
    dataset = Paired(str(place), image_side="left", channels=3).open()
    assert dataset.images.shape == dataset.sources.shape == (400, 128, 128, 3)

    def saturation(images: np.ndarray) -> float:
        return float(np.mean(np.ptp(images[:20], axis=-1)))

    assert saturation(dataset.sources) > 2 * saturation(dataset.images)


@pytest.mark.slow
def test_real_sets(shared: pathlib.Path) -> None:
    """Horses and zebras."""
    place = shared / "data" / "horse2zebra" / "horse2zebra_64_all.zip"
    dataset = Unpaired(str(place / "trainB"), str(place / "trainA"), channels=3).open()
    assert (len(dataset), len(dataset.sources), dataset.image_shape) == (1334, 1067, (64, 64, 3))
