"""Some classes of a data set and all others are the whole; so many of each are drawn by a seed."""

import numpy as np
import pytest

from imagegen_jax.data import Arrays, Classes, DigitPairs, Digits


def test_chosen_and_left_out_classes_are_the_whole():
    whole, two = Digits().open(), Classes(names=("9", "3")).open()
    others = Classes(names=("9", "3"), left_out=True).open()
    chosen = np.isin(whole.labels, [3, 9])
    np.testing.assert_array_equal(two.images, whole.images[chosen])
    np.testing.assert_array_equal(others.images, whole.images[~chosen])
    assert two.class_names == ("3", "9") and others.class_names == tuple("01245678")
    np.testing.assert_array_equal(np.array(list("39"))[two.labels], whole.labels[chosen].astype(str))
    np.testing.assert_array_equal(np.array(list("01245678"))[others.labels], whole.labels[~chosen].astype(str))


def test_so_many_of_each_class_are_drawn():
    first, second = (Classes(names=("4", "7"), per_class=10, seed=seed).open() for seed in (0, 1))
    assert np.bincount(first.labels).tolist() == [10, 10]
    assert len(np.unique(first.images.reshape(20, -1), axis=0)) == 20
    assert first.contents() != second.contents()


def test_impossible_choices_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no class 'nine'; the nearest are"):
        Classes(names=("nine",)).open()
    with pytest.raises(ValueError, match="no class is left of 0, 1"):
        Classes(names=tuple("0123456789"), left_out=True).open()
    with pytest.raises(ValueError, match=r"'8' has 174 images: set per_class to so many"):
        Classes(names=("8",), per_class=200).open()
    with pytest.raises(ValueError, match="latents, or have sources"):
        Classes(DigitPairs(), ("3",)).open()
    np.savez(tmp_path / "plain.npz", images=Digits().open().images)
    with pytest.raises(ValueError, match="no classes to choose from"):
        Classes(Arrays(str(tmp_path / "plain.npz")), ("3",)).open()
