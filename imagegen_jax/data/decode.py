"""Decoding of an image: from the bytes of a file, or from pixels, to uint8 at the size and the channels asked for."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> Pillow's name
SUFFIXES = frozenset(".bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split())
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")  # not EPS, which runs another program
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
_LARGE = 1 << 26  # images of more pixels are decoded one at a time: each takes a quarter of a gigabyte and more
_STRIP = 1 << 22  # pixels that are converted at a time
_one_at_a_time = threading.Lock()
# Above 89 million pixels Pillow warns of an attack, and above twice that it refuses. Large photos are no attack. The
# filter is set here, since all threads that decode share the filters of warnings.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
_REDUCING_GAP = 3.0  # Pillow reduces by an integer factor down to 3 times the size, then filters: as good, and faster


class Whole(int):
    """A size to which images are resized whole, whatever their proportions, by Pillow's bicubic filter.

    That is the rule "clean" of `metrics.features.resize`, for evaluations of images of several sizes. For a size that
    is a plain int a square is cut out.
    """

    def __repr__(self) -> str:
        return f"Whole({int(self)})"


def decode(
    image: bytes | UInt8[np.ndarray, "h w c"], size: int | None, channels: int | None
) -> UInt8[np.ndarray, "h w c"]:
    """Decodes an image to pixels in 0..255.

    Args:
      image: the bytes of an image file (the first frame of an animation is taken, the orientation that a camera
        recorded is applied, 16 bits become 8), or pixels with 1, 3 or 4 channels.
      size: the centre square is resized to this height and width, with antialiasing (Lanczos); for a `Whole` size
        the whole image is resized; None keeps the size.
      channels: 1 grey, 3 RGB, 4 RGBA, or None for those of the image. Transparent pixels turn white where there is no
        alpha channel.

    Raises:
      Exception: of almost any kind, from Pillow, where the bytes are damaged or are no image.
    """
    if isinstance(image, np.ndarray):
        return _pixels(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), size, channels)
    opened = Image.open(io.BytesIO(image), formats=_FORMATS)
    if size is not None and not isinstance(size, Whole):
        opened.draft(None, (int(size * _REDUCING_GAP), int(size * _REDUCING_GAP)))  # JPEG: decodes at 1/2 to 1/8
    with _one_at_a_time if opened.width * opened.height > _LARGE else contextlib.nullcontext():
        ImageOps.exif_transpose(opened, in_place=True)
        return _pixels(opened, size, channels)


def _pixels(image: Image.Image, size: int | None, channels: int | None) -> UInt8[np.ndarray, "h w c"]:
    transparent = image.has_transparency_data
    grey = image.mode in _GREY
    if channels is None:
        channels = 4 if transparent else 1 if grey else 3
    if image.mode == "F":
        raise ValueError("an image of floats, whose range is not known")
    first = "L" if grey and not transparent else MODES[channels]  # grey becomes RGB last, when it is small
    resized = _resized(_converted(image, first, transparent and channels != 4), size)
    pixels = np.asarray(resized if resized.mode == MODES[channels] else resized.convert(MODES[channels]))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _converted(image: Image.Image, mode: str, on_white: bool) -> Image.Image:
    """Converts an image to another mode, in strips: for a large image whole, conversions would need too much memory."""
    if image.mode == mode and not on_white:
        return image
    result = Image.new(mode, image.size)
    height = max(1, _STRIP // max(1, image.width))
    for top in range(0, image.height, height):
        strip = image.crop((0, top, image.width, min(top + height, image.height)))
        if strip.mode.startswith("I"):
            strip = _eight_bits(strip)
        if on_white:
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip.convert("RGBA"))
        result.paste(strip if strip.mode == mode else strip.convert(mode), (0, top))
    return result


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scales 16 bits to 8, as Pillow's own conversion would clip. Raises ValueError for an image of 32 bits."""
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min(initial=0) < 0 or pixels.max(initial=0) > 65535:
        raise ValueError("an image of 32 bits, whose range is not known")
    return Image.fromarray(((pixels + 128) // 257).astype(np.uint8))


def _resized(image: Image.Image, size: int | None) -> Image.Image:
    if size is None or image.size == (size, size):
        return image
    if isinstance(size, Whole):
        return image.resize((size, size), Image.Resampling.BICUBIC)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.LANCZOS, square, _REDUCING_GAP)
