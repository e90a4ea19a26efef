"""Captions beside images: every form, and every way in which they may be wrong."""

from __future__ import annotations

import json
import zipfile

import pytest
from PIL import Image

from imagegen_jax.data import Captioned, CaptionedFolder, Digits, Shapes, parse_source
from imagegen_jax.data.formats import caption_files
from imagegen_jax.text import WordVocabulary

pytestmark = pytest.mark.usefixtures("place")
WANTED = {1: ("a red circle",), 2: ("a blue square", "grün, and 円"), 3: ("a cross",)}
NAMES = {1: "1.png", 2: "deep/2.png", 3: "deep/3.png"}


@pytest.fixture
def root(tmp_path):
    for value, name in NAMES.items():
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), value).save(tmp_path / "images" / name)
    return tmp_path / "images"


def lines(root, wanted=WANTED):
    """Of two files, each of which names its own folder's images."""
    for folder in ("", "deep/"):
        of = [
            (NAMES[at].removeprefix(folder), texts)
            for at, texts in wanted.items()
            if ("/" in NAMES[at]) == bool(folder)
        ]
        text = [json.dumps({"file_name": n, "text": t[0] if len(t) == 1 else t}, ensure_ascii=False) for n, t in of]
        (root / folder / "metadata.jsonl").write_text("\n".join(text), "utf-8")


def table(root):
    rows = [f'{NAMES[at]},7,"{text}"' for at, texts in WANTED.items() for text in texts]
    (root / "captions.csv").write_text("\ufefffile_name,score,text\n" + "\n".join(rows), "utf-8")


def texts(root):
    for at, captions in WANTED.items():
        (root / NAMES[at]).with_suffix(".txt").write_text("\n\n".join(captions) + "\n", "utf-8")


@pytest.mark.parametrize("write", [lines, table, texts])
def test_captions_are_those_of_their_images(root, write):
    write(root)
    zipped = root.with_suffix(".zip")
    with zipfile.ZipFile(zipped, "w") as archive:
        for file in sorted(path for path in root.rglob("*") if path.is_file()):
            archive.write(file, f"around/{file.relative_to(root).as_posix()}")
    for place in (root, zipped):
        dataset = CaptionedFolder(str(place)).open()
        assert dataset.labels is None
        found = {
            int(image[0, 0, 0]): captions for image, captions in zip(dataset.images, dataset.captions, strict=True)
        }
        assert found == WANTED


class Counted(list):
    """A list that counts how often it is gone through."""

    passes = 0

    def __iter__(self):
        self.passes += 1
        return super().__iter__()


def test_captions_find_their_images_in_a_few_passes():
    """However many there are: a pass for each would take hours for a million."""
    names = Counted(map(str, range(50)))
    caption_files._check_each(Shapes(), None, names, {name: ("a circle",) for name in names})
    assert names.passes <= 3


def test_a_line_of_metadata_ends_at_a_newline_alone(root):
    """JSON allows U+2028 and U+0085 within a text; and lines may end as those of Windows do."""
    found = dict(zip(NAMES.values(), ["one\u2028two", "three\x85four", "five"], strict=True))
    text = [json.dumps({"file_name": name, "text": said}, ensure_ascii=False) for name, said in found.items()]
    (root / "metadata.jsonl").write_bytes("\r\n".join(text).encode())
    assert [said for (said,) in CaptionedFolder(str(root)).open().captions] == list(found.values())


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, r"there are no captions in .*: add a metadata.jsonl with a line for each image"),
        ({"1.txt": b"one"}, r"deep/2.png, deep/3.png are without a caption, of 3 images: add one to each"),
        ({"1.txt": b"one", "deep/2.txt": b" \n", "deep/3.txt": b"c"}, "deep/2.png is without a caption, of 3 images"),
        ({"metadata.jsonl": b'{"file_name": "9.png", "text": "x"}'}, "9.png is named with captions, but not there"),
        ({"metadata.jsonl": b'{"file_name": "../1.png", "text": "x"}'}, r"\.\./1.png is named with captions"),
        ({"metadata.jsonl": b'\n{"file_name": "1.png"}'}, 'line 2 of metadata.jsonl is not of the form {"file_name"'),
        ({"metadata.jsonl": b'{"file_name": "1.png", "text": 3}'}, "line 1 of metadata.jsonl is not of the form"),
        ({"metadata.jsonl": b"[" * 100_000}, "line 1 of metadata.jsonl is not of the form"),
        ({"metadata.jsonl": "grün".encode("latin-1")}, r"metadata.jsonl is no text in UTF-8 .*: store it as UTF-8"),
        ({"1.txt": b"\xff"}, "1.txt is no text in UTF-8"),
        (
            {"a.csv": b"image,caption\n1.png,x"},
            "a.csv has the columns image, caption: name those .* file_name and text",
        ),
        ({"a.csv": b""}, r"a.csv has the columns \(none\)"),
        ({"a.csv": b"file_name,text\n1.png,x\x00", "b.csv": b""}, "a.csv and b.csv could hold the captions"),
        ({"1.exe": b"x"}, "1 damaged files or files that are no images"),
    ],
)
def test_what_is_wrong_is_said(root, files, words):
    for name, content in files.items():
        (root / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        CaptionedFolder(str(root)).open()


def test_words_of_the_command_line(root):
    assert parse_source("captioned:shapes", size=16) == Captioned(Shapes(size=16))
    assert parse_source("captioned:digits") == Captioned(Digits())
    assert parse_source(f"captioned:{root}", channels=3) == Captioned(CaptionedFolder(str(root), channels=3))
    with pytest.raises(ValueError, match=r"skip_damaged=True: captioned:.*\(CaptionedFolder\) has no skip_damaged"):
        parse_source(f"captioned:{root}", skip_damaged=True)


def test_a_recipe_on_other_captioned_data_keeps_its_tokenizer(root):
    from experiments import shapes_text
    from imagegen_jax.recipes.fit import fitted

    texts(root)
    other = fitted(shapes_text.experiment, Captioned(CaptionedFolder(str(root), size=8)))
    assert other.data == Captioned(CaptionedFolder(str(root), size=8), WordVocabulary(context=16))
    assert other.model.image_shape == (8, 8, 1) and other.model.num_classes == 0
    assert fitted(shapes_text.experiment, Captioned(Shapes(40, size=16))).model.num_classes == 0
