"""NumPy arrays of images, from an .npz or from a notebook."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.files.archive import open_archive
from imagegen_jax.core.files.npz import explained, outline, read_array, stored
from imagegen_jax.data.cache import cached
from imagegen_jax.data.decode import MODES
from imagegen_jax.data.formats.image_folder import fingerprint
from imagegen_jax.data.prepare import Item, Listing, load, numbered, prepare, save, write_info
from imagegen_jax.data.source import Dataset

_IMAGES = ("image", "images", "arr_0", "x_train", "x")
_LABELS = ("label", "labels", "arr_1", "y_train", "y")


@dataclasses.dataclass(frozen=True)
class Arrays:
    """The arrays of an .npz file, or those that `from_arrays` has stored.

    Images are uint8 [n h w c] with 1, 3 or 4 channels or [n h w], under the first of the names image, images, arr_0,
    x_train and x. Labels, if there are any, are integers [n] under label, labels, arr_1, y_train or y. `size` None
    keeps the images' size, `channels` None their channels.
    """

    path: str
    size: Count | None = None
    channels: Count | None = None

    def open(self) -> Dataset:
        """Opens the images.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: it is not an .npz, or the arrays are not images and labels; as `prepare` does.
        """
        path = pathlib.Path(self.path).expanduser().absolute()
        if not path.exists():
            raise FileNotFoundError(
                f"{self}: there is no file {path} (if from_arrays stored it in the cache, call from_arrays again)"
            )
        if path.is_dir():
            stored = load(path)
            if self.size is None and self.channels is None:
                return stored
            return self._prepare(path.name, stored, lambda: stored.images)
        return self._prepare(*_contents(self, path))

    def _prepare(self, content: str, outline: Dataset, load_images: Callable[[], np.ndarray]) -> Dataset:
        labels = np.zeros(len(outline), np.int32) if outline.labels is None else outline.labels

        def start() -> Callable[[range], Iterator[Item]]:
            images = load_images()
            return lambda indices: (Item(images[index], int(labels[index])) for index in indices)

        name = pathlib.Path(self.path).name
        listing = Listing(name, content, len(outline), "image {}".format, start, outline.class_names)
        return prepare(self, listing, self.size, self.channels)


def from_arrays(images: Any, labels: Any = None, class_names: Sequence[str] = ()) -> Arrays:
    """Stores arrays in the cache, under a digest of their content, and returns a source that reads them; for notebooks.

    Args:
      images: uint8 [n h w c] with 1, 3 or 4 channels, or [n h w].
      labels: integers [n] from 0, or None.
      class_names: the name of each label; () names them by their number.

    Raises:
      ValueError: arrays do not have this form; says how to convert them.
      OSError: the cache cannot be written.
    """
    dataset = _checked("from_arrays", np.asarray(images), labels, tuple(class_names))
    content = hashlib.sha256(repr((dataset.images.shape, dataset.class_names)).encode())
    for array in (dataset.images, dataset.labels):
        content.update(b"" if array is None else np.ascontiguousarray(array).data)

    def build(folder: pathlib.Path) -> None:
        save(folder / "images.npy", dataset.images)
        if dataset.labels is not None:
            save(folder / "labels.npy", dataset.labels)
        write_info(folder, "from_arrays", dataset.class_names)

    return Arrays(str(cached("arrays", {"content": content.hexdigest()}, build)))


def _contents(source: Arrays, path: pathlib.Path) -> tuple[str, Dataset, Callable[[], np.ndarray]]:
    """Reads an .npz but for its pixels: returns its fingerprint, its data set, and a function that loads the pixels."""
    with explained(f"{source}: {path}", "is not an .npz of images"), open_archive(path) as archive:
        content = fingerprint(archive.stamps)
        there = [name.removesuffix(".npy") for name in archive.members]
        image = next((name for name in _IMAGES if f"{name}.npy" in archive.members), None)
        label = next((name for name in _LABELS if f"{name}.npy" in archive.members), None)
        if image is None:
            raise ValueError(f"none of its arrays ({', '.join(there)}) is called {', '.join(_IMAGES)}")
        pixels = outline(archive, f"{image}.npy")
        labels = None
        if label is not None and _fits(labels := outline(archive, f"{label}.npy"), pixels):
            labels = read_array(archive, f"{label}.npy")
    dataset = _checked(str(source), pixels, labels, ())

    def load_images() -> np.ndarray:
        return stored(f"{source}: {path}", path, image).reshape(dataset.images.shape)

    return content, dataset, load_images


def _checked(place: str, images: np.ndarray, labels: Any, class_names: tuple[str, ...]) -> Dataset:
    """Makes a data set of images as [n h w c], labels as int32 [n], and the name of each label.

    Raises ValueError for arrays that are none of these.
    """
    if np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"{place}: images are {images.dtype}: bring them to [-1, 1] and convert them with to_uint8")
    if images.dtype != np.uint8:
        raise ValueError(f"{place}: images are {images.dtype}, not uint8: convert them with .astype(numpy.uint8)")
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or 0 in images.shape or images.shape[-1] not in MODES:
        first = images.ndim == 4 and images.shape[1] in MODES
        remedy = "move the channels last with numpy.moveaxis(images, 1, -1)" if first else "reshape them"
        raise ValueError(f"{place}: images have the shape {images.shape}, not [n h w] or [n h w 1|3|4]: {remedy}")
    if labels is None:
        if class_names:
            raise ValueError(f"{place}: class_names are given, but no labels")
        return Dataset(images)
    labels = np.asarray(labels)
    if not _fits(labels, images):
        form = f"{labels.dtype} {list(labels.shape)}"
        raise ValueError(f"{place}: labels are {form}, not integers [{len(images)}], one for each image")
    class_names = class_names or numbered(place, int(labels.max()))
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise ValueError(f"{place}: labels are in {labels.min()}..{labels.max()}, not in 0..{len(class_names) - 1}")
    return Dataset(images, labels.astype(np.int32), class_names)


def _fits(labels: np.ndarray, images: np.ndarray) -> bool:
    return labels.shape == images.shape[:1] and np.issubdtype(labels.dtype, np.integer)
