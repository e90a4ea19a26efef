"""Drawn shapes with captions: a set for text to image without a download, in which prompt following can be counted."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int32, UInt8

from imagegen_jax.core.config.bounds import Count, Seed
from imagegen_jax.core.config.given import LARGEST, Range
from imagegen_jax.data.prepare import Item, Listing, prepare
from imagegen_jax.data.source import Dataset

SIDE = 32  # the unit of lengths below is a 32nd of the image's side
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 230),
    "yellow": (240, 210, 50),
    "purple": (150, 50, 190),
    "orange": (245, 140, 30),
}
SIZES = {"small": 4.0, "large": 7.0}  # half of what the shape measures, and half a unit more or less
PLACES = {"left": (-7, 0), "right": (7, 0), "top": (0, -7), "bottom": (0, 7), "middle": (0, 0)}  # and one more or less
_WHERE = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
_WHERE |= {"middle": "in the middle"}
_OTHER_SIZES = {"small": "little", "large": "big"}
_FINER = 4  # points a pixel, along each axis
_SMALLEST = 16  # pixels of a side on which shapes can be told apart

Grid = Float[np.ndarray, "h w"]


class Outline(NamedTuple):
    """A shape, around 0 with half its extent 1, the y axis pointing down."""

    inside: Callable[[Grid, Grid], np.ndarray]  # of x and y
    area: float
    below: float = 0.0  # y of the centre of the area


SHAPES: Mapping[str, Outline] = {
    "circle": Outline(lambda x, y: x**2 + y**2 < 1, np.pi),
    "square": Outline(lambda x, y: np.maximum(abs(x), abs(y)) < 0.88, 4 * 0.88**2),
    "triangle": Outline(lambda x, y: (y < 0.9) & (abs(x) < (y + 0.9) / 1.8), 1.8, 0.3),
    "cross": Outline(
        lambda x, y: (np.maximum(abs(x), abs(y)) < 1) & (np.minimum(abs(x), abs(y)) < 0.35), 4 * (2 * 0.35 - 0.35**2)
    ),
}


class Drawing(NamedTuple):
    """What an image shows, by the words of captions."""

    colour: str
    shape: str
    size: str
    place: str


DRAWINGS = tuple(Drawing(*words) for words in itertools.product(COLOURS, SHAPES, SIZES, PLACES))
HELD_OUT = frozenset(zip(COLOURS, itertools.cycle(SHAPES), strict=False))  # one shape of each colour
CAPTIONS: tuple[Callable[[Drawing], str], ...] = (  # the last two leave something out
    lambda d: f"a {d.size} {d.colour} {d.shape} {_WHERE[d.place]}",
    lambda d: f"{_WHERE[d.place]} there is a {d.size} {d.shape} in {d.colour}",
    lambda d: f"{d.shape}, {_OTHER_SIZES[d.size]} and {d.colour}, {_WHERE[d.place]}",
    lambda d: f"{_with_article(d.colour)} {d.shape} {_WHERE[d.place]}",
    lambda d: f"a {d.size} {d.colour} {d.shape}",
)


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Images of a shape on white, each with captions that tell its colour, shape, size and place.

    In `split` "train" each colour lacks one shape, and these combinations are all that "held_out" has, so that a model
    can be asked for what it never saw. A label is the number of a combination of all four, out of both splits. Image
    and captions follow from seed and index alone; `size` is the side in pixels. Do not mirror the images: "on the left"
    would be wrong.
    """

    images: Count = 10_000
    split: Literal["train", "held_out"] = "train"
    seed: Seed = 0
    size: Annotated[int, Range(_SMALLEST, LARGEST)] = SIDE

    def open(self) -> Dataset:
        """Draws the images, once for all runs. Raises ValueError where a setting is impossible."""
        if self.split not in ("train", "held_out") or self.images < 1 or self.size < _SMALLEST:
            raise ValueError(
                f"{self}: images must be positive, size at least {_SMALLEST}, and split one of train, held_out"
            )
        listing = Listing(
            title=f"{self.images:,} shapes",
            fingerprint=f"shapes 1, {self.split}, seed {self.seed}, {self.size} pixels",
            total=self.images,
            name="shape {}".format,
            start=lambda: self._items,
            class_names=tuple(" ".join(drawing) for drawing in DRAWINGS),
        )
        dataset = prepare(self, listing, None, None)
        assert dataset.labels is not None
        return dataclasses.replace(dataset, captions=ShapeCaptions(dataset.labels))

    def shown(self, index: int) -> Drawing:
        """Returns what image `index` shows."""
        choices = drawings(self.split)
        return choices[int(self._draws(index)[0] * len(choices))]

    def caption(self, index: int, which: int = 0) -> str:
        """Returns one of the captions of image `index`: `which` is 0 to below the length of `CAPTIONS`."""
        return CAPTIONS[which](self.shown(index))

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Draws image `index`."""
        drawing = self.shown(index)
        _, radius, right, down = self._draws(index)
        x, y = (SIDE / 2 + at + 2 * draw - 1 for at, draw in zip(PLACES[drawing.place], (right, down), strict=True))
        return painted(drawing.colour, coverage(drawing.shape, SIZES[drawing.size] + radius - 0.5, x, y, self.size))

    def _items(self, indices: range) -> Iterator[Item]:
        return (Item(self.image(index), DRAWINGS.index(self.shown(index))) for index in indices)

    def _draws(self, index: int) -> Float[np.ndarray, " 4"]:
        """Returns numbers from 0 to 1: of the combination, the size, and the place to the right and down.

        They are the raw output of a generator that counts, so that images can be drawn in any order, and NumPy promises
        it for all versions.
        """
        key = np.asarray([self.seed, self.split == "held_out"], np.uint64)
        raw = np.random.Philox(counter=np.asarray([0, index, 0, 0], np.uint64), key=key).random_raw(4)
        return (raw >> np.uint64(11)) * 2.0**-53


@dataclasses.dataclass(frozen=True, eq=False)
class ShapeCaptions:
    """All captions of each image, by the number of what it shows."""

    labels: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[str, ...]:
        """Returns the captions of image `index`."""
        return _captions_of(int(self.labels[index]))


@functools.cache
def _captions_of(label: int) -> tuple[str, ...]:
    return tuple(caption(DRAWINGS[label]) for caption in CAPTIONS)


@functools.cache
def drawings(split: Literal["train", "held_out"]) -> tuple[Drawing, ...]:
    """Returns the combinations of a split."""
    return tuple(d for d in DRAWINGS if ((d.colour, d.shape) in HELD_OUT) == (split == "held_out"))


def coverage(shape: str, radius: float, x: float, y: float, side: int = SIDE) -> Float[np.ndarray, "side side"]:
    """Returns how much of each pixel a shape covers, 0 to 1; `radius`, `x` and `y` are in 32nds of the side."""
    points = (np.arange(side * _FINER) + 0.5) * (SIDE / (side * _FINER))
    inside = SHAPES[shape].inside((points - x)[None] / radius, (points - y)[:, None] / radius)
    return inside.reshape(side, _FINER, side, _FINER).mean((1, 3))


def painted(colour: str, covered: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Paints what is covered on white."""
    ink = 255.0 - np.asarray(COLOURS[colour])
    return np.round(255 - covered[..., None] * ink).astype(np.uint8)


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
