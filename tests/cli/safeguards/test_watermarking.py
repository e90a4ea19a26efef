"""`imagegen watermark`: pictures are marked and asked, and keep what they say of themselves."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from imagegen_jax.core.provenance.embedded import read_said
from imagegen_jax.core.provenance.origin import Origin
from imagegen_jax.data.pictures.output import write_picture

pytestmark = pytest.mark.usefixtures("place")


def test_a_picture_is_marked_and_found(imagegen) -> None:
    origin = Origin("runs/a", seed=3, command="imagegen sample")
    write_picture("a.png", np.random.default_rng(0).integers(90, 110, (96, 80, 3), np.uint8), origin)
    code, out, said = imagegen("watermark", "add", "a.png", "--out", "b.jpg")
    assert code == 0 and "a label, not security" in out, said
    assert read_said("b.jpg").origin == origin
    code, out, _ = imagegen("watermark", "detect", "b.jpg", "--json")
    assert code == 0 and json.loads(out)["marked"] is True
    assert "a.png: no mark is found (score" in imagegen("watermark", "detect", "a.png")[1]
    assert "b.jpg: marked (score" in imagegen("watermark", "detect", "b.jpg", "--resized")[1]


def test_a_picture_keeps_its_channels_and_stands_upright(imagegen) -> None:
    """Grey and transparent ones, and a photo that says that it lies on its side, which the marked one does not say."""
    pixels = np.random.default_rng(1).integers(90, 110, (96, 80, 4), np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    for name, image, mode, size in (
        ("grey.png", pixels[..., 0], "L", (80, 96)),
        ("clear.png", pixels, "RGBA", (80, 96)),
        ("photo.jpg", pixels[..., :3], "RGB", (96, 80)),
    ):
        Image.fromarray(image).save(name, exif=turned if name == "photo.jpg" else b"")
        assert imagegen("watermark", "add", name, "--out", "marked.png")[0] == 0
        with Image.open("marked.png") as marked:
            assert (marked.mode, marked.size) == (mode, size)


def test_grey_and_small_pictures_and_no_pictures(imagegen, tmp_path) -> None:
    Image.new("L", (20, 40)).save("small.png")
    code, _, said = imagegen("watermark", "add", "small.png")
    assert code == 1 and "40x20 pixels is too small to hold a mark" in said
    assert "of 32 pixels a side or more it could hold one" in imagegen("watermark", "detect", "small.png")[1]
    (tmp_path / "here" / "text.png").write_text("no picture")
    for way in ("add", "detect"):
        code, _, said = imagegen("watermark", way, "text.png")
        assert code == 1 and "no picture that can be read" in said
    assert "marked.gif: this command writes" in imagegen("watermark", "add", "small.png", "--out", "marked.gif")[2]
