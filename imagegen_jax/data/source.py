"""Data sets for training: decoded once, with batches that depend on (seed, step) alone. No iterator, no state."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Int32, UInt8

from imagegen_jax.core import source as core_source
from imagegen_jax.core.arrays.texts import Tokenizer
from imagegen_jax.core.files.identity import digest

Derive = Callable[[UInt8[np.ndarray, "n h w c"], Int[np.ndarray, " n"]], UInt8[np.ndarray, "n hh ww k"]]


@runtime_checkable
class Source(core_source.Source, Protocol):
    """A place that images come from: a source as the core asks for it, which opens as a `Dataset`."""

    def open(self) -> Dataset:
        """Decodes the images, once for all runs, and maps them from disk."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Derived:
    """Sources that `derive` makes of images and their row numbers when they are read."""

    images: UInt8[np.ndarray, "n h w c"]
    derive: Derive

    def __len__(self) -> int:
        """Returns the number of sources, one for each image."""
        return len(self.images)

    def __getitem__(self, rows: Any) -> UInt8[np.ndarray, "n hh ww k"]:
        """Makes the sources of `rows`, a slice or an array."""
        return self.derive(np.asarray(self.images[rows]), np.arange(len(self))[rows])

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of sources, and their height, width and channels."""
        return (len(self), *self[:1].shape[1:])


class Captions(Protocol):
    """Texts of images: a sequence of some of each image's, which may be made as they are read."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[str, ...]: ...


@dataclasses.dataclass(frozen=True, eq=False)
class ReadCaptions:
    """Texts of `count` images that are read when the first of them is asked for, and kept."""

    count: int
    read: Callable[[], Sequence[tuple[str, ...]]]  # raises ValueError for an image without a text

    def __len__(self) -> int:
        """Returns the number of images."""
        return self.count

    def __getitem__(self, index: int) -> tuple[str, ...]:
        """Returns the texts of an image. Raises what `read` raises."""
        return self._kept[index]

    @functools.cached_property
    def _kept(self) -> Sequence[tuple[str, ...]]:
        return self.read()


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Images of one size, with labels where there are classes, and with sources where images are made from sources.

    Batch `step` of `n` rows is rows `step * n` to `step * n + n` of an endless stream of epochs. Each epoch holds every
    image once, in an order that depends on (seed, epoch). A batch may straddle epochs, and `n` may exceed the number of
    images. Sources that are not `paired` have their own stream, epochs and orders, since there may be more or fewer of
    them; an epoch of the data set is an epoch of its images. Where `epoch` says which rows one has, some may come more
    than once. Images may also be latents (`Latents`): floats of any kind, which batches hold as float32, times `scale`.
    Of an image's captions each epoch takes one, which follows from (seed, epoch) as well; batches have it where there
    is a `tokenizer` to write it. Raises ValueError where labels, deviations, captions or paired sources are not as many
    as the images.
    """

    images: UInt8[np.ndarray, "n h w c"] | Float[np.ndarray, "n h w c"]  # 0..255, mapped from disk
    labels: Int32[np.ndarray, " n"] | None = None
    class_names: tuple[str, ...] = ()  # the name of each label; () where there are no labels
    sources: UInt8[np.ndarray, "m hh ww k"] | Derived | None = None  # 0..255, likewise
    paired: bool = True  # whether source i belongs to image i
    stds: Float[np.ndarray, "n h w c"] | None = None  # deviations of latents' posteriors; `images` are then the means
    scale: float = 1.0  # factor of latents and their deviations
    captions: Captions | None = None  # at least one of each image
    tokenizer: Tokenizer | None = None  # of captions, as batches have them
    autoencoder: str | None = None  # the fingerprint of what made latents, where they say it
    measured: core_source.Measured | None = None  # scale and shift of latents, where they say them
    epoch: Int[np.ndarray, " e"] | None = None  # the rows of an epoch, in any order; None: each once

    def __post_init__(self) -> None:
        if self.captions is not None and len(self.captions) != len(self.images):
            raise ValueError(f"captions of {len(self.captions)} images for {len(self.images)}: give each image some")
        if self.labels is not None and len(self.labels) != len(self.images):
            raise ValueError(f"{len(self.labels)} labels for {len(self.images)} images: give each image one")
        if self.sources is not None and self.paired and len(self.sources) != len(self.images):
            raise ValueError(
                f"{len(self.sources)} sources for {len(self.images)} images: give each image one, or set paired=False"
            )
        if self.epoch is not None and self.captions is not None:
            raise ValueError("images with captions come once an epoch each: leave `epoch` out")
        if self.stds is not None and self.stds.shape != self.images.shape:
            raise ValueError(f"deviations of shape {self.stds.shape} for means of {self.images.shape}: make them alike")

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The height, width and channels of images."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    @property
    def num_classes(self) -> int:
        """The number of classes; 0 where there are no labels."""
        return len(self.class_names)

    def batch(self, step: int, n: int, seed: int = 0, rows: slice | None = None) -> dict[str, np.ndarray]:
        """Reads batch `step`: "image" [n h w c] and, where the data have them, "label" int32 [n], "source" and "std".

        With a tokenizer also "text" int32 [n m], the tokens of a caption, and "text_mask" bool [n m], False where they
        only fill a row up. Images and sources are uint8, latents and their deviations float32. The arrays are new.
        `rows` selects rows of the batch, so that each of many hosts reads only its own. Raises ValueError where `step`
        or `seed` is negative, or `n` not positive.
        """
        positions = positions_of(step, n, seed)[rows or slice(None)]
        index = self._rows_at(positions, seed)
        batch = self._stored(index)
        if self.sources is not None:
            index = index if self.paired else index_of(positions, len(self.sources), seed, fold=(_SOURCES,))
            batch["source"] = np.asarray(self.sources[index])
        if self.tokenizer is not None and self.captions is not None:
            encoded = self.tokenizer.encode(_captions_at(self.captions, positions, seed))
            batch |= {"text": encoded.tokens, "text_mask": encoded.mask}
        return batch

    def rows_at(self, index: Int[np.ndarray, " n"]) -> dict[str, np.ndarray]:
        """Reads the rows of these numbers as a batch.

        Raises ValueError where sources have an order of their own, and where rows have captions or come more than once
        an epoch: there a row is more than its number says.
        """
        more = {
            "sources that are not paired": not self.paired,
            "captions, one an epoch": self.tokenizer is not None,
            "images that come more often than others": self.epoch is not None,
        }
        for what in (what for what, holds in more.items() if holds):
            raise ValueError(f"these data have {what}: their rows cannot be drawn by number alone")
        sources = {} if self.sources is None else {"source": np.asarray(self.sources[index])}
        return self._stored(index) | sources

    def _stored(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Reads what is stored of images by their rows, all but sources, which may have an order of their own."""
        found = {"image": self.values(self.images[index])}
        if self.stds is not None:
            found["std"] = self.values(self.stds[index])
        if self.labels is not None:
            found["label"] = np.asarray(self.labels[index])
        return found

    def texts(self, step: int, n: int, seed: int = 0) -> tuple[str, ...]:
        """Returns the captions of batch `step`, as `batch` has them; () where there are none."""
        return _captions_at(self.captions, positions_of(step, n, seed), seed) if self.captions is not None else ()

    def all_captions(self) -> Iterator[str]:
        """Yields all captions of all images in order."""
        if self.captions is not None:
            for row in range(len(self)):
                yield from self.captions[row]

    def contents(self) -> dict[str, str]:
        """Returns a digest of each array, and the settings that are not the default ones."""
        arrays = {"images": self.images, "labels": self.labels, "sources": self.sources, "stds": self.stds}
        arrays["epoch"] = self.epoch
        settings = {"paired": self.paired, "scale": self.scale}
        found = {name: digest(array) for name, array in arrays.items() if array is not None}
        if self.tokenizer is not None:
            found["captions"] = _digest_of(text.encode() for text in self.all_captions())
            found["tokenizer"] = _digest_of(self.tokenizer.files().values())
        return found | {name: str(value) for name, value in settings.items() if value != getattr(Dataset, name)}

    def _rows_at(self, positions: range, seed: int) -> np.ndarray:
        """Returns the row of an image at each of `positions` in the stream."""
        if self.epoch is None:
            return index_of(positions, len(self), seed)
        return self.epoch[index_of(positions, len(self.epoch), seed)]

    def values(self, rows: np.ndarray) -> np.ndarray:
        """Brings stored rows to the form of batches: uint8 stays as it is, floats become float32 times `scale`."""
        rows = np.asarray(rows)
        return rows if rows.dtype == np.uint8 else rows.astype(np.float32) * np.float32(self.scale)


_SOURCES = 1  # folded into the seed of the order of sources that have their own
_CAPTIONS = 2  # likewise, of which caption an image has in an epoch


def positions_of(step: int, n: int, seed: int) -> range:
    """Returns the positions of a batch's rows in the stream. Raises ValueError for numbers out of range."""
    if step < 0 or n < 1 or seed < 0:
        raise ValueError(f"batch(step={step}, n={n}, seed={seed}): step and seed must be >= 0, and n >= 1")
    return range(step * n, step * n + n)


def index_of(positions: range, total: int, seed: int, fold: tuple[int, ...] = ()) -> np.ndarray:
    """Returns the number, below `total`, of the row at each of `positions` in the stream."""
    epoch, place = np.divmod(np.asarray(positions, np.int64), total)
    index = np.empty(len(positions), np.int64)
    for value in np.unique(epoch):
        within = epoch == value
        index[within] = _permutation(total, seed, int(value), fold)[place[within]]
    return index


def _captions_at(captions: Captions, positions: range, seed: int) -> tuple[str, ...]:
    """Takes one caption of the image at each of `positions` in the stream."""
    found, n = [], len(captions)
    for position, row in zip(positions, index_of(positions, n, seed), strict=True):
        of_image = captions[int(row)]
        found.append(of_image[int(_raw(n, seed, position // n, (_CAPTIONS,))[row] % len(of_image))])
    return tuple(found)


@functools.lru_cache(maxsize=8)  # two epochs, since a batch may straddle them, of images and sources of two data sets
def _permutation(n: int, seed: int, epoch: int, fold: tuple[int, ...]) -> np.ndarray:
    """Draws the order of an epoch."""
    return np.argsort(_raw(n, seed, epoch, fold), kind="stable")


@functools.lru_cache(maxsize=8)
def _raw(n: int, seed: int, epoch: int, fold: tuple[int, ...]) -> np.ndarray:
    """Returns the raw output of a generator for the images of an epoch.

    NumPy promises this output for all versions and machines, but not what `Generator.permutation` makes of it. So a run
    that is resumed after an upgrade goes on with the same batches.
    """
    return np.random.Philox(np.random.SeedSequence([seed, epoch, *fold])).random_raw(n)


def _digest_of(parts: Iterable[bytes]) -> str:
    """Returns a digest of byte strings in order, each with its length."""
    found = hashlib.sha256()
    for part in parts:
        found.update(f"{len(part)} ".encode() + part)
    return found.hexdigest()[:16]
