"""The input of a metric, a pair of sets as features, and its output, scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from imagegen_jax.metrics.features.extractor import Extractor
from imagegen_jax.metrics.scale import DISTANCE, Scale
from imagegen_jax.metrics.scores.classes import Classes, paired_classes
from imagegen_jax.metrics.scores.interval import ConfidenceInterval

T = TypeVar("T")
Side = Literal["samples", "references", "held-out images"]


class Score(NamedTuple):
    """A value under its printed name, with its interval (None: there is none) and how that was made."""

    metric: str
    value: float
    interval: ConfidenceInterval | None
    how: str
    of_held_out: bool = False  # measured on held-out data, to compare the samples' score with
    samples: int | None = None  # how many were measured; None: all
    references: int | None = None  # how many they were compared with; None: all
    note: str = ""  # what else a reader has to know
    failed: str = ""  # why there is no value, which is then NaN
    scale: Scale = DISTANCE  # the metric's


class Pair(NamedTuple):
    """All that a metric sees of both sides: features by name, float32 [n d], labels, images and names."""

    features: Mapping[str, np.ndarray]
    reference: Mapping[str, np.ndarray]
    extractor: Extractor
    seed: int
    labels: np.ndarray | None = None  # int [n], of the samples
    reference_labels: np.ndarray | None = None  # int [m]
    held_out: Mapping[str, np.ndarray] | None = None  # features of data like the reference that was not trained on
    images: np.ndarray | None = None  # uint8 [n h w c]; row i is compared with row i of `reference_images`
    reference_images: np.ndarray | None = None
    held_out_images: np.ndarray | None = None
    held_out_labels: np.ndarray | None = None  # int, numbered as `reference_labels`
    class_names: tuple[str, ...] = ()  # of the samples' labels; () where they have no names
    reference_names: tuple[str, ...] = ()
    losses: tuple[np.ndarray, np.ndarray] | None = None  # of training images and of held-out ones, by the run's model
    quiet: bool = False  # whether no progress is shown


def feature_rows(pair: Pair, side: Side, key: str = "features") -> np.ndarray:
    """Returns the features `key` of one side. Raises ValueError where there are none, or they are not finite."""
    if side == "held-out images":
        features = required(pair.held_out, "held_out")
    else:
        features = pair.features if side == "samples" else pair.reference
    if key not in features:
        raise ValueError(f"{pair.extractor.name} gives no {key}, only {', '.join(features)}")
    rows = np.asarray(features[key])
    if bad := int((~np.isfinite(rows).all(axis=1)).sum()):
        raise ValueError(
            f"{key} of the {side} are NaN or infinite in {bad:,} of {len(rows):,} rows: look at the extractor's "
            "weights; a score without these rows would hide it"
        )
    return rows


def logits_of(pair: Pair, side: Side, *keys: str) -> np.ndarray:
    """Returns the first of the logits `keys` that the samples have. Raises as `feature_rows` does."""
    return feature_rows(pair, side, next((key for key in keys if key in pair.features), "logits"))


def classes_of(pair: Pair) -> Classes:
    """Returns the classes that both sides share. Raises ValueError where a side has no labels."""
    labels, of_reference = required(pair.labels, "labels"), required(pair.reference_labels, "reference_labels")
    return paired_classes(labels, of_reference, pair.class_names, pair.reference_names)


def required(value: T | None, name: str) -> T:
    """Returns a part of a pair. Raises ValueError where it has none."""
    if value is None:
        raise ValueError(f"this pair has no `{name}`, which the metric reads")
    return value
