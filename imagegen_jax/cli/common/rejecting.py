"""Lets a classifier choose among more samples than are asked for: the options, and what they stand for."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

from imagegen_jax.cli.common.options import number
from imagegen_jax.cli.common.targets import import_modules
from imagegen_jax.core.arrays.space import sample_shape
from imagegen_jax.core.capabilities import Classifying
from imagegen_jax.core.drawing.rejection import Classify, Rejection, check_rejectable
from imagegen_jax.core.run import Run, load
from imagegen_jax.data import Source
from imagegen_jax.data.source import Dataset
from imagegen_jax.metrics.features.classifier import trained_classifier
from imagegen_jax.metrics.features.extractor import hash_tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class RejectionRequest:
    """Says what share of the samples to keep, and by which classifier."""

    rejection: float | None = None  # the share to keep; None: all
    classifier: str | pathlib.Path | None = None  # a run; None: a small one of the data that the samples' run has


@dataclasses.dataclass(frozen=True)
class Judge:
    """A classifier that tells the classes of a run's samples."""

    classify: Classify
    fingerprint: str  # of its weights


def add_rejection(parser: argparse.ArgumentParser) -> None:
    """Adds the options of rejection by a classifier."""
    parser.add_argument(
        "--rejection", type=number(0, 1, above=True), metavar="SHARE",
        help="draw more, and keep this share of each class (0 to 1): what a classifier finds likeliest",
    )  # fmt: skip
    parser.add_argument(
        "--classifier", type=pathlib.Path, metavar="RUN",
        help="the run of that classifier (default: a small one, trained once on the data that the samples' run has)",
    )  # fmt: skip


def judge_of(request: RejectionRequest, run: Run, modules: tuple[str, ...] = ()) -> Judge | None:
    """Opens the classifier that chooses among samples of `run`; None where all samples are kept.

    Raises ValueError for a run whose samples no classifier can choose among, for one of a model that is no classifier
    or of one of other images or classes, and where the run's data are none to train a small one on.
    """
    if request.rejection is None:
        if request.classifier is not None:
            raise ValueError(
                f"--classifier {request.classifier}: it chooses among more samples, but all are kept: say which share "
                "to keep, such as --rejection 0.5"
            )
        return None
    check_rejectable(run.experiment.model)
    if request.classifier is None:
        return _of_data(run)
    judge = load(pathlib.Path(request.classifier), import_modules(modules))
    _check_judges(f"--classifier {request.classifier}", judge, run)
    return Judge(judge.classify, hash_tree(judge.nets)[:16])


def rejection_of(request: RejectionRequest, judge: Judge | None) -> Rejection | None:
    """Returns what chooses among samples; None where all are kept."""
    return None if judge is None or request.rejection is None else Rejection(request.rejection, judge.classify)


def _of_data(run: Run) -> Judge:
    """Trains a small classifier on what a run was trained on, or finds it in the cache."""
    source = run.experiment.data
    if not isinstance(source, Source) or not isinstance(dataset := source.open(), Dataset):
        raise ValueError(
            f"--rejection: the run was trained on {source}, which holds no images to train a classifier on: name the "
            "run of one, --classifier RUN"
        )
    if dataset.image_shape != sample_shape(run.experiment.model):
        raise ValueError(
            f"--rejection: samples are of {sample_shape(run.experiment.model)}, but the data of {dataset.image_shape}: "
            "name the run of a classifier of such images, --classifier RUN"
        )
    features = trained_classifier(source)
    return Judge(features.classify, features.fingerprint[:16])


def _check_judges(option: str, judge: Run, run: Run) -> None:
    """Raises ValueError where a run is of no classifier, or of one of other images or classes than a run draws."""
    model, shape, classes = judge.experiment.model, sample_shape(run.experiment.model), run.experiment.num_classes
    if not isinstance(model, Classifying):
        raise ValueError(
            f"{option}: a {type(model).__name__} tells no classes of images: give the run of a classifier, such as of "
            "noisy_classifier_digits"
        )
    if tuple(sample_shape(model)) != tuple(shape):
        raise ValueError(
            f"{option}: it knows images of {tuple(sample_shape(model))}, but samples are of {tuple(shape)}"
        )
    if model.num_classes != classes:
        raise ValueError(f"{option}: it tells {model.num_classes} classes, but samples are of {classes}")
    if judge.class_names and run.class_names and judge.class_names != run.class_names:
        pairs = zip(judge.class_names, run.class_names, strict=True)
        k, (theirs, own) = next((k, pair) for k, pair in enumerate(pairs) if pair[0] != pair[1])
        raise ValueError(f"{option}: its class {k} is {theirs!r}, but that of samples {own!r}")
