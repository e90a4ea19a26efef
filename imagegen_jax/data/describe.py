"""What a data set holds, in figures and as a picture."""

from __future__ import annotations

import os

import numpy as np
from jaxtyping import Float64

from imagegen_jax.data.grid import beside, grid, write_png
from imagegen_jax.data.source import Dataset

_CHUNK_BYTES = 1 << 24
_ROWS, _COLUMNS = 20, 10


def describe(dataset: Dataset, name: str) -> str:
    """Count, shape, classes, and each channel's mean and standard deviation on the scale 0..1, as lines of text.

    The figures are those of the images; of the sources, in translation, only count and shape.
    """
    height, width, channels = dataset.image_shape
    mean, std = channel_statistics(dataset)
    lines = [
        f"{name}: {len(dataset):,} images of {height}x{width}x{channels}, {dataset.images.nbytes / 1e6:,.1f} MB",
        f"mean                {' '.join(f'{value:.4f}' for value in mean)}",
        f"standard deviation  {' '.join(f'{value:.4f}' for value in std)}",
    ]
    if dataset.sources is not None:
        shape = "x".join(map(str, dataset.sources.shape[1:]))
        how = "one for each image" if dataset.paired else "shuffled apart from the images"
        lines.append(f"sources             {len(dataset.sources):,} of {shape}, {how}")
    if dataset.labels is None:
        return "\n".join([*lines, "classes             none"])
    counts = np.bincount(dataset.labels, minlength=dataset.num_classes)
    longest = max(map(len, dataset.class_names))
    classes = [
        f"  {label:>4}  {class_name:<{longest}}  {count:,}"
        for label, (class_name, count) in enumerate(zip(dataset.class_names, counts, strict=True))
    ]
    return "\n".join([*lines, f"classes             {dataset.num_classes}", *classes])


def channel_statistics(dataset: Dataset) -> tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " c"]]:
    """Mean and standard deviation of each channel on the scale 0..1, from counts of each value."""
    channels = dataset.images.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    rows = max(1, _CHUNK_BYTES // dataset.images[0].nbytes)
    for start in range(0, len(dataset), rows):
        chunk = np.asarray(dataset.images[start : start + rows])
        counts += [np.bincount(chunk[..., channel].ravel(), minlength=256) for channel in range(channels)]
    share = counts / counts.sum(axis=1, keepdims=True)
    value = np.arange(256) / 255
    mean = share @ value
    return mean, np.sqrt((share * (value - mean[:, None]) ** 2).sum(axis=1))


def picture_grid(dataset: Dataset, path: str | os.PathLike[str]) -> None:
    """Writes a PNG of the first images, one row for each of the first classes where there are labels.

    In translation a source is to the left of each: its own, or any other where they are not paired.
    """
    images, labels = dataset.images, dataset.labels
    if dataset.sources is not None:
        n = min(len(images), len(dataset.sources), _COLUMNS * _COLUMNS // 2)
        pairs = beside(np.asarray(dataset.sources[:n]), np.asarray(images[:n]))
        write_png(path, grid(pairs, _COLUMNS // 2))
        return
    if labels is None:
        write_png(path, grid(np.asarray(images[: _COLUMNS * _COLUMNS]), _COLUMNS))
        return
    picture = np.full((min(dataset.num_classes, _ROWS), _COLUMNS, *dataset.image_shape), 255, np.uint8)
    for label, row in enumerate(picture):
        of_class = np.flatnonzero(labels == label)[:_COLUMNS]
        row[: len(of_class)] = images[of_class]
    write_png(path, grid(picture.reshape(-1, *dataset.image_shape), _COLUMNS))
