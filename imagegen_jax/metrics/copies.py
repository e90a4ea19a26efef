"""Samples of a run beside the training images nearest to them: those that may be copies first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from imagegen_jax.metrics.scores.memorization import nearest, spacings

Images = UInt8[np.ndarray, "n h w c"]


class Copies(NamedTuple):
    """Samples in the order of suspicion: the nearest training image of each, and how near it is.

    A `ratio` is the distance over that of the training image to its own nearest other one: below 1 a sample is nearer
    to it than any other image is, 0 is a copy.
    """

    samples: Int[np.ndarray, " n"]  # rows
    training: Int[np.ndarray, " n"]  # rows of the data
    distances: Float[np.ndarray, " n"]  # root mean square over values, from 0 to 1
    ratios: Float[np.ndarray, " n"]


def ranked_copies(samples: Images, training: Images) -> Copies:
    """Finds the nearest training image of each sample, in pixels, and ranks samples by how near it is.

    Raises ValueError for images of different shapes, and for fewer than two training images.
    """
    if samples.shape[1:] != training.shape[1:] or len(training) < 2:
        raise ValueError(
            f"samples of {samples.shape[1:]} and {len(training)} training images of {training.shape[1:]} (height, "
            "width, channels): give at least two of one shape"
        )
    flat, known = (x.reshape(len(x), -1).astype(np.float32) / 255 for x in (samples, training))
    rows, distances = nearest(flat, known)
    own = spacings(known, rows)
    ratios = np.where(distances == 0, 0.0, distances / np.maximum(own, 1e-12))
    order = np.lexsort((distances, ratios))
    scale = float(np.sqrt(flat.shape[1]))
    return Copies(order, rows[order], distances[order] / scale, ratios[order])
