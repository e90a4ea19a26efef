"""Whether an image of shapes is what its prompt asks for: read out of the pixels, without a network."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from imagegen_jax.data.formats.shapes import COLOURS, PLACES, SHAPES, SIDE, SIZES, Drawing, coverage

PROPERTIES = Drawing._fields
_WORDS = {"little": "small", "tiny": "small", "big": "large", "centre": "middle", "center": "middle"}
_VALUES: dict[str, Collection[str]] = dict(zip(PROPERTIES, (COLOURS, SHAPES, SIZES, PLACES), strict=True))
_INK = 60.0  # from white, in RGB of 0 to 255: what is farther is inked
_OFF_COLOUR = 40.0  # likewise, from blends of white and the colour, in the root mean square over what is inked
_LEAST_INK = 8.0  # covered 32nds of the side, squared: the smallest shape has 22
_FAINT = 0.2  # amounts of ink below it count as none: noise on white, of which only one side is left, is ink everywhere
_LEAST_FIT = 0.8  # that of a true shape is 0.9 and more, that of two large ones that overlap up to 0.77
_NEAR_SIZE, _NEAR_PLACE = 1.5, 3.5  # half of what lies between two sizes, and two places


class Reading(NamedTuple):
    """What an image shows; None for what cannot be read."""

    colour: str | None
    shape: str | None
    size: str | None
    place: str | None
    fit: float  # of the shape and what is inked, their intersection over their union: 0 to 1


class Judgement(NamedTuple):
    """An image against its prompt."""

    wrong: tuple[str, ...]  # of colour, shape, size and place, those that the prompt names and the image has not
    reading: Reading

    @property
    def right(self) -> bool:
        """Whether the image has all that the prompt names."""
        return not self.wrong


def judged(images: UInt8[np.ndarray, "n h w 3"], prompts: Sequence[str]) -> list[Judgement]:
    """Judges each image by its prompt. Only what a prompt names is judged: "a red circle" may be of any size.

    Raises ValueError where there are not as many prompts as images, and as `asked` and `read_shape` do.
    """
    if len(images) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts for {len(images)} images: give each image one")
    found = []
    for image, prompt in zip(images, prompts, strict=True):
        reading = read_shape(image)
        wrong = tuple(name for name, value in asked(prompt).items() if getattr(reading, name) != value)
        found.append(Judgement(wrong, reading))
    return found


def asked(prompt: str) -> dict[str, str]:
    """Returns the properties that a prompt names, such as {"colour": "red", "shape": "circle"}.

    Raises ValueError where it names none, or two values of one.
    """
    words = [_WORDS.get(word, word) for word in re.findall(r"\w+", prompt.lower())]
    named = {name: {word for word in words if word in values} for name, values in _VALUES.items()}
    if not any(named.values()):
        raise ValueError(f"{prompt!r} names no colour, shape, size or place of this data set")
    for name, values in named.items():
        if len(values) > 1:
            raise ValueError(f"{prompt!r} names {' and '.join(sorted(values))}: one {name} can be judged")
    return {name: values.pop() for name, values in named.items() if values}


def read_shape(image: UInt8[np.ndarray, "h w 3"]) -> Reading:
    """Reads what an image shows.

    Of each colour, the amount that explains a pixel best is how far it lies on the line from white to the colour; the
    colour is the one with the least that remains. The amounts' sum and centre give each shape's size and place, and
    the shape is the one that then overlaps the amounts best. Raises ValueError where the image is not square, uint8
    and RGB.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.shape[0] != image.shape[1]:
        raise ValueError(f"{image.dtype} of shape {image.shape}: shapes are read from square RGB images, uint8 [h h 3]")
    ink = 255.0 - image
    colour, amounts, off = _colour_of(ink)
    amounts = _without_faint(amounts)
    pixel = SIDE / len(image)
    area = amounts.sum() * pixel**2
    if area < _LEAST_INK:
        return Reading(None, None, None, None, 0.0)
    at = (np.arange(len(image)) + 0.5) * pixel
    x, y = (float((amounts.sum(axis) * at).sum() / amounts.sum()) for axis in (0, 1))
    fits = {}
    for shape, outline in SHAPES.items():
        radius = float(np.sqrt(area / outline.area))
        middle = y - outline.below * radius
        drawn = _without_faint(coverage(shape, radius, x, middle, len(image)))
        fits[shape] = np.minimum(drawn, amounts).sum() / np.maximum(drawn, amounts).sum(), radius, middle
    shape = max(fits, key=lambda name: fits[name][0])
    fit, radius, middle = fits[shape]
    clear = shape if fit >= _LEAST_FIT else None
    place = (x - SIDE / 2, middle - SIDE / 2)
    return Reading(colour if off < _OFF_COLOUR else None, clear, _size_of(radius), _place_of(*place), float(fit))


def _colour_of(ink: Float[np.ndarray, "h w 3"]) -> tuple[str, Float[np.ndarray, "h w"], float]:
    """Returns the colour that explains what is not white, how much of it each pixel has, and how far off it is."""
    found = []
    for name, colour in COLOURS.items():
        full = 255.0 - np.asarray(colour)
        amounts = np.clip(ink @ full / (full @ full), 0, 1)
        found.append((name, amounts, ((ink - amounts[..., None] * full) ** 2).sum(-1)))
    name, amounts, rest = min(found, key=lambda candidate: candidate[2].sum())
    inked = (ink**2).sum(-1) > _INK**2
    return name, amounts, float(np.sqrt(rest[inked].mean())) if inked.any() else 0.0


def _without_faint(amounts: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    return np.where(amounts < _FAINT, 0, amounts)


def _size_of(radius: float) -> str | None:
    return next((name for name, size in SIZES.items() if abs(radius - size) <= _NEAR_SIZE), None)


def _place_of(x: float, y: float) -> str | None:
    near = ((name, max(abs(x - right), abs(y - down))) for name, (right, down) in PLACES.items())
    return next((name for name, distance in near if distance <= _NEAR_PLACE), None)
