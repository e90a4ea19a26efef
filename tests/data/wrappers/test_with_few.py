"""A few images beside many: each once in the data set, and so often in an epoch that they have their share."""

import dataclasses

import numpy as np
import pytest

from imagegen_jax.data import Arrays, Classes, Digits, Folder, Shapes, WithFew
from imagegen_jax.data.pictures.output import write_picture

OLD, NEW = Classes(Digits(), ("3",), left_out=True), Classes(Digits(), ("3",), per_class=10)


def test_the_few_have_their_share_of_an_epoch_and_are_one_class_more():
    many, few, both = OLD.open(), NEW.open(), WithFew(OLD, NEW, share=0.25).open()
    np.testing.assert_array_equal(both.images, np.concatenate([many.images, few.images]))
    np.testing.assert_array_equal(both.labels, np.concatenate([many.labels, np.full(10, 9)]))
    assert both.class_names == tuple("0124567893")
    epoch = both.batch(0, len(both.epoch), seed=3)
    assert abs((epoch["label"] == 9).mean() - 0.25) < 0.002
    rows = {image.tobytes() for image in epoch["image"][epoch["label"] == 9]}
    assert rows == {image.tobytes() for image in few.images}
    assert (epoch["label"] < 9).sum() == len(many)  # and each of the others once
    assert both.contents() != WithFew(OLD, NEW).open().contents()


def test_images_in_one_folder_are_a_class_by_name_and_known_names_are_known_classes(tmp_path):
    for number, image in enumerate(NEW.open().images):
        write_picture(tmp_path / f"{number}.png", image)
    flat = WithFew(OLD, Folder(str(tmp_path)), name="three").open()
    assert flat.class_names == (*tuple("012456789"), "three") and (flat.labels == 9).sum() == 10
    more = WithFew(OLD, Classes(Digits(), ("4",), per_class=5)).open()
    assert more.class_names == tuple("012456789") and (more.labels[-5:] == 3).all()


def test_what_cannot_stand_side_by_side_is_refused(tmp_path):
    np.savez(tmp_path / "plain.npz", images=Digits().open().images)
    with pytest.raises(ValueError, match=r"images of \(16, 16, 1\).* cannot stand beside those of \(8, 8, 1\)"):
        WithFew(OLD, dataclasses.replace(NEW, source=Digits(size=16))).open()
    with pytest.raises(ValueError, match="has no classes for another to stand beside"):
        WithFew(Arrays(str(tmp_path / "plain.npz")), NEW).open()
    with pytest.raises(ValueError, match="latents, or have sources or captions"):
        WithFew(OLD, Shapes(images=5)).open()
