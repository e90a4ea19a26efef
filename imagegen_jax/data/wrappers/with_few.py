"""A few images of a new class among those of a data set, and often enough that a model learns them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Annotated

import numpy as np

from imagegen_jax.core.config.given import Range
from imagegen_jax.core.files.identity import contents
from imagegen_jax.data.formats.digits import Digits
from imagegen_jax.data.prepare import Item, Listing, prepare
from imagegen_jax.data.source import Dataset, Source
from imagegen_jax.data.wrappers.classes import Classes


@dataclasses.dataclass(frozen=True)
class WithFew:
    """The images of a source, and beside them `few` others, which come so often that about `share` of rows are theirs.

    Classes of `few` that the source has as well are the same ones; others come after the source's. Where `few` has no
    classes, all are of a class called `name`.
    """

    source: Source = Classes(Digits(), ("9",), left_out=True)
    few: Source = Classes(Digits(), ("9",), per_class=10)
    share: Annotated[float, Range(0.01, 0.99)] = 0.5
    name: str = "new"

    def open(self) -> Dataset:
        """Opens both.

        Raises ValueError where the source has no classes, or images have another shape, are latents, or have sources or
        captions, and what both raise.
        """
        many, few = self.source.open(), self.few.open()
        for part, dataset in ((self.source, many), (self.few, few)):
            if dataset.sources is not None or dataset.captions is not None or dataset.images.dtype != np.uint8:
                raise ValueError(f"{part}: these are latents, or have sources or captions: plain images are needed")
        if many.labels is None:
            raise ValueError(
                f"{self.source}: has no classes for another to stand beside: put the images of each in a folder"
            )
        if many.image_shape != few.image_shape:
            raise ValueError(
                f"few={self.few}: images of {few.image_shape} (height, width, channels) cannot stand beside those of "
                f"{many.image_shape} of {self.source}: read them with that size and as many channels"
            )
        added = few.class_names or (self.name,)
        names = (*many.class_names, *(name for name in added if name not in many.class_names))
        of_few = np.zeros(len(few), int) if few.labels is None else np.asarray(few.labels)
        labels = [*np.asarray(many.labels), *(names.index(added[k]) for k in of_few)]

        def read(indices: range) -> Iterator[Item]:
            for row in indices:
                image = many.images[row] if row < len(many) else few.images[row - len(many)]
                yield Item(image, int(labels[row]))

        listing = Listing(
            title=f"{self.few} beside {self.source}",
            fingerprint=json.dumps([contents(many), contents(few)]),
            total=len(labels),
            name="image {}".format,
            start=lambda: read,
            class_names=names,
        )
        times = max(1, round(self.share / (1 - self.share) * len(many) / len(few)))
        epoch = np.concatenate([np.arange(len(many)), np.tile(np.arange(len(many), len(labels)), times)])
        return dataclasses.replace(prepare(self, listing, None, None), epoch=epoch)
