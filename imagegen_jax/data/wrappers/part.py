"""A part of a data set, and the rest of it: to hold some images out of training, of data that come without a split."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Annotated

import numpy as np

from imagegen_jax.core.config.given import LARGEST, Range
from imagegen_jax.core.files.identity import contents
from imagegen_jax.data.formats.digits import Digits
from imagegen_jax.data.prepare import Item, Listing, prepare
from imagegen_jax.data.source import Dataset, ReadCaptions, Source


@dataclasses.dataclass(frozen=True)
class Part:
    """The images of a source without each `every`th, or with `held_out` these alone; with their labels and captions."""

    source: Source = Digits()
    every: Annotated[int, Range(2, LARGEST)] = 10
    held_out: bool = False

    def open(self) -> Dataset:
        """Opens the part.

        Raises ValueError where the part has no image, where images have sources or are latents, and what the source
        raises.
        """
        whole = self.source.open()
        if whole.sources is not None or whole.images.dtype != np.uint8:
            raise ValueError(f"{self}: its images are latents, or have sources: only plain images can be held out")
        rows = np.flatnonzero((np.arange(len(whole)) % self.every == self.every - 1) == self.held_out)
        if not len(rows):
            raise ValueError(
                f"{self}: each {self.every}th of {len(whole)} images is none: set every to at most {len(whole)}"
            )

        def read(indices: range) -> Iterator[Item]:
            for row in rows[indices.start : indices.stop]:
                yield Item(whole.images[row], int(whole.labels[row]) if whole.labels is not None else 0)

        listing = Listing(
            title=f"{len(rows):,} of {len(whole):,} images of {self.source}",
            fingerprint=json.dumps([contents(whole), self.every, self.held_out]),
            total=len(rows),
            name=lambda index: f"image {rows[index]}",
            start=lambda: read,
            class_names=whole.class_names,
        )
        found = prepare(self, listing, None, None)
        if (captions := whole.captions) is None:
            return found
        texts = ReadCaptions(len(rows), lambda: tuple(captions[int(row)] for row in rows))
        return dataclasses.replace(found, captions=texts)
