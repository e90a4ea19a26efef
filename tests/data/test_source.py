"""Batches: pure in (seed, step), every image once an epoch, the same on every machine."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from imagegen_jax.data import TFDS, Arrays, Dataset, Digits, Folder, Source


def numbered(n: int) -> Dataset:
    """`n` images of 2x2 whose pixels and labels are their number."""
    number = np.arange(n)
    images = np.broadcast_to(number.astype(np.uint8)[:, None, None, None], (n, 2, 2, 1))
    return Dataset(images, number.astype(np.int32), tuple(map(str, number)))


def stream(dataset: Dataset, steps: int, n: int, seed: int = 0) -> np.ndarray:
    """The labels of the first `steps` batches, one after another."""
    return np.concatenate([dataset.batch(step, n, seed)["label"] for step in range(steps)])


@pytest.mark.parametrize("n", [1, 3, 10, 25])  # a divisor, none, the whole, and more than the whole
def test_each_epoch_holds_each_image_once(n: int) -> None:
    """Also where batches straddle epochs; and the orders of epochs differ."""
    epochs = stream(numbered(10), steps=50, n=n)[: 50 * n // 10 * 10].reshape(-1, 10)
    np.testing.assert_array_equal(np.sort(epochs), np.broadcast_to(np.arange(10), epochs.shape))
    assert len(np.unique(epochs, axis=0)) == len(epochs)


def test_the_stream_does_not_depend_on_the_batch_size() -> None:
    """Position p of the stream is the same image however it is cut into batches."""
    np.testing.assert_array_equal(stream(numbered(10), 12, 5), stream(numbered(10), 5, 12))


def test_order_is_pinned() -> None:
    """Recorded values: a change would give every stored run other batches after its resumption."""
    dataset = numbered(10)
    assert dataset.batch(0, 10, seed=0)["label"].tolist() == [0, 8, 9, 3, 7, 5, 1, 2, 6, 4]
    assert dataset.batch(1, 10, seed=0)["label"].tolist() == [3, 7, 4, 2, 9, 8, 1, 6, 5, 0]
    assert dataset.batch(0, 10, seed=1)["label"].tolist() == [2, 0, 1, 4, 5, 6, 7, 8, 3, 9]


def test_all_orders_are_equally_likely() -> None:
    """The 24 orders of 4 images over 4,800 epochs: chi-squared with 23 degrees of freedom, below its 99.9 % point."""
    epochs = stream(numbered(4), steps=4800, n=4).reshape(-1, 4)
    counts = np.unique(epochs, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert ((counts - 200) ** 2 / 200).sum() < 49.73


def test_a_batch_does_not_depend_on_what_was_asked_before() -> None:
    """Batch 7 is the same asked first, again, and after distant ones."""
    first = numbered(10).batch(7, 4, seed=3)
    other = numbered(10)
    for step in (1000, 0, 7, 6):
        other.batch(step, 4, seed=3)
    np.testing.assert_array_equal(first["image"], other.batch(7, 4, seed=3)["image"])


def test_hosts_read_their_own_rows() -> None:
    """The rows of the hosts together are the batch."""
    dataset, whole = numbered(10), numbered(10).batch(2, 8, seed=5)
    parts = [dataset.batch(2, 8, seed=5, rows=slice(start, start + 2)) for start in (0, 2, 4, 6)]
    for name in ("image", "label"):
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), whole[name])


def test_a_batch_is_fresh_and_typed() -> None:
    """Writing into a batch changes nothing that comes later; each image keeps its label."""
    dataset = Digits().open()
    batch = dataset.batch(0, 64)
    assert batch["image"].dtype == np.uint8 and batch["image"].shape == (64, 8, 8, 1)
    assert batch["label"].dtype == np.int32 and batch["label"].shape == (64,)
    assert type(batch["image"]) is np.ndarray and batch["image"].flags.c_contiguous
    kept = batch["image"].copy()
    batch["image"][:] = 0
    np.testing.assert_array_equal(dataset.batch(0, 64)["image"], kept)
    pairs = numbered(200).batch(0, 200)
    np.testing.assert_array_equal(pairs["image"][:, 0, 0, 0], pairs["label"])


def test_no_labels_no_label() -> None:
    """A batch of unlabelled images has no "label"."""
    dataset = Dataset(np.zeros((3, 4, 5, 3), np.uint8))
    assert set(dataset.batch(0, 2)) == {"image"}
    assert dataset.num_classes == 0 and dataset.image_shape == (4, 5, 3) and len(dataset) == 3


@pytest.mark.parametrize("wrong", [{"step": -1, "n": 2}, {"step": 0, "n": 0}, {"step": 0, "n": 2, "seed": -1}])
def test_impossible_batches_are_refused(wrong: dict[str, int]) -> None:
    """With all three values in the message."""
    with pytest.raises(ValueError, match=r"batch\(step=.*, n=.*, seed=.*\)"):
        numbered(3).batch(**wrong)


@pytest.mark.parametrize("source", [Digits(size=16), TFDS("mnist"), Folder("pictures", size=64), Arrays("x.npz")])
def test_sources_are_plain_values(source: Source) -> None:
    """Hashable, comparable, and rebuilt from JSON."""
    again = type(source)(**json.loads(json.dumps(dataclasses.asdict(source))))  # type: ignore[call-overload]
    assert again == source and hash(again) == hash(source)
    assert isinstance(source, Source)


def test_digits() -> None:
    """Count, classes and pixels of scikit-learn's set; 0..16 becomes 0..255."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    dataset = Digits().open()
    assert len(dataset) == 1797 and dataset.image_shape == (8, 8, 1) and dataset.num_classes == 10
    np.testing.assert_allclose(np.asarray(dataset.images).reshape(1797, 64), images * 255 / 16, atol=0.5)
    np.testing.assert_array_equal(dataset.labels, labels)
    assert dataset.images.max() == 255
    train, test = Digits(split="train").open(), Digits(split="test").open()
    np.testing.assert_array_equal(np.concatenate([train.images, test.images]), dataset.images)
    assert Digits(size=32, channels=3, split="test").open().image_shape == (32, 32, 3)
    with pytest.raises(ValueError, match="all, train, test"):
        Digits(split="validation").open()  # type: ignore[arg-type]
