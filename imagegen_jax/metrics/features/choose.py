"""Extractors by the names that the command line and experiments use."""

from __future__ import annotations

from typing import Any

from imagegen_jax.data import TFDS, Digits, Source
from imagegen_jax.data.remedy import Remedy, SettingError
from imagegen_jax.metrics.features.classifier import trained_classifier
from imagegen_jax.metrics.features.extractor import Extractor, Pixels, random_network
from imagegen_jax.metrics.features.inception import inception
from imagegen_jax.metrics.features.mobilenet import mobilenet

WITH_CLASSIFIER = ("mnist", "fashion_mnist", "kmnist", "emnist")  # TFDS sets whose default extractor is the classifier
EXTRACTORS = "classifier, inception[:FILE], mobilenet:PATH, random, pixels"


def kind_of(word: str, source: Any) -> str:
    """Returns the kind of extractor that a word names; "auto" is the classifier for digits and MNIST's kind.

    `source` is the data that a classifier would be trained on. Raises ValueError for another word.
    """
    name, _, path = word.partition(":")
    if path and name not in ("inception", "mobilenet"):
        raise ValueError(f"extractor {word!r}: {name} takes no file: there are {EXTRACTORS}")
    if name == "auto":
        small = isinstance(source, Digits) or (
            isinstance(source, TFDS) and source.name.split("/")[0] in WITH_CLASSIFIER
        )
        return "classifier" if small else "inception"
    if name == "mobilenet" and not path:
        raise ValueError("mobilenet: say where its weights are, as in mobilenet:weights/")
    if name not in ("classifier", "inception", "mobilenet", "random", "pixels"):
        raise ValueError(f"no extractor {word!r}: there are {EXTRACTORS}")
    return name


def extractor_of(word: str, resize: str | None, source: Any, quiet: bool = False, spatial: bool = False) -> Extractor:
    """Makes the extractor that a word names; "auto" is the classifier for digits and MNIST's kind, else Inception.

    `source` is the data that a classifier is trained on; `spatial` asks Inception for sFID's features too. Raises
    ValueError for another word, as each extractor does, and where Inception's weights are missing, with other ways to
    take.
    """
    name, path = kind_of(word, source), word.partition(":")[2]
    if name == "classifier":
        if not isinstance(source, Source):
            raise ValueError("the classifier is trained on a labelled data set: compare with one, not with a run")
        return trained_classifier(source, quiet)
    if name == "inception":
        taps = ("features", "logits_unbiased", *(["spatial"] if spatial else []))
        try:
            return inception(path or None, resize or "clean", taps)
        except FileNotFoundError as error:
            raise _without_weights(error) from error
    if name == "mobilenet":
        return mobilenet(path, resize or "clean")
    return random_network(resize=resize or "clean") if name == "random" else Pixels()


def _without_weights(error: FileNotFoundError) -> SettingError:
    """Makes the error of missing Inception weights, with other ways, worded for the command line or for Python."""
    remedies = [
        Remedy("  1. FID: do as said above; for a copy at another place {}", {"extractor": "inception:FILE"}),
        Remedy(
            "  2. FD-MobileNet, no FID, of Keras' MobileNetV1 as .npz: {}", {"extractor": "mobilenet:FILE.npz"}
        ),
        Remedy(
            "  3. FD-random, of a network of random weights, which needs no file: {}", {"extractor": "random"}
        ),
    ]  # fmt: skip
    return SettingError(None, f"{error}\nThree ways on:\n", remedies, between="\n")
