"""Pairs of pictures for a study: as many of each class on both sides, of one size."""

from __future__ import annotations

import numpy as np

from imagegen_jax.data.remedy import Remedy, SettingError
from imagegen_jax.metrics.scores.classes import paired_classes
from imagegen_jax.metrics.sets import ArraySet, ImageSet, SampleSet


def pairs_of(
    a: ImageSet, b: ImageSet, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Draws at most `n` pairs, of one class each where both sets have classes of the same names.

    Returns pictures of both sides, uint8 [n h w c], labels [n] or None, and the names of the labels. Raises
    SettingError where the two sets' pictures differ in size.
    """
    if a.image_shape[:2] != b.image_shape[:2]:
        problem = f"{a.name} has pictures of {_size(a)}, {b.name} of {_size(b)}, which would tell them apart: "
        remedy = Remedy("bring both to one size with {}", {"size": min(a.image_shape[0], b.image_shape[0])})
        raise SettingError(None, problem, [remedy])
    random = np.random.default_rng(seed)
    of_a, of_b, labels, names = _matched(a, b, n, random)
    pictures = [_in_colour(_rows(side, rows), a, b) for side, rows in ((a, of_a), (b, of_b))]
    return pictures[0], pictures[1], labels, names


def scrambled(picture: np.ndarray, seed: int) -> np.ndarray:
    """Returns a picture's pixels in another order, [h w c]: what nobody who looks takes for the picture."""
    pixels = picture.reshape(-1, picture.shape[-1])
    return np.random.default_rng(seed).permutation(pixels, axis=0).reshape(picture.shape)


def _size(images: ImageSet) -> str:
    return f"{images.image_shape[0]}x{images.image_shape[1]}"


def _matched(
    a: ImageSet, b: ImageSet, n: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, tuple[str, ...]]:
    if a.labels is not None and b.labels is not None:
        classes = paired_classes(a.labels, b.labels, a.class_names, b.class_names)
        of_a, of_b, labels = [], [], []
        for place in range(len(classes.names)):
            rows = [random.permutation(np.flatnonzero(side == place)) for side in (classes.samples, classes.references)]
            count = min(map(len, rows))
            of_a.append(rows[0][:count])
            of_b.append(rows[1][:count])
            labels.append(np.full(count, place))
        if sum(map(len, labels)):
            chosen = random.permutation(sum(map(len, labels)))[:n]
            return (
                np.concatenate(of_a)[chosen],
                np.concatenate(of_b)[chosen],
                np.concatenate(labels)[chosen],
                tuple(map(str, classes.names)),
            )
    count = min(n, len(a), len(b))
    return random.permutation(len(a))[:count], random.permutation(len(b))[:count], None, ()


def _rows(images: ImageSet, rows: np.ndarray) -> np.ndarray:
    if isinstance(images, ArraySet):
        return np.stack([np.asarray(images.images[row]) for row in rows])
    size = images.chunk if isinstance(images, SampleSet) else 256
    return np.concatenate(list(images.batches(size)))[rows]


def _in_colour(pictures: np.ndarray, *sides: ImageSet) -> np.ndarray:
    """Brings pictures to RGB where the sides differ in channels."""
    if len({side.image_shape[2] for side in sides}) == 1 or pictures.shape[-1] == 3:
        return pictures
    return np.repeat(pictures, 3, axis=-1) if pictures.shape[-1] == 1 else pictures[..., :3]
