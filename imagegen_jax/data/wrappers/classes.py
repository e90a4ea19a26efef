"""Some classes of a data set, or all but these, and of each so many images: to learn one from few, or without one."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterator

import numpy as np

from imagegen_jax.core.config.bounds import Count, Seed
from imagegen_jax.core.files.identity import contents
from imagegen_jax.data.formats.digits import Digits
from imagegen_jax.data.prepare import Item, Listing, prepare
from imagegen_jax.data.source import Dataset, Source


@dataclasses.dataclass(frozen=True)
class Classes:
    """The images of the classes `names` alone, or with `left_out` those of all others, numbered anew in their order.

    Of each class there are `per_class` images, drawn by `seed`; None takes all.
    """

    source: Source = Digits()
    names: tuple[str, ...] = ()
    left_out: bool = False
    per_class: Count | None = None
    seed: Seed = 0

    def open(self) -> Dataset:
        """Opens these images.

        Raises ValueError where there is no class of a name, none is left, or one has fewer than `per_class` images,
        where images are latents, or have sources or captions, and what the source raises.
        """
        whole = self.source.open()
        labels = self._labels(whole)
        kept = [k for k, name in enumerate(whole.class_names) if (name in self.names) != self.left_out]
        if not kept:
            raise ValueError(f"{self}: no class is left of {', '.join(whole.class_names)}: name others")
        rows = np.sort(np.concatenate([self._drawn(np.flatnonzero(labels == k), whole.class_names[k]) for k in kept]))

        def read(indices: range) -> Iterator[Item]:
            for row in rows[indices.start : indices.stop]:
                yield Item(whole.images[row], kept.index(int(labels[row])))

        names = tuple(whole.class_names[k] for k in kept)
        listing = Listing(
            title=f"{len(rows):,} images of {', '.join(names)} of {self.source}",
            fingerprint=json.dumps([contents(whole), self.names, self.left_out, self.per_class, self.seed]),
            total=len(rows),
            name=lambda index: f"image {rows[index]}",
            start=lambda: read,
            class_names=names,
        )
        return prepare(self, listing, None, None)

    def _labels(self, whole: Dataset) -> np.ndarray:
        if whole.sources is not None or whole.captions is not None or whole.images.dtype != np.uint8:
            raise ValueError(f"{self}: these are latents, or have sources or captions: only plain images can be chosen")
        if whole.labels is None:
            raise ValueError(f"{self}: the images have no classes to choose from: put those of each in a folder")
        for name in self.names:
            if name not in whole.class_names:
                near = difflib.get_close_matches(name, whole.class_names, n=1) or whole.class_names[:3]
                raise ValueError(f"{self}: there is no class {name!r}; the nearest are {', '.join(near)}")
        return np.asarray(whole.labels)

    def _drawn(self, rows: np.ndarray, name: str) -> np.ndarray:
        """Returns `per_class` of the rows of a class."""
        if self.per_class is None:
            return rows
        if len(rows) < self.per_class:
            raise ValueError(f"{self}: {name!r} has {len(rows)} images: set per_class to so many, or fewer")
        raw = np.random.Philox(np.random.SeedSequence([self.seed])).random_raw(len(rows))  # the same for all versions
        return rows[np.argsort(raw, kind="stable")[: self.per_class]]
