"""Stacked digits: three grey images as the channels of one, for counting the modes that a model covers."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np

from imagegen_jax.core.config.bounds import Count, Seed
from imagegen_jax.data.formats.tfds import TFDS
from imagegen_jax.data.prepare import Item, Listing, prepare
from imagegen_jax.data.source import Dataset, Source


@dataclasses.dataclass(frozen=True)
class Stacked:
    """Images whose red, green and blue are three random images of a grey source with classes.

    Made of MNIST it has 1,000 modes: label 407 is a 4 in red, a 0 in green and a 7 in blue (Metz et al. 2017, arXiv
    1611.02163, section 3.3.1). `seed` draws the triples.
    """

    source: Source = TFDS("mnist", split="train")
    images: Count = 50_000
    seed: Seed = 0

    def open(self) -> Dataset:
        """Opens the stacks. Raises ValueError where the source is not grey or has no classes, and what it raises."""
        singles = self.source.open()
        if singles.image_shape[2] != 1 or singles.labels is None:
            shape = "x".join(map(str, singles.image_shape))
            raise ValueError(
                f"{self}: needs grey images with classes, these are {shape}, {singles.num_classes} classes"
            )
        if self.images < 1:
            raise ValueError(f"{self}: images={self.images} must be positive")
        triples = np.random.default_rng(self.seed).integers(0, len(singles), (self.images, 3))
        labels = np.asarray(singles.labels)[triples] @ singles.num_classes ** np.arange(2, -1, -1)

        def read(indices: range) -> Iterator[Item]:
            for index in indices:
                parts = [singles.images[at] for at in triples[index]]
                yield Item(np.concatenate(parts, axis=2), int(labels[index]))

        names = singles.class_names
        listing = Listing(
            title=f"{self.images:,} stacks of {self.source}",
            fingerprint=_fingerprint(singles, triples),
            total=self.images,
            name="stack {}".format,
            start=lambda: read,
            class_names=tuple(f"{a}{b}{c}" for a in names for b in names for c in names),
        )
        return prepare(self, listing, None, None)


def _fingerprint(singles: Dataset, triples: np.ndarray) -> str:
    digest = hashlib.sha256(triples.tobytes())
    for array in (singles.images, singles.labels):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:20]
