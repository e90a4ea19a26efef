"""A part of a data set and the rest are all of it, with labels and captions."""

import numpy as np
import pytest

from imagegen_jax.data import Captioned, DigitPairs, Digits, Part, Shapes


def test_both_parts_are_the_whole():
    whole, kept, out = Digits().open(), Part(every=7).open(), Part(every=7, held_out=True).open()
    held = np.arange(len(whole)) % 7 == 6
    np.testing.assert_array_equal(out.images, whole.images[held])
    np.testing.assert_array_equal(kept.images, whole.images[~held])
    np.testing.assert_array_equal(kept.labels, whole.labels[~held])
    assert kept.class_names == whole.class_names and kept.contents() != out.contents()


def test_captions_stay_with_their_images():
    whole, out = Shapes(images=20).open(), Part(Shapes(images=20), every=3, held_out=True).open()
    assert [out.captions[i] for i in range(len(out))] == [tuple(whole.captions[i]) for i in range(2, 20, 3)]
    assert "text" in Captioned(Part(Shapes(images=20))).open().batch(0, 2)


def test_impossible_parts_are_refused():
    with pytest.raises(ValueError, match="each 10th of 5 images is none: set every to at most 5"):
        Part(Shapes(images=5), held_out=True).open()
    with pytest.raises(ValueError, match="latents, or have sources"):
        Part(DigitPairs()).open()
