"""GIFs and MP4s: what is read back from the file, and what is refused before any time is spent."""

from __future__ import annotations

import resource
import struct
import sys

import numpy as np
import pytest
from PIL import Image, ImageSequence

from imagegen_jax.core.drawing.grid import magnified
from imagegen_jax.core.provenance.embedded import read_said
from imagegen_jax.data.pictures.video import check_video, write_video


def frames(n: int, channels: int = 3, shape: tuple[int, int] = (6, 10)) -> np.ndarray:
    """Each of one colour, which differs from frame to frame."""
    colours = np.linspace(40, 200, n)[:, None] + 10 * np.arange(channels)
    return np.broadcast_to(colours[:, None, None], (n, *shape, channels)).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gif_has_the_frames_their_duration_and_no_end(tmp_path, channels):
    given = frames(5, channels)
    write_video(tmp_path / "a.gif", iter(given), fps=25)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.info["loop"] == 0 and gif.n_frames == 5
        for picture, frame in zip(ImageSequence.Iterator(gif), given, strict=True):
            assert picture.info["duration"] == 40
            np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), np.broadcast_to(frame, (6, 10, 3)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]


def test_what_is_transparent_turns_white(tmp_path):
    given = np.full((1, 4, 4, 4), 100, np.uint8)
    given[0, :2, :, 3], given[0, 2:, :, 3] = 0, 255
    write_video(tmp_path / "a.gif", given, fps=10)
    found = np.asarray(Image.open(tmp_path / "a.gif").convert("RGB"))
    assert (found[:2] == 255).all() and (found[2:] == 100).all()


def test_an_mp4_has_the_frames_at_an_even_size(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    given = frames(12, 3, (65, 32))
    write_video(tmp_path / "a.mp4", iter(given), fps=24)
    reader = ffmpeg.read_frames(str(tmp_path / "a.mp4"))
    about = next(reader)
    found = [np.frombuffer(frame, np.uint8).reshape(66, 32, 3) for frame in reader]
    assert about["size"] == (32, 66) and about["fps"] == 24 and len(found) == 12
    for frame, wanted in zip(found, given, strict=True):
        np.testing.assert_allclose(frame[:65].astype(int), wanted, atol=8)


@pytest.mark.parametrize(
    ("name", "fps", "words"),
    [("a.avi", 25, "a .gif or an .mp4"), ("a.gif", 60, "1 to 50"), ("a.mp4", 0, "1 to 120")],
)
def test_other_files_and_speeds_are_refused(tmp_path, name, fps, words):
    with pytest.raises(ValueError, match=words):
        write_video(tmp_path / name, frames(2), fps)


def test_what_an_mp4_needs_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match=r"pip install 'imagegen_jax\[video\]'"):
        check_video("a.mp4", 25)
    check_video("a.gif", 25)


def test_a_video_that_fails_leaves_nothing(tmp_path):
    def broken():
        yield frames(1)[0]
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        write_video(tmp_path / "a.gif", broken(), 25)
    with pytest.raises(ValueError, match="without frames"):
        write_video(tmp_path / "a.gif", iter(()), 25)
    assert not list(tmp_path.iterdir())


def test_small_images_are_magnified_by_a_whole_number():
    picture = frames(1)[0]
    assert magnified(picture, 10).shape == (18, 30, 3)
    np.testing.assert_array_equal(magnified(picture, 40), picture)


@pytest.mark.parametrize("largest", [0, 100, 4_000])
def test_a_gif_that_a_full_disk_takes_a_part_of_is_none(tmp_path, largest):
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 1), np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large: '.*/a.gif'$"):
            write_video(tmp_path / "a.gif", iter(noise), fps=25)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("length", [2**62, 2**64 - 1])
def test_a_box_that_says_that_it_is_longer_than_any_file_ends_it(tmp_path, length):
    head = struct.pack(">I4s8x", 16, b"ftyp")
    (tmp_path / "a.mp4").write_bytes(head + struct.pack(">I4sQ", 1, b"mdat", length) + bytes(50))
    assert read_said(tmp_path / "a.mp4").origin is None
