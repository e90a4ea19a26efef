"""Folders and zips of images: classes, shapes, and every kind of bad file."""

from __future__ import annotations

import json
import os
import pathlib
import re
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from imagegen_jax.data import Folder

pytestmark = pytest.mark.versions


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
    """A PNG file of one value."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    fill = value if mode == "L" else (value,) * len(mode)
    Image.new(mode, size, fill).save(root / name)


def zipped(root: pathlib.Path) -> pathlib.Path:
    """A zip of what is in `root`, beside it."""
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root).as_posix())
    return path


def message(source: Folder) -> str:
    """Of the ValueError that opening `source` raises."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        source.open()
    return str(caught.value)


def test_class_folders(root: pathlib.Path) -> None:
    """Classes and images in the order of their names; a zip and a folder around it give the same."""
    for name, value in {"dog/b.png": 3, "cat/2.png": 2, "cat/1.png": 1, "dog/deep/a.png": 4}.items():
        put(root, f"around/{name}", value)
    put(root, ".hidden/x.png")
    (root / "Thumbs.db").write_text("litter")
    opened = [Folder(str(path)).open() for path in (root, root / "around", zipped(root))]
    for dataset in opened:
        assert dataset.class_names == ("cat", "dog")
        assert dataset.labels is not None and dataset.labels.tolist() == [0, 0, 1, 1]
        assert dataset.images[:, 0, 0, 0].tolist() == [1, 2, 3, 4]


def test_flat(root: pathlib.Path) -> None:
    """Images all in one folder, or in a zip of one folder, have no classes."""
    for number in range(3):
        put(root, f"one/{number}.png", number)
    for path in (root, root / "one", zipped(root)):
        dataset = Folder(str(path)).open()
        assert dataset.labels is None and dataset.num_classes == 0 and len(dataset) == 3


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_dataset_json(root: pathlib.Path, form: str) -> None:
    """The labels of a StyleGAN or EDM set win over folders; null gives none, folders then count."""
    put(root, "00000/img0.png", 10)
    put(root, "00000/img1.png", 11)
    put(root, "00001/img2.png", 12)
    labels = [["00001/img2.png", 0], ["00000/img0.png", 2], ["00000/img1.png", 0]]
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    dataset = Folder(str(root if form == "folder" else zipped(root))).open()
    assert dataset.labels is not None and dataset.labels.tolist() == [2, 0, 0]
    assert dataset.class_names == ("0", "1", "2")
    inside = root.rename(root.parent / "inside")
    (root / "around").mkdir(parents=True)
    root = inside.rename(root / "around").parent
    assert Folder(str(root if form == "folder" else zipped(root))).open().num_classes == 3
    (root / "around" / "dataset.json").write_text(json.dumps({"labels": None}))
    assert Folder(str(root if form == "folder" else zipped(root))).open().class_names == ("00000", "00001")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"labels": [["a.png", -1], ["b.png", 0]]}', "gives a.png the label -1"),
        ('{"labels": [["a.png", 0.5], ["b.png", 0]]}', "gives a.png the label 0.5"),
        ('{"labels": [["a.png", 1000000000], ["b.png", 0]]}', "1000000000 is too high"),
        ('{"labels": [["a.png", 0]]}', "1 images have no label in dataset.json, such as b.png"),
        ('{"labels": [["a.png", 0], ["b.png", 0], ["c.png", 1]]}', "c.png ("),
        ('{"labels": [["a.png", 0], ["b.png", 0], ["../secret.png", 1]]}', "../secret.png (not there)"),
        ('{"labels": [["a.png"', "not of the form"),
        ('["a.png"]', "not of the form"),
    ],
)
def test_wrong_dataset_json(root: pathlib.Path, text: str, said: str) -> None:
    """Labels that are no class numbers, missing, or without a file, and other forms."""
    put(root, "a.png")
    put(root, "b.png")
    put(root.parent, "secret.png")
    (root / "dataset.json").write_text(text)
    assert said in message(Folder(str(root)))


def test_size_and_channels(root: pathlib.Path) -> None:
    """Images of several shapes need `size` and `channels`, and the error says which."""
    put(root, "a.png", size=(8, 8))
    put(root, "b.png", size=(12, 10))
    said = message(Folder(str(root)))
    assert "a.png is 8x8x3" in said and "b.png is 10x12x3" in said
    assert said.endswith("bring the files to one shape, or have it done with size=8")
    put(root, "b.png", size=(8, 8), mode="L")
    said = message(Folder(str(root)))
    assert "b.png is 8x8x1" in said and said.endswith("have it done with channels=3")
    assert Folder(str(root), size=4, channels=3).open().image_shape == (4, 4, 3)


def test_damaged_files_are_named_and_counted(root: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first ten by name; left out only when the user allows it, and then said at each opening."""
    put(root, "good.png", 7)
    for number in range(12):
        (root / f"bad{number:02}.png").write_bytes(b"not an image")
    said = message(Folder(str(root)))
    assert "12 damaged files" in said and "bad00.png (not an image)" in said and "and 2 more" in said
    assert "bad09.png" in said and "bad10.png" not in said and "skip_damaged=True" in said
    for _ in range(2):
        caplog.clear()
        dataset = Folder(str(root), skip_damaged=True).open()
        assert len(dataset) == 1 and dataset.images.max() == 7
        assert "12 damaged files" in caplog.text
    assert "12 damaged files" in message(Folder(str(root)))  # also where the cache has those that are left


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_truncated(root: pathlib.Path, form: str) -> None:
    """A file that ends too early is damaged."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = root / "cut.png"
    Image.fromarray(noise).save(path, form)
    path.write_bytes(path.read_bytes()[:-2000])
    assert "1 damaged files" in message(Folder(str(root))) and "cut.png (" in message(Folder(str(root)))


def test_other_files_are_refused_before_decoding(root: pathlib.Path) -> None:
    """By the end of their names; with leave they are left out, also of the classes."""
    put(root, "cat/1.png")
    put(root, "dog/1.png")
    (root / "song.mp3").write_text("la la")
    assert "song.mp3" in message(Folder(str(root)))
    assert not (root.parent / "cache").exists()
    assert Folder(str(root), skip_damaged=True).open().class_names == ("cat", "dog")


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("name", ["1.txt", "captions.csv", "meta.JSON", "1.json", "list.jsonl", "README.md", "a.xml"])
def test_what_data_sets_keep_beside_images_is_not_damaged(root: pathlib.Path, form: str, name: str) -> None:
    """Captions and tables are no classes either."""
    put(root, "cat/1.png")
    put(root, "dog/1.png")
    for folder in (root, root / "cat"):
        (folder / name).write_text("a cat")
    place = root if form == "folder" else zipped(root)
    dataset = Folder(str(place)).open()
    assert len(dataset) == 2 and dataset.class_names == ("cat", "dog")


def test_captions_alone_are_no_images(root: pathlib.Path) -> None:
    """The error names one of them."""
    (root / "1.txt").write_text("a cat")
    assert "no images in it, only 1.txt and the like" in message(Folder(str(root)))


@pytest.mark.parametrize("skip_damaged", [False, True])
def test_decompression_bomb(root: pathlib.Path, skip_damaged: bool) -> None:
    """A few bytes that claim 60,000 x 60,000 pixels are refused by name without decoding."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (root / "bomb.png").write_bytes(bomb)
    said = message(Folder(str(root), skip_damaged=skip_damaged))
    assert ("bomb.png" in said and "decompression bomb" in said) or skip_damaged
    put(root, "good.png")
    if skip_damaged:
        assert len(Folder(str(root), skip_damaged=True).open()) == 1


def test_damage_inside_a_zip(root: pathlib.Path) -> None:
    """A member whose checksum is wrong is named; a file that is no zip too."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(root / "a.png")
    put(root, "b.png", size=(64, 64))
    path = zipped(root)
    data = bytearray(path.read_bytes())
    data[5000] ^= 255
    path.write_bytes(data)
    assert "a.png (" in message(Folder(str(path)))
    path.write_bytes(data[:1000])
    assert "no zip, or a damaged one" in message(Folder(str(path)))


def test_nothing_there(root: pathlib.Path) -> None:
    """A missing path, an empty folder and an impossible size or channels."""
    with pytest.raises(FileNotFoundError, match="no folder or zip .*nowhere"):
        Folder(str(root / "nowhere")).open()
    assert "no images in it" in message(Folder(str(root)))
    assert "no images in it" in message(Folder(str(zipped(root))))
    put(root, "a.png")
    assert "size=0 must be positive" in message(Folder(str(root), size=0))
    assert "channels=2 must be 1" in message(Folder(str(root), channels=2))


def test_images_beside_class_folders(root: pathlib.Path) -> None:
    """They have no class."""
    put(root, "cat/1.png")
    put(root, "dog/1.png")
    put(root, "stray.png")
    assert "1 images lie beside the class folders, such as stray.png" in message(Folder(str(root)))


def test_a_changed_folder_is_decoded_anew(root: pathlib.Path) -> None:
    """Where a file is rewritten, added or removed; where nothing changed the cache is read."""
    put(root, "a.ppm", 1)
    first = Folder(str(root)).open()
    assert Folder(str(root)).open().images.filename == first.images.filename  # type: ignore[attr-defined]
    put(root, "a.ppm", 2)  # of the same length
    os.utime(root / "a.ppm", ns=(1, 1))
    assert Folder(str(root)).open().images.max() == 2
    put(root, "b.png", 3)
    assert len(Folder(str(root)).open()) == 2


def test_links_are_followed_once(root: pathlib.Path) -> None:
    """A link to a folder above does not lead in circles."""
    put(root, "a.png")
    (root / "loop").symlink_to(root)
    assert len(Folder(str(root)).open()) == 1


@pytest.mark.parametrize("to", ["self.png", "nowhere.png", "other.png"])
def test_a_link_that_leads_nowhere_is_a_damaged_file(root: pathlib.Path, to: str) -> None:
    """Also one that leads in a circle, by itself or through another: named, and left out when asked for."""
    put(root, "a.png")
    (root / "self.png").symlink_to(to)
    (root / "other.png").symlink_to("self.png")
    assert re.search(r"2 damaged files[^\n]*\n  other\.png .*\n  self\.png ", message(Folder(str(root))))
    assert len(Folder(str(root), skip_damaged=True).open()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count", "shape", "classes"),
    [
        ("eurosat_rgb64/eurosat_rgb64_300perclass.zip", 3000, (64, 64, 3), 10),
        ("noto_emoji/noto_emoji_72_base.zip", 1644, (72, 72, 4), 0),
        ("facades/facades_128.zip", 606, (128, 256, 3), 3),
    ],
)
def test_real_zips(shared: pathlib.Path, name: str, count: int, shape: tuple[int, ...], classes: int) -> None:
    """The counts, shapes and classes that their makers give."""
    dataset = Folder(str(shared / "data" / name)).open()
    assert (len(dataset), dataset.image_shape, dataset.num_classes) == (count, shape, classes)
    if name.startswith("eurosat"):
        assert np.bincount(dataset.labels).tolist() == [300] * 10  # type: ignore[arg-type]
