"""What pictures say of themselves: written into PNG, JPEG and WebP, and read back."""

from __future__ import annotations

import dataclasses
import io
import pathlib
import subprocess

import numpy as np
import pytest
from PIL import Image, ImageSequence

from imagegen_jax.core.drawing.grid import write_png
from imagegen_jax.core.provenance.embedded import LARGEST_IN_JPEG, XMP_IN_PNG, read_said, saved_with
from imagegen_jax.core.provenance.origin import Origin, fields_of, portable
from imagegen_jax.core.provenance.videos import without_packet
from imagegen_jax.core.provenance.xmp import SOURCE_TYPES, origin_in, packet_of, properties_of, source_type_of
from imagegen_jax.data.pictures.output import write_picture
from imagegen_jax.data.pictures.video import write_video

IMAGE = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
ORIGIN = Origin(
    "runs/größe", "edm", "0123456789abcdef", 0, 0, 0, ("ein <roter> Kreis & \"mehr\" \x07\U0001f600",),
    "imagegen sample", {"n": 4, "overrides": ["--model.levels.steps", "3"]},
)  # fmt: skip


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_an_origin_is_read_back_from_each_format(tmp_path: pathlib.Path, suffix: str) -> None:
    """Zeros too; but control characters, which XML cannot hold, are left out of texts."""
    write_picture(tmp_path / f"a{suffix}", IMAGE, ORIGIN)
    write_picture(tmp_path / f"none{suffix}", IMAGE)
    said = read_said(tmp_path / f"a{suffix}")
    assert said.source_type == "trainedAlgorithmicMedia" and said.origin == ORIGIN
    assert read_said(tmp_path / f"none{suffix}") == ("", None)
    with Image.open(tmp_path / f"a{suffix}") as one, Image.open(tmp_path / f"none{suffix}") as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    if suffix == ".png":
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), IMAGE)


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_an_origin_is_read_back_from_each_kind_of_video(tmp_path: pathlib.Path, suffix: str) -> None:
    """The frames of both are those of a video that says nothing, to other programs."""
    if suffix == ".mp4":
        pytest.importorskip("imageio_ffmpeg")
    frames = [np.full((16, 16, 3), shade, np.uint8) for shade in (40, 200)]
    packets = {"a": ORIGIN, "none": None}
    seen = {}
    for name, origin in packets.items():
        write_video(tmp_path / f"{name}{suffix}", frames, 10, origin)
        seen[name] = _frames_of(tmp_path / f"{name}{suffix}")
    assert read_said(tmp_path / f"a{suffix}") == ("trainedAlgorithmicMedia", ORIGIN)
    assert read_said(tmp_path / f"none{suffix}") == ("", None)
    assert seen["a"] == seen["none"] and len(seen["a"]) == 2
    content, silent = ((tmp_path / f"{name}{suffix}").read_bytes() for name in packets)
    assert without_packet(content) == without_packet(silent) == silent
    for cut in (13, 40, len(content) - 400, len(content) - 1):
        (tmp_path / "cut").write_bytes(content[:cut])
        assert read_said(tmp_path / "cut") in (("", None), ("trainedAlgorithmicMedia", ORIGIN))


def _frames_of(path: pathlib.Path) -> list[bytes]:
    if path.suffix == ".gif":
        with Image.open(path) as gif:
            return [frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(gif)]
    from imageio_ffmpeg import get_ffmpeg_exe  # whose own reader forks, and jax warns of forks

    words = [get_ffmpeg_exe(), "-loglevel", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    content = subprocess.run(words, capture_output=True, check=True).stdout
    return [content[at : at + 768] for at in range(0, len(content), 768)]


def test_what_no_model_made_says_so(tmp_path: pathlib.Path) -> None:
    write_picture(tmp_path / "a.png", IMAGE, Origin(command="imagegen edit texture", edited=True, untrained=True))
    said = read_said(tmp_path / "a.png")
    assert said.source_type == "algorithmicMedia" and said.origin is not None and said.origin.untrained


def test_other_programs_find_the_source_type_where_iptc_has_it(tmp_path: pathlib.Path) -> None:
    write_png(tmp_path / "a.png", IMAGE, dataclasses.replace(ORIGIN, edited=True))
    with Image.open(tmp_path / "a.png") as picture:
        found = properties_of(picture.info["xmp"])  # Pillow's own name of it
        name = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
        assert found[name] == f"{SOURCE_TYPES}compositeWithTrainedAlgorithmicMedia"
        assert picture.text["prompts"].startswith('["ein <roter>')


def test_a_jpeg_leaves_out_what_it_cannot_hold(tmp_path: pathlib.Path) -> None:
    many = dataclasses.replace(ORIGIN, prompts=tuple(f"prompt {i} {'x' * 100}" for i in range(600)))
    assert len(packet_of(many)) > LARGEST_IN_JPEG
    write_picture(tmp_path / "a.jpg", IMAGE, many)
    write_picture(tmp_path / "a.webp", IMAGE, many)
    assert read_said(tmp_path / "a.jpg").origin == dataclasses.replace(many, prompts=())
    assert read_said(tmp_path / "a.webp").origin == many


def test_what_others_wrote_is_read_without_their_trust() -> None:
    packet = packet_of(ORIGIN)
    assert origin_in(properties_of(packet)) is not None
    doctype = b'<!DOCTYPE a [<!ENTITY b "c">]>' + packet
    assert properties_of(doctype) == properties_of(packet[:-40]) == properties_of(b"\xff\x00") == {}
    wrong = properties_of(packet.replace(b">0<", b">[1]<"))
    found = origin_in(wrong)
    assert found is not None and found.step is found.seed is found.row is None and found.run == ORIGIN.run
    assert origin_in({}) is None and source_type_of({}) == ""


def test_other_texts_of_a_png_stand_beside_it() -> None:
    written = io.BytesIO()
    Image.fromarray(IMAGE).save(written, "PNG", **saved_with("PNG", ORIGIN, {"imagegen": "{}"}))
    with Image.open(written) as picture:
        picture.load()
        assert picture.text["imagegen"] == "{}" and XMP_IN_PNG in picture.text
    assert saved_with("PNG", None) == saved_with("JPEG", None) == {}


@dataclasses.dataclass(frozen=True)
class Request:
    run: str
    out: str = "a.png"
    images: tuple[str, ...] = ()
    n: int | None = None
    seed: int = 0


def test_folders_of_a_disk_are_not_published(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert portable("runs/a") == portable(tmp_path / "runs" / "a") == "runs/a"
    assert portable("/home/someone/secret/a.png") == "a.png"
    request = Request("/home/someone/a", "x.png", ("/home/someone/b.png", "c.png"), n=3)
    assert fields_of(request) == {"run": "a", "images": ["b.png", "c.png"], "n": 3}


def test_a_picture_with_damaged_pixels_says_what_stands_before_them(tmp_path: pathlib.Path) -> None:
    """As long as the file is whole, so that its credentials say Invalid and not that there is no picture."""
    write_picture(tmp_path / "a.png", IMAGE, ORIGIN)
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[content.index(b"IDAT") + 20] ^= 255
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises((OSError, SyntaxError)), Image.open(tmp_path / "a.png") as damaged:
        damaged.load()
    assert read_said(tmp_path / "a.png").origin == ORIGIN


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_said(tmp_path: pathlib.Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match="no picture|damaged"):
        read_said(tmp_path / "a.png")
