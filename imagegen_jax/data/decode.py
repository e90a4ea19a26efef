"""One image: from the bytes of a file, or from pixels, to uint8 at the size and the channels asked for."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> Pillow's name
SUFFIXES = frozenset(".bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split())
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")  # not EPS, which runs another program
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
_REDUCING_GAP = 3.0  # Pillow reduces by an integer factor down to 3 times the size, then filters: as good, and faster


class Whole(int):
    """A size that images are brought to whole, whatever their proportions, by the rule "clean" of `metrics.resize`.

    It is taken in place of an int, by which a square is cut out: for evaluations of images of several sizes.
    """

    def __repr__(self) -> str:
        return f"Whole({int(self)})"


def decode(
    image: bytes | UInt8[np.ndarray, "h w c"], size: int | None, channels: int | None
) -> UInt8[np.ndarray, "h w c"]:
    """`image` as pixels in 0..255.

    Args:
      image: the bytes of an image file (of an animation the first frame is taken, the orientation that a camera
        recorded is applied, 16 bits become 8), or pixels with 1, 3 or 4 channels.
      size: the centre square is brought to this height and width, with antialiasing (Lanczos); of a `Whole` size
        the whole image is; None keeps the size.
      channels: 1 grey, 3 RGB, 4 RGBA, or None for what the image has. What is transparent turns white where there is
        no alpha channel to hold it.

    Raises:
      Exception: of almost any kind, from Pillow, where the bytes are damaged or are no image.
    """
    if isinstance(image, np.ndarray):
        opened = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    else:
        opened = Image.open(io.BytesIO(image), formats=_FORMATS)
        if size is not None and not isinstance(size, Whole):
            opened.draft(None, (int(size * _REDUCING_GAP), int(size * _REDUCING_GAP)))  # JPEG: decodes at 1/2 to 1/8
        ImageOps.exif_transpose(opened, in_place=True)
    pixels = np.asarray(_resized(_converted(opened, channels), size))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _converted(image: Image.Image, channels: int | None) -> Image.Image:
    transparent = image.has_transparency_data
    if channels is None:
        channels = 4 if transparent else 1 if image.mode in _GREY else 3
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.mode == "F":
        raise ValueError("an image of floats, whose range is not known")
    if transparent and channels != 4:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def _eight_bits(image: Image.Image) -> Image.Image:
    """16 bits to 8; Pillow's own conversion clips instead of scaling."""
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
