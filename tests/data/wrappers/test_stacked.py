"""Stacked digits: channels, labels and what is refused."""

import numpy as np
import pytest

from imagegen_jax.data import Digits, Stacked


def test_each_channel_is_a_digit_and_the_label_says_which():
    singles, stacks = Digits().open(), Stacked(Digits(), images=300).open()
    assert stacks.image_shape == (8, 8, 3) and stacks.num_classes == 1000 and len(stacks) == 300
    assert stacks.class_names[407] == "407"
    where = {image.tobytes(): int(label) for image, label in zip(singles.images, singles.labels, strict=True)}
    for image, label in zip(stacks.images[:50], stacks.labels[:50], strict=True):
        digits = [where[np.ascontiguousarray(image[:, :, [c]]).tobytes()] for c in range(3)]
        assert label == 100 * digits[0] + 10 * digits[1] + digits[2]


def test_stacks_follow_from_the_seed():
    one, again, other = (Stacked(Digits(), images=20, seed=seed).open() for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.images, again.images)
    assert (one.labels != other.labels).any()


@pytest.mark.parametrize(
    ("source", "message"),
    [(Stacked(Digits(channels=3)), "needs grey images"), (Stacked(Digits(), images=0), "images=0 must be positive")],
)
def test_what_cannot_be_stacked_is_refused(source, message):
    with pytest.raises(ValueError, match=message):
        source.open()
