"""Codes of images, written once by `imagegen encode`, to train models over codes on without encoding again."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Int32

from imagegen_jax.core.files.archive import open_archive
from imagegen_jax.core.files.identity import digest
from imagegen_jax.core.files.npz import explained, outline, read_array, stored
from imagegen_jax.core.files.regular import check_regular
from imagegen_jax.data.cache import cached
from imagegen_jax.data.formats.image_folder import fingerprint
from imagegen_jax.data.prepare import numbered
from imagegen_jax.data.source import index_of, positions_of

_WRONG = "does not hold codes as `imagegen encode` writes them"
_ROWS = 2**14  # rows in memory at a time
_FORMAT = 1  # part of the cache's key: raise it when the same files would be stored in another way


class Use(NamedTuple):
    """How much of a codebook is used."""

    used: int  # codes that occur
    size: int  # of the book
    perplexity: float  # e to the entropy of codes: 1 to `size`

    def __str__(self) -> str:
        return f"{self.used:,} of {self.size:,} codes used, perplexity {self.perplexity:,.1f}"


@dataclasses.dataclass(frozen=True)
class Codes:
    """Codes as `imagegen encode RUN DATA --out PATH` writes them, an .npz of these arrays:

        codes          [n ...]  integers from 0 to below codebook_size
        codebook_size  []       the number of codes
        tokenizer      text     a fingerprint of the weights that made them
        label          [n]      integers from 0, if there are classes
        class_names    [k]      the name of each, if they are known

    Batches have them as "codes", int32 [n *code_shape], and as "label"; there is no "image". The order is that of the
    images that they were made of, so that a model learns the same from both.
    """

    path: str

    def open(self) -> CodeSet:
        """Opens the codes, mapped from disk; they are copied to the cache first.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: it is damaged, or does not hold such arrays.
          OSError: the cache cannot be written.
        """
        place = pathlib.Path(self.path).expanduser().absolute()
        if not place.exists():
            raise FileNotFoundError(f"{self}: there is no file {place}")
        status = check_regular(place).stat()
        small = _small_arrays(f"{self}: {place}", place)
        size, codes = int(small["codebook_size"]), small.pop("codes")
        stamp = fingerprint({str(place): f"{status.st_size} {status.st_mtime_ns}"})
        key = {"format": _FORMAT, "codes": stamp}
        folder = cached(f"codes {place.name}", key, lambda folder: _copy(f"{self}: {place}", place, size, folder))
        codes = np.load(folder / "codes.npy", mmap_mode="r")
        labels = small.get("label")
        names = tuple(str(name) for name in small.get("class_names", ()))
        if labels is not None:
            labels = _checked_labels(self, np.asarray(labels), len(codes), len(names))
            names = names or numbered(self, int(labels.max()))
        return CodeSet(codes, size, str(small["tokenizer"]), labels, names, _made_of(small))


@dataclasses.dataclass(frozen=True, eq=False)
class CodeSet:
    """Open codes: batch `step` of `n` rows has the rows that a `Dataset` of as many images would give."""

    codes: Int[np.ndarray, "n ..."]  # mapped from disk
    codebook_size: int
    tokenizer: str  # the fingerprint of its weights
    labels: Int32[np.ndarray, " n"] | None = None
    class_names: tuple[str, ...] = ()
    made_of: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # what `imagegen encode` noted

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self.codes)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """The shape of one image's codes."""
        return tuple(self.codes.shape[1:])

    @property
    def num_classes(self) -> int:
        """The number of classes; 0 where there are no labels."""
        return len(self.class_names)

    def batch(self, step: int, n: int, seed: int = 0, rows: slice | None = None) -> dict[str, np.ndarray]:
        """Reads batch `step`: "codes" int32 [n *code_shape] and, where there are classes, "label" int32 [n].

        `rows` selects rows of the batch. Raises ValueError as `Dataset.batch` does.
        """
        index = index_of(positions_of(step, n, seed)[rows or slice(None)], len(self), seed)
        batch = {"codes": np.asarray(self.codes[index], np.int32)}
        return batch if self.labels is None else {**batch, "label": self.labels[index]}

    def contents(self) -> dict[str, str]:
        """Returns a digest of each array, and the fingerprint of the tokenizer."""
        arrays = {"codes": self.codes, "labels": self.labels}
        return {name: digest(x) for name, x in arrays.items() if x is not None} | {"tokenizer": self.tokenizer}


def codebook_use(codes: Any, size: int) -> Use:
    """Counts the codes [n ...] of a whole set, which may be a map of a file."""
    counts = np.zeros(size, np.int64)
    for start in range(0, len(codes), _ROWS):
        counts += np.bincount(np.asarray(codes[start : start + _ROWS], np.int64).ravel(), minlength=size)
    shares = counts[counts > 0] / counts.sum()
    return Use(len(shares), size, float(np.exp(-np.sum(shares * np.log(shares)))))


def _small_arrays(where: str, place: pathlib.Path) -> dict[str, Any]:
    """Reads all arrays but the codes, of which it returns an outline. Raises ValueError where one is wrong."""
    with explained(where, _WRONG), open_archive(place) as archive:
        there = {name.removesuffix(".npy") for name in archive.members}
        for name in ("codes", "codebook_size", "tokenizer"):
            if name not in there:
                raise ValueError(f"it has no {name}, but {', '.join(sorted(there))}")
        names = there & {"codebook_size", "tokenizer", "label", "class_names", "made_of"}
        found: dict[str, Any] = {name: read_array(archive, f"{name}.npy") for name in names}
        codes = outline(archive, "codes.npy")
        if codes.ndim < 2 or 0 in codes.shape or codes.dtype.kind not in "iu":
            raise ValueError(f"codes is {codes.dtype} {list(codes.shape)}, not integers [n ...]")
        size = found["codebook_size"]
        if size.shape != () or size.dtype.kind not in "iu" or not 0 < size < 2**31:
            raise ValueError(f"codebook_size is {size.dtype} {list(size.shape)}, not an integer above 0")
        for name in sorted(names & {"tokenizer", "class_names", "made_of"}):
            if found[name].dtype.kind != "U" or found[name].ndim != (name == "class_names"):
                raise ValueError(f"{name} is {found[name].dtype} {list(found[name].shape)}, not text")
    return {**found, "codes": codes}


def _copy(where: str, place: pathlib.Path, size: int, folder: pathlib.Path) -> None:
    """Writes the codes as an .npy. Raises ValueError where one is not below the size of the book."""
    codes = stored(where, place, "codes")
    with open(folder / "codes.npy", "wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(codes.dtype), "fortran_order": False, "shape": codes.shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(codes), _ROWS):
            rows = np.ascontiguousarray(codes[start : start + _ROWS])
            if rows.min() < 0 or rows.max() >= size:
                raise ValueError(f"{where}: codes from {rows.min()} to {rows.max()}, but codebook_size is {size}")
            file.write(rows.data)


def _checked_labels(source: Codes, labels: np.ndarray, n: int, classes: int) -> np.ndarray:
    """Returns labels as int32 [n]. Raises ValueError where they are not labels of that many rows and classes."""
    if labels.shape != (n,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(f"{source}: label is {labels.dtype} {list(labels.shape)}, not integers from 0, [{n}]")
    if classes and labels.max() >= classes:
        raise ValueError(f"{source}: label goes to {labels.max()}, but class_names has {classes} names")
    return labels.astype(np.int32)


def _made_of(arrays: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(str(arrays.get("made_of", "{}")))
    except ValueError:  # a note for people alone
        return {}
    return found if isinstance(found, dict) else {}
