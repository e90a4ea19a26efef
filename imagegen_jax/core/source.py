"""What a run asks of data: a source that opens, and rows that follow from (seed, step) alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np


class Data(Protocol):
    """Open data. What more some data can tell is said by the protocols below."""

    def batch(self, step: int, n: int, seed: int = 0, rows: slice | None = None) -> Mapping[str, np.ndarray]:
        """Returns batch `step` of `n` rows, or only its `rows`: "image" [n h w c] or "codes" [n ...], and what
        else each row has.

        The same for the same arguments, whatever was asked for before.
        """
        ...


@runtime_checkable
class Source(Protocol):
    """Where data come from: a frozen dataclass of plain settings, so that an experiment can be stored and rebuilt."""

    def open(self) -> Data:
        """Makes the data ready, once for all runs."""
        ...


@runtime_checkable
class Labelled(Protocol):
    """Data that know the labels of all rows."""

    @property
    def labels(self) -> np.ndarray | None:
        """The label of each row, int32 [n]; None where there are none."""
        ...


@runtime_checkable
class WithClassNames(Protocol):
    """Data that know the names of their classes."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label; () where there are no labels."""
        ...


@runtime_checkable
class Recorded(Protocol):
    """Data that can be recognised by more than their first rows."""

    def __len__(self) -> int:
        """Returns the number of images."""
        ...

    def contents(self) -> dict[str, str]:
        """Returns a digest of each part of the data: the same for equal values, wherever they lie."""
        ...


@runtime_checkable
class Coded(Protocol):
    """Data whose rows are "codes", which a tokenizer made of images, and no images."""

    @property
    def codebook_size(self) -> int:
        """The number of codes: they are integers from 0 to below it."""
        ...

    @property
    def code_shape(self) -> tuple[int, ...]:
        """The shape of one image's codes."""
        ...

    @property
    def tokenizer(self) -> str:
        """What stands for the weights that made them (`core.checkpoints.fingerprint.digest_of`)."""
        ...


class Measured(NamedTuple):
    """What brings latents to mean 0 and deviation 1, as (latent - shift) * scale: numbers, or one for each channel."""

    scale: float | tuple[float, ...]
    shift: float | tuple[float, ...]


@runtime_checkable
class Encoded(Protocol):
    """Data that may be latents, and then may know what made them and how they are spread."""

    @property
    def autoencoder(self) -> str | None:
        """What stands for the weights that made them (`core.checkpoints.fingerprint.digest_of`); None: not known."""
        ...

    @property
    def measured(self) -> Measured | None:
        """What brings them to mean 0 and deviation 1; None where nobody has measured that."""
        ...


def labels_of(data: Any) -> np.ndarray | None:
    """Returns the labels of `data`; None where there are none, or the data do not tell."""
    return data.labels if isinstance(data, Labelled) else None


def class_names_of(data: Any) -> tuple[str, ...]:
    """Returns the names of the classes of `data`; () where there are none, or the data do not tell."""
    return data.class_names if isinstance(data, WithClassNames) else ()
