"""Many images as one picture, and its file."""

from __future__ import annotations

import math
import os

import numpy as np
from jaxtyping import UInt8

from imagegen_jax.core.files.regular import whole
from imagegen_jax.core.provenance.embedded import saved_with
from imagegen_jax.core.provenance.origin import Origin

CELL = 32  # pixels: smaller images are magnified in a picture, by a whole number, up to this height


def grid(images: UInt8[np.ndarray, "n h w c"], columns: int, pad: int = 2) -> UInt8[np.ndarray, "H W c"]:
    """Puts images into rows of `columns`, each with `pad` white pixels around it; missing ones are white.

    Channels that are no colours, such as those of latents, are reduced by `coloured`. Raises ValueError where there are
    no images, or no columns.
    """
    if not len(images) or columns < 1:
        raise ValueError(f"grid of {len(images)} images in {columns} columns: both must be positive")
    images = coloured(images)
    n, height, width, channels = images.shape
    rows = math.ceil(n / columns)
    cells = np.full((rows * columns, height + pad, width + pad, channels), 255, np.uint8)
    cells[:n, :height, :width] = images
    picture = cells.reshape(rows, columns, height + pad, width + pad, channels).swapaxes(1, 2)
    picture = picture.reshape(rows * (height + pad), columns * (width + pad), channels)
    return np.pad(picture, ((pad, 0), (pad, 0), (0, 0)), constant_values=255)


def coloured(images: UInt8[np.ndarray, "*n c"]) -> UInt8[np.ndarray, "*n d"]:
    """Returns grey, RGB and RGBA as they are, of more than 4 channels the first 3 as RGB, of 2 the first as grey."""
    channels = images.shape[-1]
    return images if channels in (1, 3, 4) else images[..., : 3 if channels > 4 else 1]


def beside(*pictures: UInt8[np.ndarray, "n h _ _"]) -> UInt8[np.ndarray, "n h W c"]:
    """Joins image i of each picture from left to right, all with the channels of the one that has most.

    Raises ValueError where their number or height differ.
    """
    if len({images.shape[:2] for images in pictures}) != 1:
        raise ValueError(f"pictures of shapes {[images.shape for images in pictures]}: their n and h must be the same")
    channels = max(images.shape[-1] for images in pictures)
    return np.concatenate([_with_channels(images, channels) for images in pictures], axis=2)


def repeated(images: UInt8[np.ndarray, "n h w c"], height: int) -> UInt8[np.ndarray, "n H W c"]:
    """Repeats the pixels of images where a whole number of times brings them to `height`; else changes nothing."""
    zoom = height // images.shape[1] if height % images.shape[1] == 0 else 1
    return images.repeat(zoom, axis=1).repeat(zoom, axis=2)


def _with_channels(images: UInt8[np.ndarray, "n h w _"], channels: int) -> UInt8[np.ndarray, "n h w c"]:
    if images.shape[-1] == 1 and channels > 1:
        images = images.repeat(3, axis=-1)
    if images.shape[-1] < channels:
        images = np.concatenate([images, np.full_like(images[..., :1], 255)], axis=-1)
    return images


def magnified(picture: UInt8[np.ndarray, "h w c"], image_height: int) -> UInt8[np.ndarray, "H W c"]:
    """Repeats the pixels of a picture a whole number of times, where the images in it are of a small height."""
    zoom = max(1, CELL // image_height)
    return picture.repeat(zoom, axis=0).repeat(zoom, axis=1)


def write_png(path: str | os.PathLike[str], image: UInt8[np.ndarray, "h w c"], origin: Origin | None = None) -> None:
    """Writes an image of 1, 3 or 4 channels as a PNG file, whole or not at all; its metadata say its origin."""
    from PIL import Image

    with whole(path) as partial:
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        picture.save(partial, format="PNG", **saved_with("PNG", origin))
