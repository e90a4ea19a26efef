"""Pictures of images with the words that they were drawn by."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from imagegen_jax.core.drawing.grid import coloured, grid, magnified

MOST = 16  # prompts that a picture names
_SIZE = 12  # of letters, in pixels
_MARGIN = 2


def by_prompt(images: UInt8[np.ndarray, "n h w c"], prompts: Sequence[str], columns: int) -> UInt8[np.ndarray, "H W c"]:
    """Puts images into rows of `columns`, those of one prompt together and under its words; prompts are in order."""
    parts, start = [], 0
    for prompt, group in itertools.groupby(prompts):
        number = len(list(group))
        picture = magnified(grid(coloured(images[start : start + number]), columns), images.shape[1])
        picture = picture.repeat(3, axis=-1) if picture.shape[-1] == 1 else picture[..., :3]
        parts += [written(prompt, picture.shape[1]), picture]
        start += number
    return np.concatenate(parts)


def row_under(heads: Sequence[str], pictures: Sequence[UInt8[np.ndarray, "h w c"]]) -> UInt8[np.ndarray, "H W 3"]:
    """Puts pictures of 1 to 4 channels side by side, each under its words; what is missing is filled up with white."""
    cells = [cell.repeat(3, axis=-1) if cell.shape[-1] == 1 else cell[..., :3] for cell in pictures]
    words = [written(head, cell.shape[1]) for head, cell in zip(heads, cells, strict=True)]
    above = max(len(head) for head in words)
    columns = [
        np.concatenate([filled(head, above, cell.shape[1]), cell]) for head, cell in zip(words, cells, strict=True)
    ]
    height = max(len(column) for column in columns)
    return np.concatenate([filled(column, height, column.shape[1]) for column in columns], axis=1)


def filled(picture: UInt8[np.ndarray, "h w c"], height: int, width: int) -> UInt8[np.ndarray, "H W c"]:
    """Fills a picture up with white, below and on the right."""
    missing = ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0))
    return np.pad(picture, missing, constant_values=255)


def written(text: str, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """Writes a text in black on white, in as many lines as it takes at a width in pixels."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(_SIZE)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width - 2 * _MARGIN:
            lines[-1] = longer
        else:
            lines.append(word)
    height = _SIZE + _MARGIN
    image = Image.new("RGB", (width, height * max(1, len(lines)) + _MARGIN), "white")
    pen = ImageDraw.Draw(image)
    for i, line in enumerate(lines):
        pen.text((_MARGIN, i * height), line, "black", font)
    return np.asarray(image)
