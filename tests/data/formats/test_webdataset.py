"""WebDataset tars: bit for bit the folder that they were made of, and every way in which they may be wrong."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from imagegen_jax.data import Captioned, Folder, WebDataset, parse_source
from imagegen_jax.data.formats.caption_files import CaptionedFolder
from imagegen_jax.text import WordVocabulary

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(7):
        path = tmp_path / "photos" / ("cat", "dog")[i % 2] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return tmp_path / "photos"


def tar(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def same(one, other):
    np.testing.assert_array_equal(one.images, other.images)
    assert one.images.dtype == other.images.dtype == np.uint8
    assert one.class_names == other.class_names and list(one.captions or ()) == list(other.captions or ())
    if one.labels is not None:
        np.testing.assert_array_equal(one.labels, other.labels)
    for name, values in one.batch(3, 4, 1).items():
        np.testing.assert_array_equal(values, other.batch(3, 4, 1)[name])
    assert one.contents() == other.contents()


def test_class_folders_in_shards_are_the_folder(folder, tmp_path):
    files = list(files_of(folder).items())
    for number, part in enumerate((files[:3], files[3:4], files[4:])):
        tar(tmp_path / "tars" / f"a-{number:03d}.tar", dict(part))
    wanted = Folder(str(folder)).open()
    assert wanted.class_names == ("cat", "dog")
    same(WebDataset(str(tmp_path / "tars")).open(), wanted)
    same(parse_source(f"webdataset:{tmp_path}/tars/a-{{000..002}}.tar").open(), wanted)
    same(parse_source(str(tar(tmp_path / "one.tar", dict(files))), size=4).open(), Folder(str(folder), size=4).open())


@pytest.mark.parametrize("form", ["cls", "json"])
def test_numbered_classes_are_those_beside_the_images(folder, tmp_path, form):
    files, labels = {}, []
    for i, content in enumerate(files_of(folder).values()):
        labels.append([f"{i}.png", i % 3])
        label = str(i % 3).encode() if form == "cls" else json.dumps({"label": i % 3}).encode()
        files |= {f"{i}.{form}": label, f"{i}.png": content}
        (tmp_path / "flat").mkdir(exist_ok=True)
        (tmp_path / "flat" / f"{i}.png").write_bytes(content)
    (tmp_path / "flat" / "dataset.json").write_text(json.dumps({"labels": labels}))
    same(WebDataset(str(tar(tmp_path / "a.tar", files))).open(), Folder(str(tmp_path / "flat")).open())


@pytest.mark.parametrize("form", ["txt", "json"])
def test_texts_are_those_of_a_folder_with_captions(folder, tmp_path, form):
    files = {}
    for i, (name, content) in enumerate(files_of(folder).items()):
        texts = ["a cat", f"grün, {i}"]
        (folder / name).with_suffix(".txt").write_text("\n".join(texts), "utf-8")
        of = "\n".join(texts) if form == "txt" else json.dumps({"caption": texts})
        files |= {name: content, f"{name[:-4]}.{form}": of.encode()}
    place = tar(tmp_path / "a.tar", files)
    found, wanted = WebDataset(str(place)).open(), CaptionedFolder(str(folder)).open()
    np.testing.assert_array_equal(found.images, wanted.images)
    assert list(found.captions) == list(wanted.captions)
    same(found, wanted)
    tokens = [
        Captioned(source, WordVocabulary(8)).open() for source in (WebDataset(str(place)), CaptionedFolder(str(folder)))
    ]
    same(*tokens)
    assert parse_source(f"captioned:{place}").source == WebDataset(str(place))


def test_what_is_wrong_is_named(folder, tmp_path):
    png = next(iter(files_of(folder).values()))
    for files, message in (
        ({"a.png": png, "a.jpg": png}, "a has 2 images"),
        ({"a.png": png, "a.cls": b"1", "b.png": png}, "1 of 2 images have no class, such as .*b.png"),
        ({"a.png": png, "a.txt": b"x", "b.png": png}, "1 of 2 images have no text"),
        ({"a.png": png, "a.cls": b"-1"}, "has the class '-1'"),
        ({"a.png": png, "a.json": b"{"}, "the .json of .*a.png is damaged"),
        ({"a.png": png, "a.txt": b"\xff"}, "no text in UTF-8"),
        ({"a.exe": b"x"}, "a.exe"),
        ({"../a.png": png}, "leads out of it"),
        ({}, "no images in 1 tars"),
        ({"a.png": b"x"}, "1 damaged files"),
    ):
        with pytest.raises(ValueError, match=message):
            WebDataset(str(tar(tmp_path / "bad.tar", files))).open()
    whole = tar(tmp_path / "cut.tar", {"a.png": png}).read_bytes()
    cut, packed = whole[:600], b"\x1f\x8b" + b"x" * 600
    for content, message in ((cut, "damaged"), (packed, "compressed"), (b"x" * 2_000, "no tar")):
        (tmp_path / "cut.tar").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            WebDataset(str(tmp_path / "cut.tar")).open()
    for place in (tmp_path / "none.tar", tmp_path / "a-{0..1}.tar", folder):
        with pytest.raises(FileNotFoundError, match="there is no"):
            WebDataset(str(place)).open()
