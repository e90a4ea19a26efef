"""Image data sets of TensorFlow Datasets. TensorFlow itself is needed to prepare one, not to read it."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib.util
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.data.cache import cached
from imagegen_jax.data.formats.caption_files import TEXTS, texts_in
from imagegen_jax.data.formats.image_folder import fingerprint, stamps_of_folder
from imagegen_jax.data.prepare import Item, Listing, prepare
from imagegen_jax.data.source import Dataset, ReadCaptions

_READ, _TEXTS_FILE = 256, "texts.jsonl"


@dataclasses.dataclass(frozen=True)
class TFDS:
    """A data set of TensorFlow Datasets, such as "mnist", "cifar10" or "celeb_a".

    Where it has texts of its images (a feature "text", "caption", "captions", ..., of one text or of several, alone or
    with other values, as "coco_captions" has them), these are their captions.
    `name` and `split` are written as in TensorFlow Datasets, with configurations ("celeb_a_hq/64") and slices
    ("train[:90%]"). `data_dir` None is its default folder: the environment variable TFDS_DATA_DIR, or
    ~/tensorflow_datasets. `size` None keeps the size of the images, `channels` None their channels (1 grey, 3 RGB,
    4 RGBA).
    """

    name: str
    split: str = "train"
    size: Count | None = None
    channels: Count | None = None
    data_dir: str | None = None

    def open(self) -> Dataset:
        """Opens the images of the split.

        Raises:
          ValueError: there is no such data set (names the nearest) or split, it has no images, or its files are
            damaged; as `prepare` does.
          FileNotFoundError: the data set is not prepared; gives the command that prepares it.
        """
        builder = _builder(self.name, self.data_dir)
        if not builder.is_prepared():
            raise FileNotFoundError(f"{self}: not prepared in {builder.data_path}: {_remedy(self)}")
        image, label = _features(self, builder)
        text = _text_feature(builder)
        records = _records(self, builder)

        def read(indices: range) -> Iterator[Item]:
            try:
                rows = records.__getitems__(list(indices))
            except RuntimeError as error:
                raise _damaged(self, builder, error) from error
            return (Item(row[image], row[label] if label else 0) for row in rows)

        listing = Listing(
            title=f"{self.name} {self.split}",
            fingerprint=fingerprint(stamps_of_folder(pathlib.Path(builder.data_path))),
            total=len(records),
            name=lambda index: f"{self.split}[{index}]",
            start=lambda: read,
            class_names=tuple(builder.info.features[label].names) if label else (),
        )
        dataset = prepare(self, listing, self.size, self.channels)
        if not text:
            return dataset
        captions = ReadCaptions(len(records), lambda: _captions(self, listing, records, text))
        return dataclasses.replace(dataset, captions=captions)


def prepare_tfds(name: str, data_dir: str | None = None) -> pathlib.Path:
    """Downloads data set `name` and writes it in a format that `TFDS` reads; returns its folder.

    Raises ImportError where TensorFlow is not installed, ValueError where there is no such data set.
    """
    builder = _builder(name, data_dir)
    if importlib.util.find_spec("tensorflow") is None:
        raise ImportError(f'preparing {name} needs TensorFlow: pip install "imagegen_jax[tfds]"')
    builder.download_and_prepare(file_format="array_record")
    return pathlib.Path(builder.data_path)


def tfds_names() -> list[str]:
    """Lists the names of data sets that TensorFlow Datasets knows."""
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def _builder(name: str, data_dir: str | None) -> Any:
    import tensorflow_datasets as tfds

    if data_dir is not None:
        data_dir = str(pathlib.Path(data_dir).expanduser())
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        near = difflib.get_close_matches(name, tfds_names(), n=3)
        hint = f"perhaps you meant {' or '.join(near)}" if near else "see https://www.tensorflow.org/datasets/catalog"
        raise ValueError(f"TensorFlow Datasets has no data set {name!r}: {hint}") from error
    except (ValueError, AssertionError) as error:  # of the name's form, the configuration, the version
        raise ValueError(f"TensorFlow Datasets cannot give {name!r}: {error}") from error


def _text_feature(builder: Any) -> tuple[str, ...]:
    """Finds the keys that lead to the texts of images; () where there are none."""
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    for name in (name for name in TEXTS if name in features):
        kind = getattr(features[name], "feature", features[name])  # of a sequence: of its members
        path: tuple[str, ...] | None = (name,)
        if isinstance(kind, tfds.features.FeaturesDict):
            inner = next((one for one in TEXTS if one in kind), "")
            kind, path = (kind[inner], (name, inner)) if inner else (None, path)
        if path and isinstance(kind, tfds.features.Text):
            return path
    return ()


def _captions(source: TFDS, listing: Listing, records: Any, text: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Returns the texts of all images, read once for all runs. Raises ValueError where an image has none."""

    def build(folder: pathlib.Path) -> None:
        lines = []
        for start in range(0, listing.total, _READ):
            for row in records.__getitems__(list(range(listing.total)[start : start + _READ])):
                lines.append(json.dumps(texts_in(functools.reduce(lambda value, key: value[key], text, row))))
        (folder / _TEXTS_FILE).write_text("\n".join(lines), "utf-8")

    key = {"title": listing.title, "fingerprint": listing.fingerprint, "texts": text}
    folder = cached(f"texts of {listing.title}", key, build)
    found = [tuple(json.loads(line)) for line in (folder / _TEXTS_FILE).read_text("utf-8").splitlines()]
    without = [listing.name(i) for i, texts in enumerate(found) if not texts]
    if without:
        raise ValueError(f"{source}: {len(without)} of {len(found)} images have no text, the first is {without[0]}")
    return found


def _records(source: TFDS, builder: Any) -> Any:
    """Opens the examples of the split, by number, with images as the bytes of files.

    Raises ValueError where there is no such split, or its files cannot be read out of order or are damaged.
    """
    import tensorflow_datasets as tfds

    encoded = {key: tfds.decode.SkipDecoding() for key, kind in builder.info.features.items() if _is_image(kind)}
    try:
        return builder.as_data_source(source.split, decoders=encoded)
    except NotImplementedError as error:
        raise ValueError(
            f"{source}: {builder.data_path} was prepared in the format {builder.info.file_format.value}, which cannot "
            f"be read out of order: delete that folder, then {_remedy(source)}"
        ) from error
    except RuntimeError as error:
        raise _damaged(source, builder, error) from error
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _damaged(source: TFDS, builder: Any, error: Exception) -> ValueError:
    return ValueError(
        f"{source}: the files in {builder.data_path} are damaged ({error}): delete that folder, then {_remedy(source)}"
    )


def _remedy(source: TFDS) -> str:
    command = f"run `imagegen data prepare tfds:{source.name}"
    return command + (f" --data-dir {source.data_dir}`" if source.data_dir else "`")


def _is_image(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.Image)


def _features(source: TFDS, builder: Any) -> tuple[str, str | None]:
    """Finds the keys of the images and of their classes: the one called "image" or "label", else the first.

    The key of the classes is None where there are none. Raises ValueError where there are no uint8 images.
    """
    import tensorflow_datasets as tfds

    features = builder.info.features
    images = sorted((key for key, kind in features.items() if _is_image(kind)), key=lambda key: key != "image")
    classes = [key for key, kind in features.items() if isinstance(kind, tfds.features.ClassLabel)]
    if not images:
        raise ValueError(f"{source}: it has no images, only {', '.join(features)}")
    if (dtype := np.dtype(features[images[0]].np_dtype)) != np.uint8:
        raise ValueError(f"{source}: its images are {dtype}, only uint8 can be read")
    return images[0], min(classes, key=lambda key: key != "label", default=None)
