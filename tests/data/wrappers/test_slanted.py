"""Slanted images, against what they are by definition."""

import dataclasses

import numpy as np
import pytest

from imagegen_jax.data import Digits, Slanted
from imagegen_jax.data.source import Dataset
from imagegen_jax.data.wrappers.slanted import slanted


@dataclasses.dataclass(frozen=True)
class Unlabelled:
    """Two images without classes."""

    def open(self):
        return Dataset(np.zeros((2, 4, 4, 1), np.uint8))


def test_rows_are_moved_by_whole_and_half_pixels():
    """Of three rows with a slope of one and a half, the upper moves right by it, the lower left."""
    rows = np.array([[0, 100, 0, 0, 40]] * 3, np.uint8)[None, ..., None]
    found = slanted(rows, 1.5)[0, ..., 0]
    np.testing.assert_array_equal(found, [[0, 0, 50, 50, 0], [0, 100, 0, 0, 40], [50, 0, 20, 20, 0]])
    np.testing.assert_array_equal(slanted(rows, 0.0), rows)


def test_the_first_of_each_class_are_taken():
    plain, few = Digits(split="train").open(), Slanted(per_class=2).open()
    assert len(few) == 20 and np.array_equal(few.labels, np.repeat(np.arange(10), 2))
    second = np.flatnonzero(plain.labels == 3)[1]
    np.testing.assert_array_equal(few.images[7], slanted(plain.images[second : second + 1], 0.5)[0])
    assert len(Slanted().open()) == 1500 and few.contents() != Slanted(per_class=2, slope=0.4).open().contents()


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="per_class=2, but the images have no classes: leave it out"):
        Slanted(Unlabelled(), per_class=2).open()
    with pytest.raises(ValueError, match=r"the class '0' has 27 images: give so many, or fewer"):
        Slanted(Digits(split="test"), per_class=29).open()
