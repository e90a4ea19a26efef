"""Images that users give to commands: files, folders and .zip files, converted to the model's shape or refused."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from imagegen_jax.core.files.regular import read_file
from imagegen_jax.data.decode import SUFFIXES, decode
from imagegen_jax.data.formats.image_folder import Folder, may_be_image, open_files

_KINDS = {1: "grey", 3: "RGB", 4: "RGBA"}  # channels -> what people call them


def read_images(places: Sequence[str], shape: tuple[int, ...], fit: bool = True) -> np.ndarray:
    """Reads the images of files, folders and .zip files, uint8 [n *shape].

    With `fit` they are read as data sets are: they get the channels of `shape`, and where `shape` is square, the centre
    square of each is resized to it. Otherwise each image has to have that shape. Raises ValueError where a file is no
    image, or its size or mode does not fit.
    """
    return np.concatenate([_fitted(place, shape) if fit else _exact(place, shape) for place in places])


def _fitted(place: str, shape: tuple[int, ...]) -> np.ndarray:
    height, width, channels = shape
    size = height if height == width else None
    path = pathlib.Path(place).expanduser()
    if path.suffix.lower() in SUFFIXES:
        images = _decoded(place, read_file(path), size, channels)[None]
    else:
        images = np.asarray(Folder(place, size, channels).open().images)
    if images.shape[1:] != shape:
        raise ValueError(f"{place}: images of {images.shape[1:3]}, but the model wants {(height, width)} pixels")
    return images


def _exact(place: str, shape: tuple[int, ...]) -> np.ndarray:
    path = pathlib.Path(place).expanduser()
    if path.suffix.lower() in SUFFIXES:
        return _checked(place, read_file(path), shape)[None]
    with open_files(Folder(place), place) as files:
        images = [_checked(f"{place}/{name}", files.read(name), shape) for name in files.stamps if may_be_image(name)]
    if not images:
        raise ValueError(f"{place}: no images in it")
    return np.stack(images)


def _checked(name: str, content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    image = _decoded(name, content, None, None)
    if image.shape == shape:
        return image
    found, wanted = (
        "{}x{} pixels, {}".format(*s[:2], _KINDS.get(s[2], f"{s[2]} channels")) for s in (image.shape, shape)
    )
    could = shape[0] == shape[1] or image.shape[:2] == shape[:2]
    fit = ", or add --fit, which cuts out the centre square, resizes and converts it" if could else ""
    raise ValueError(f"{name}: an image of {found}, but here it must be {wanted} (height x width): make it that{fit}")


def _decoded(name: str, content: bytes, size: int | None, channels: int | None) -> np.ndarray:
    try:
        return decode(content, size, channels)
    except MemoryError:
        raise
    except Exception as error:  # what Pillow's decoders raise on damaged input is not a closed list
        raise ValueError(f"{name} is damaged or no image ({error})") from error


def read_picture(place: str | pathlib.Path, side: int | None = None, channels: int | None = 3) -> np.ndarray:
    """Reads one picture whole, uint8 [h w c]; its shorter side is resized down to `side` where it is longer.

    It has 1 channel (grey), 3 or 4; None: its own. Raises ValueError where the file is no image.
    """
    pixels = _decoded(str(place), read_file(pathlib.Path(place).expanduser()), None, channels)
    return pixels if side is None else shrunk(pixels, side)


def shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resizes uint8 pixels [h w 3] by Lanczos' filter until the shorter side has `side`; smaller ones stay as they are.

    Height and width keep their proportion, to a pixel.
    """
    height, width = pixels.shape[:2]
    if min(height, width) <= side:
        return pixels
    scale = side / min(height, width)
    size = max(side, round(width * scale)), max(side, round(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
