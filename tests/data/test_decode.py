"""One image: channels, depth, transparency, orientation, crop and antialiasing."""

from __future__ import annotations

import io
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagegen_jax.data.decode import decode


def encoded(image: Image.Image, form: str = "PNG", **settings: Any) -> bytes:
    """`image` as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, form, **settings)
    return file.getvalue()


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("LA", 4), ("RGB", 3), ("RGBA", 4), ("P", 3)])
def test_native_channels(mode: str, channels: int) -> None:
    """None keeps what the image has."""
    assert decode(encoded(Image.new(mode, (5, 4))), None, None).shape == (4, 5, channels)


def test_colour_to_grey_and_back() -> None:
    """Grey is ITU-R 601 luma: 0.299 R + 0.587 G + 0.114 B."""
    colour = encoded(Image.new("RGB", (2, 2), (200, 100, 50)))
    assert abs(int(decode(colour, None, 1)[0, 0, 0]) - (0.299 * 200 + 0.587 * 100 + 0.114 * 50)) <= 1
    assert decode(encoded(Image.new("L", (2, 2), 70)), None, 3)[0, 0].tolist() == [70, 70, 70]
    assert decode(encoded(Image.new("RGB", (2, 2), (1, 2, 3))), None, 4)[0, 0].tolist() == [1, 2, 3, 255]


def test_transparency_turns_white() -> None:
    """And what is half transparent half white; hidden colours do not show."""
    half = Image.new("RGBA", (2, 1), (200, 0, 0, 0))
    half.putpixel((1, 0), (100, 0, 0, 128))
    pixels = decode(encoded(half), None, 3)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert np.abs(pixels[0, 1].astype(int) - [177, 127, 127]).max() <= 1
    assert decode(encoded(half), None, 4)[0, 1].tolist() == [100, 0, 0, 128]


def test_transparent_colour_does_not_bleed_when_resized() -> None:
    """A red pixel beside transparent green ones stays red at half the size."""
    image = Image.new("RGBA", (64, 64), (0, 255, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 32, 64))
    edge = decode(encoded(image), 8, 4)[:, :5]
    assert edge[..., 1].max() == 0


def test_sixteen_bits_are_scaled() -> None:
    """65535 becomes 255 and 32768 becomes 128 (257 to 1), not clipped."""
    values = np.asarray([[0, 257, 32768, 65535]], np.uint16)
    assert decode(encoded(Image.fromarray(values)), None, None)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_floats_are_refused() -> None:
    """Their range is not known."""
    with pytest.raises(ValueError, match="floats"):
        decode(encoded(Image.new("F", (2, 2)), "TIFF"), None, None)


def test_orientation_of_a_camera_is_applied() -> None:
    """Orientation 6: the camera was held upright, the first row is the right column."""
    image = Image.new("RGB", (16, 8), "black")
    image.paste((255, 255, 255), (0, 0, 16, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode(encoded(image, exif=exif.tobytes()), None, 1)
    assert pixels.shape == (16, 8, 1)
    assert pixels[:, 4:].min() == 255 and pixels[:, :4].max() == 0


@pytest.mark.parametrize(("width", "height"), [(96, 64), (64, 96)])
def test_centre_crop(width: int, height: int) -> None:
    """The centre square, pixel by pixel where no resizing is needed."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    top, left = (height - 64) // 2, (width - 64) // 2
    np.testing.assert_array_equal(decode(pixels, 64, None), pixels[top : top + 64, left : left + 64])


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_downsizing_is_antialiased(form: str) -> None:
    """A chequerboard of single pixels becomes grey; sampling points would give black and white."""
    board = np.indices((512, 512)).sum(0) % 2 * 255
    pixels = decode(encoded(Image.fromarray(board.astype(np.uint8)), form), 16, None)
    assert pixels.shape == (16, 16, 1)
    assert np.abs(pixels.astype(int) - 127.5).max() < 5


def test_resizing_keeps_a_ramp() -> None:
    """A linear ramp of 256 columns is at 32 columns the ramp at the centres of these."""
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 1))
    inner = decode(np.ascontiguousarray(ramp), 32, None)[16, 2:-2, 0]
    np.testing.assert_allclose(inner, (np.arange(32) * 8 + 3.5)[2:-2], atol=1)


def test_a_program_of_postscript_is_not_run() -> None:
    """EPS is not among the formats that are opened."""
    with pytest.raises(OSError, match="cannot identify"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n%%EndComments\nshowpage\n", None, None)


@pytest.mark.slow
def test_a_very_large_photo_is_read_without_a_warning(tmp_path: pathlib.Path) -> None:
    """Above 89 million pixels Pillow warns of an attack, with a line of its own code."""
    Image.new("1", (9500, 9500)).save(tmp_path / "a.png")
    program = "import sys; from imagegen_jax.data.decode import decode; decode(open(sys.argv[1], 'rb').read(), 8, 3)"
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "a.png"], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr
