"""Modes of a data set that samples cover, by the classes that a classifier predicts for them.

For stacked digits (three digits in the channels of an image) the class is the triple of labels, 1000 in all. Modes
covered and KL(generated || data) are as in VEEGAN (Srivastava et al. 2017, arXiv 1705.07761) and PacGAN (Lin et al.
2018, arXiv 1712.04086), usually for 26,000 samples and against uniform triples. Both depend on the number of samples.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Array, Float, Int

Labels = Int[Array | np.ndarray, "n *k"]


def class_frequencies(labels: Labels, classes: tuple[int, ...]) -> Float[np.ndarray, " modes"]:
    """Returns the share of each class among labels [N], with `classes=(K,)`; or of each tuple among labels [N T].

    For tuples, `classes` is (K1 .. KT), and the last label varies fastest: `(10, 10, 10)` puts 407 at index 407. Raises
    ValueError for labels that are not integers, not of that shape or not from 0 to below their number of classes.
    """
    labels = np.asarray(labels)
    columns = labels[:, None] if labels.ndim == 1 else labels
    if columns.ndim != 2 or columns.shape[1] != len(classes) or not len(columns):
        raise ValueError(f"labels of shape {labels.shape}: classes={classes} need [N {len(classes)}] with N above 0")
    if not np.issubdtype(columns.dtype, np.integer):
        raise ValueError(f"labels of type {labels.dtype}: must be integers")
    if (columns < 0).any() or (columns >= np.array(classes)).any():
        raise ValueError(f"labels from {labels.min()} to {labels.max()}: must be from 0 to below classes={classes}")
    index = np.ravel_multi_index(tuple(columns.T), classes)
    return np.bincount(index, minlength=math.prod(classes)) / len(index)


def modes_covered(frequencies: Float[np.ndarray, " modes"]) -> int:
    """Counts the classes with at least one sample. Raises ValueError where these are no frequencies."""
    return int(np.count_nonzero(_checked(frequencies, "frequencies")))


def reverse_kl(generated: Float[np.ndarray, " modes"], data: Float[np.ndarray, " modes"]) -> float:
    """Computes KL(generated || data) = sum of g log(g / d), in nats; 0 for equal frequencies.

    It is log(1/share) for samples that cover a share evenly. Classes without samples add nothing; samples of a class
    that the data lack make it inf. Raises ValueError for
    frequencies of unequal shapes, below 0, not finite or that do not sum to 1.
    """
    g, d = _checked(generated, "generated"), _checked(data, "data")
    if g.shape != d.shape:
        raise ValueError(f"generated and data have shapes {g.shape} and {d.shape}: must be equal")
    seen = g > 0
    with np.errstate(divide="ignore"):
        return float(np.sum(g[seen] * np.log(g[seen] / d[seen])))


def _checked(frequencies: Float[np.ndarray, " modes"], name: str) -> Float[np.ndarray, " modes"]:
    frequencies = np.asarray(frequencies, np.float64)
    if frequencies.ndim != 1 or not (frequencies >= 0).all() or not math.isclose(frequencies.sum(), 1, rel_tol=1e-5):
        raise ValueError(f"{name}: must be a list of shares from 0 to 1 with sum 1, as class_frequencies gives them")
    return frequencies
