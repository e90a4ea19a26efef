"""Descriptions of a data set, in figures and as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from PIL import Image

from imagegen_jax.core.arrays.space import picture_of_latents
from imagegen_jax.core.drawing.grid import beside, grid, repeated
from imagegen_jax.data.formats.codes import CodeSet, codebook_use
from imagegen_jax.data.pictures.output import write_picture
from imagegen_jax.data.source import Dataset

_SPLITS = frozenset("train training val valid validation dev test testing eval".split())  # usual names of folders
_NAMED = 5  # a note names at most so many classes
_CHUNK_BYTES = 1 << 24
_ROWS, _COLUMNS = 20, 10
_TYPICAL = 256  # latents whose mean and deviation set the colours of a picture
_SQUARE = 4  # pixels of a code's side in a picture
_GOLDEN = (5**0.5 - 1) / 2
_LARGEST = 1024  # pixels of an image's side in a picture, at most


def describe(dataset: Dataset | CodeSet, name: str) -> str:
    """Describes a data set as lines of text: count, shape, classes, and each channel's mean and standard deviation.

    Of codes, it tells in place of these how much of the codebook they use, and by what tokenizer they were made.

    Means and deviations are on the scale 0..1, or for latents on that of batches. All figures are those of the images;
    of sources, where there are any, it tells count and shape alone.
    """
    if isinstance(dataset, CodeSet):
        return "\n".join([*_lines_of_codes(dataset, name), *_lines_of_classes(dataset)])
    height, width, channels = dataset.image_shape
    mean, std = channel_statistics(dataset)
    lines = [
        f"{name}: {len(dataset):,} images of {height}x{width}x{channels}, {dataset.images.nbytes / 1e6:,.1f} MB",
        f"mean                {' '.join(f'{value:.4f}' for value in mean)}",
        f"standard deviation  {' '.join(f'{value:.4f}' for value in std)}",
    ]
    if dataset.stds is not None:
        lines.append(
            "posteriors          a mean and a deviation of each value, to be drawn from: the figures are of means"
        )
    if dataset.sources is not None:
        shape = "x".join(map(str, dataset.sources.shape[1:]))
        how = "one for each image" if dataset.paired else "shuffled apart from the images"
        lines.append(f"sources             {len(dataset.sources):,} of {shape}, {how}")
    return "\n".join([*lines, *_lines_of_classes(dataset)])


def _lines_of_codes(codes: CodeSet, name: str) -> list[str]:
    shape, note = "x".join(map(str, codes.code_shape)), codes.made_of
    mirrored = ", mirrored ones too" if note.get("mirror") else ""
    run = f", of {note['run']} at step {note.get('step')}" if "run" in note else ""
    return [
        f"{name}: {len(codes):,} x {shape} codes, {codes.codes.nbytes / 1e6:,.1f} MB",
        f"codebook            {codebook_use(codes.codes, codes.codebook_size)}",
        f"tokenizer           {codes.tokenizer}{run}",
        *([f"made of             {note['data']}{mirrored}"] if "data" in note else []),
    ]


def _lines_of_classes(dataset: Dataset | CodeSet) -> list[str]:
    if dataset.labels is None:
        return ["classes             none"]
    counts = np.bincount(dataset.labels, minlength=dataset.num_classes)
    longest = max(map(len, dataset.class_names))
    classes = [
        f"  {label:>4}  {class_name:<{longest}}  {count:,}"
        for label, (class_name, count) in enumerate(zip(dataset.class_names, counts, strict=True))
    ]
    notes = [f"note: {note}" for note in class_notes(dataset.class_names)]
    return [f"classes             {dataset.num_classes}", *classes, *notes]


def class_notes(class_names: Sequence[str]) -> list[str]:
    """Notes what may surprise about classes of these names: numbers out of order, and splits taken for classes."""
    notes = []
    moved = [(label, name) for label, name in enumerate(class_names) if name.isdecimal() and int(name) != label]
    if moved and all(name.isdecimal() for name in class_names):
        examples = ", ".join(f'"{name}" has label {label}' for label, name in moved[:_NAMED])
        why = "names are sorted as text" if _unsorted(class_names) else "labels count from 0"
        notes.append(
            f"class names are numbers, but not those of their labels, since {why}: {examples}. For labels that equal "
            "the names, number the folders from 0 with as many digits each (00, 01, ...)"
        )
    splits = [name for name in class_names if name.lower() in _SPLITS]
    if len(splits) > 1 or (splits and len(splits) == len(class_names)):
        notes.append(
            f"{', '.join(splits)} are taken for classes: if they are splits, choose one by its path, such as "
            f"FOLDER/{splits[0]} (or FILE.zip/{splits[0]})"
        )
    return notes


def _unsorted(class_names: Sequence[str]) -> bool:
    numbers = [int(name) for name in class_names]
    return numbers != sorted(numbers)


def channel_statistics(dataset: Dataset) -> tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " c"]]:
    """Computes the mean and the standard deviation of each channel.

    Those of images are on the scale 0..1, and follow from counts of each value; those of latents are on their own scale
    in batches.
    """
    channels = dataset.images.shape[-1]
    rows = max(1, _CHUNK_BYTES // dataset.images[0].nbytes)
    if dataset.images.dtype != np.uint8:
        return _statistics_of_latents(dataset, rows)
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(dataset), rows):
        pixels = np.asarray(dataset.images[start : start + rows]).reshape(-1, channels)
        for first in range(0, len(pixels), _CHUNK_BYTES):  # of one image too: bincount makes integers of 8 bytes
            part = pixels[first : first + _CHUNK_BYTES]
            counts += [np.bincount(part[:, channel], minlength=256) for channel in range(channels)]
    share = counts / counts.sum(axis=1, keepdims=True)
    value = np.arange(256) / 255
    mean = share @ value
    return mean, np.sqrt((share * (value - mean[:, None]) ** 2).sum(axis=1))


def _statistics_of_latents(dataset: Dataset, rows: int) -> tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " c"]]:
    """Computes the mean and the standard deviation of each channel of latents, from sums over `rows` rows at a time."""
    count = 0
    total, squares = np.zeros((2, dataset.images.shape[-1]))
    for start in range(0, len(dataset), rows):
        chunk = dataset.values(dataset.images[start : start + rows]).astype(np.float64)
        chunk = chunk.reshape(-1, chunk.shape[-1])
        count, total, squares = count + len(chunk), total + chunk.sum(axis=0), squares + (chunk**2).sum(axis=0)
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - mean**2, 0))


def picture_grid(dataset: Dataset | CodeSet, path: str | os.PathLike[str]) -> None:
    """Writes a picture of the first images, one row for each of the first classes where there are labels.

    Where there are sources, one is to the left of each image: its own, or any where they are not paired. Three channels
    of latents are drawn as colours, each up to three deviations from its mean, and codes as squares of a colour for
    each code. Large images are reduced.
    """
    labels = dataset.labels
    if isinstance(dataset, Dataset) and dataset.sources is not None:
        images = dataset.images
        n = min(len(images), len(dataset.sources), _COLUMNS * _COLUMNS // 2)
        pairs = beside(repeated(np.asarray(dataset.sources[:n]), images.shape[1]), np.asarray(images[:n]))
        write_picture(path, grid(_reduced(pairs), _COLUMNS // 2))
        return
    if labels is None:
        write_picture(path, grid(_drawn(dataset, slice(_COLUMNS * _COLUMNS)), _COLUMNS))
        return
    shape = _drawn(dataset, slice(1)).shape[1:]
    picture = np.full((min(dataset.num_classes, _ROWS), _COLUMNS, *shape), 255, np.uint8)
    for label, row in enumerate(picture):
        of_class = np.flatnonzero(labels == label)[:_COLUMNS]
        row[: len(of_class)] = _drawn(dataset, of_class)
    write_picture(path, grid(picture.reshape(-1, *shape), _COLUMNS))


def _drawn(dataset: Dataset | CodeSet, rows: slice | np.ndarray) -> np.ndarray:
    """Draws rows as images, reduced where they are large; of latents the first three channels, or the only one."""
    if isinstance(dataset, CodeSet):
        codes = np.asarray(dataset.codes[rows], np.int64)
        colours = _colours(codes.reshape(len(codes), -1, codes.shape[-1]))
        return _reduced(repeated(colours, _SQUARE * colours.shape[1]))
    values = dataset.values(dataset.images[rows])
    if values.dtype == np.uint8:
        return _reduced(values)
    typical = dataset.values(dataset.images[:_TYPICAL])
    mean, std = typical.mean(axis=(0, 1, 2)), typical.std(axis=(0, 1, 2))
    return picture_of_latents((values - mean) / np.maximum(std, np.finfo(np.float32).tiny))


def _colours(codes: Int64[np.ndarray, "n h w"]) -> UInt8[np.ndarray, "n h w c"]:
    """Gives each code a colour: hues in the golden ratio, so that the next ones differ most."""
    turns = (codes[..., None] * _GOLDEN + np.arange(3) / 3) % 1
    return np.round(127.5 + 127.5 * np.cos(2 * np.pi * turns)).astype(np.uint8)


def _reduced(images: np.ndarray) -> np.ndarray:
    """Reduces images of more than `_LARGEST` pixels a side by a whole factor: a row of ten must fit into memory."""
    factor = -(-max(images.shape[1:3]) // _LARGEST)
    if factor <= 1:
        return images
    grey = images.shape[-1] == 1
    small = [np.asarray(Image.fromarray(image[..., 0] if grey else image).reduce(factor)) for image in images]
    return np.stack(small)[..., None] if grey else np.stack(small)
