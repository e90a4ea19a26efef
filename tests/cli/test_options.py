"""Seeds, classes and numbers that users give: what is no such thing is named with its remedy, never wrapped or cut."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from imagegen_jax.cli.common import options
from imagegen_jax.core.config.given import check_labels, check_seed

pytestmark = pytest.mark.versions


@pytest.mark.parametrize("value", [0, 7, 2**32 - 1, np.int64(5)])
def test_seeds(value):
    assert check_seed(value) == int(value)


@pytest.mark.parametrize("value", [-1, 2**32, 1.0, "3", None, True, np.nan])
def test_no_seeds(value):
    with pytest.raises(ValueError, match=r"--seed=.*from 0 to 4294967295"):
        check_seed(value, "--seed")


def test_labels_by_number_and_by_name():
    np.testing.assert_array_equal(check_labels([2, 0], 3), [2, 0])
    np.testing.assert_array_equal(check_labels(["dog", "cat"], 3, ("cat", "dog", "horse")), [1, 0])
    assert check_labels(np.array([1], np.uint8), 3).dtype == np.int32


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([4294967299], "4294967299 is out of range: this model knows 0 to 9"),
        ([-1], "-1 is out of range"),
        ([1.5], "1.5 is no class"),
        ([True], "True is no class"),
        (["dig"], "no class 'dig'; did you mean 'dog'"),
    ],
)
def test_no_labels(values, says):
    with pytest.raises(ValueError, match=says):
        check_labels(values, 10, ("cat", "dog"))


def test_labels_of_a_model_without_classes():
    with pytest.raises(ValueError, match="knows no classes"):
        check_labels([0], 0)


@pytest.mark.parametrize(
    ("parse", "good", "bad"),
    [
        (options.integer(), ["1", "2147483647"], ["0", "-1", "1.5", "nan", "9" * 30, "9" * 5000, "", "²", "+-5"]),
        (options.integer(0, 9), ["0", "9"], ["10", "-1"]),
        (options.number(), ["-3", "1e30"], ["nan", "inf", "-inf", "1e999", "x", ""]),
        (options.number(0, 1), ["0", "1", "0.5"], ["-0.1", "1.1", "nan"]),
        (options.number(0, above=True), ["0.1"], ["0", "-1", "inf"]),
        (options.seed, ["0", "4294967295"], ["-1", "4294967296", "1e3", "nan"]),
    ],
)
def test_types_of_options(parse, good, bad):
    for text in good:
        parse(text)
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError) as error:
            parse(text)
        assert repr(text) in str(error.value)
