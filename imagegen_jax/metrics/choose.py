"""Extractors by name, as the command line and experiments say them."""

from __future__ import annotations

from typing import Any

from imagegen_jax.data import TFDS, Digits, Source
from imagegen_jax.metrics.classifier import trained_classifier
from imagegen_jax.metrics.extractor import Extractor, Pixels, random_network
from imagegen_jax.metrics.inception import inception
from imagegen_jax.metrics.mobilenet import mobilenet

WITH_CLASSIFIER = ("mnist", "fashion_mnist", "kmnist", "emnist")  # TFDS sets whose default extractor it is
EXTRACTORS = "classifier, inception[:FILE], mobilenet:PATH, random, pixels"


def extractor_of(word: str, resize: str | None, source: Any, quiet: bool = False, spatial: bool = False) -> Extractor:
    """The extractor that a word names; "auto" is the classifier for digits and MNIST's kind, else Inception.

    `source` is the data that a classifier is trained on; `spatial` asks Inception for sFID's features too. Raises
    ValueError for another word, and as each extractor does where its weights are missing.
    """
    name, _, path = word.partition(":")
    if name == "auto":
        small = isinstance(source, Digits) or (
            isinstance(source, TFDS) and source.name.split("/")[0] in WITH_CLASSIFIER
        )
        name = "classifier" if small else "inception"
    if name == "classifier":
        if not isinstance(source, Source):
            raise ValueError("the classifier is trained on a labelled data set: compare with one, not with a run")
        return trained_classifier(source, quiet)
    if name == "inception":
        taps = ("features", "logits_unbiased", *(["spatial"] if spatial else []))
        return inception(path or None, resize or "clean", taps)
    if name == "mobilenet":
        if not path:
            raise ValueError("mobilenet: say where its weights are, as in mobilenet:weights/")
        return mobilenet(path, resize or "clean")
    if name == "random":
        return random_network(resize=resize or "clean")
    if name == "pixels":
        return Pixels()
    raise ValueError(f"no extractor {word!r}: there are {EXTRACTORS}")
