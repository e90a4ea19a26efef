"""Parquet files of images: bit for bit what the folder holds that they were made from, in every form; and refusals."""

from __future__ import annotations

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from imagegen_jax.data import Captioned, CaptionedFolder, Folder, Parquet, parse_source
from imagegen_jax.text import WordVocabulary

pytestmark = pytest.mark.usefixtures("place")
TEXTS = [("a red circle",), ("a blue square", "grün, and 円"), ("a cross",), ("two circles",), ("nothing",)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture
def folder(tmp_path):
    """Images of noise with their captions, as a folder."""
    root = tmp_path / "images"
    root.mkdir()
    lines = []
    for at, texts in enumerate(TEXTS):
        values = np.random.default_rng(at).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(values).save(root / f"{at}.{'jpg' if at == 2 else 'png'}")
        lines.append(json.dumps({"file_name": f"{at}.{'jpg' if at == 2 else 'png'}", "text": list(texts)}))
    (root / "metadata.jsonl").write_text("\n".join(lines))
    return root


def columns(folder, image="image", text="text", plain=False, single=False):
    """The columns of a table with the images of a folder, and texts or the first one of each."""
    files = sorted(folder.glob("[0-9]*"))
    images = [file.read_bytes() if plain else {"bytes": file.read_bytes(), "path": file.name} for file in files]
    texts = [one[0] if single else list(one) for one in TEXTS]
    types = pa.binary() if plain else STRUCT, pa.string() if single else pa.list_(pa.string())
    return {image: pa.array(images, types[0]), text: pa.array(texts, types[1])}


def write(place, found, rows=slice(None), **options):
    place.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(found)
    pq.write_table(table.slice(rows.start or 0, (rows.stop or len(table)) - (rows.start or 0)), place, **options)
    return place


@pytest.mark.parametrize("plain", [False, True])
def test_rows_are_those_of_the_folder_they_were_made_from(folder, tmp_path, plain):
    """Of one file and of several, with groups of two rows, by other names of columns, and cached or not."""
    wanted = CaptionedFolder(str(folder)).open()
    one = write(tmp_path / "one.parquet", columns(folder, plain=plain), row_group_size=2)
    named = columns(folder, "photo", "prompt", plain)
    for part, rows in enumerate((slice(0, 3), slice(3, 5))):
        write(tmp_path / "set" / "data" / f"train-{part:05d}-of-00002.parquet", named, rows, row_group_size=2)
    write(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", named, slice(0, 1))
    for place in (one, one, tmp_path / "set"):
        found = Parquet(str(place)).open()
        np.testing.assert_array_equal(found.images, wanted.images)
        assert list(found.captions) == list(wanted.captions) == TEXTS and found.labels is None
    assert len(Parquet(str(tmp_path / "set"), split="test").open()) == 1
    with pytest.raises(ValueError, match="no split 'valid', only test, train"):
        Parquet(str(tmp_path / "set"), split="valid").open()


def test_batches_are_those_of_the_folder(folder, tmp_path):
    place = write(tmp_path / "one.parquet", columns(folder))
    tokenizer = WordVocabulary(context=8)
    wanted = Captioned(CaptionedFolder(str(folder)), tokenizer).open().batch(3, 7, seed=2)
    assert parse_source(f"captioned:parquet:{place}") == Captioned(Parquet(str(place)))
    found = Captioned(parse_source(str(place)), tokenizer).open().batch(3, 7, seed=2)
    assert found.keys() == wanted.keys() and all((found[name] == wanted[name]).all() for name in wanted)


def test_classes_have_the_names_that_the_file_says(folder, tmp_path):
    found = {name: column for name, column in columns(folder).items() if name == "image"}
    table = pa.table({**found, "label": pa.array([0, 1, 1, 0, 2], pa.int64())})
    pq.write_table(table, tmp_path / "numbered.parquet")
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}}
    told = json.dumps({"info": {"features": features}})
    pq.write_table(table.replace_schema_metadata({"huggingface": told}), tmp_path / "named.parquet")
    numbered, named = (Parquet(str(tmp_path / f"{name}.parquet")).open() for name in ("numbered", "named"))
    assert numbered.class_names == ("0", "1", "2") and named.class_names == ("cat", "dog", "owl")
    assert named.labels.tolist() == numbered.labels.tolist() == [0, 1, 1, 0, 2]  # type: ignore[union-attr]


def test_images_beside_the_file_are_read_and_none_elsewhere(folder, tmp_path):
    names = [file.name for file in sorted(folder.glob("[0-9]*"))]
    (tmp_path / "secret.png").write_bytes((folder / names[0]).read_bytes())
    for name, paths in (("beside", names), ("above", [*names[:-1], "../secret.png"])):
        images = pa.array([{"bytes": None, "path": path} for path in paths], STRUCT)
        write(folder / f"{name}.parquet", {"image": images})
    found = Parquet(str(folder / "beside.parquet")).open()
    for name in ("beside.parquet", "above.parquet"):
        (folder / name).rename(tmp_path / name)
    (folder / "metadata.jsonl").unlink()
    np.testing.assert_array_equal(found.images, Folder(str(folder)).open().images)
    (tmp_path / "above.parquet").rename(folder / "above.parquet")
    with pytest.raises(ValueError, match=r"1 damaged .*\n  above.parquet\[4\] \(../secret.png is not in the folder"):
        Parquet(str(folder / "above.parquet")).open()


def test_what_is_wrong_is_named(folder, tmp_path, monkeypatch):
    place = write(tmp_path / "one.parquet", columns(folder, single=True))
    with pytest.raises(FileNotFoundError, match="there is no .parquet at"):
        Parquet(str(tmp_path / "none")).open()
    with pytest.raises(ValueError, match="text='caption' is none of the columns image, text"):
        Parquet(str(place), text="caption").open()
    with pytest.raises(ValueError, match="take damaged rows out of the file"):
        Parquet(str(place), skip_damaged=True).open()
    empty = {**columns(folder, single=True), "text": pa.array(["a", "b", None, "d", " "])}
    with pytest.raises(ValueError, match=r"2 of 5 rows have no text in 'text', the first is empty.parquet\[2\]"):
        Captioned(Parquet(str(write(tmp_path / "empty.parquet", empty, row_group_size=2)))).open()
    assert len(Parquet(str(tmp_path / "empty.parquet")).open()) == 5  # where nobody asks for texts
    with pytest.raises(ValueError, match="none of the columns text holds the bytes of images"):
        Parquet(str(write(tmp_path / "words.parquet", {"text": pa.array(["a"])}))).open()
    (tmp_path / "cut.parquet").write_bytes(place.read_bytes()[:-20])
    with pytest.raises(ValueError, match="cut.parquet is no parquet that can be read"):
        Parquet(str(tmp_path / "cut.parquet")).open()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"pip install 'imagegen_jax\[parquet\]'"):
        Parquet(str(place)).open()


@pytest.mark.parametrize(("name", "form"), [("train.parquet", "parquet"), ("a.tar", "webdataset")])
def test_a_folder_of_tables_says_how_it_is_read(tmp_path, name, form):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / name).write_bytes(b"PAR1")
    there = tmp_path / "there"
    with pytest.raises(ValueError, match=f"{name} is no image, but may hold some: give the place as {form}:{there}$"):
        Folder(str(there)).open()
    with pytest.raises(ValueError, match=f"give the place as captioned:{form}:{there}$"):
        CaptionedFolder(str(there)).open()
    Image.new("L", (4, 4)).save(there / "0.png")
    with pytest.raises(ValueError, match="repair or remove"):
        Folder(str(there)).open()
