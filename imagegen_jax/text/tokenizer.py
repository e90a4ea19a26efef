"""What a tokenizer is, and what all of them share: texts become rows of integers of one length."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Int32

from imagegen_jax.core.files.regular import Path, read_file

_SHOWN = 60  # letters of a text that a message shows


class Encoded(NamedTuple):
    """Texts as a tokenizer writes them."""

    tokens: Int32[np.ndarray, "n length"]  # 0 to below the vocabulary's size
    mask: Bool[np.ndarray, "n length"]  # False where a token only fills the row up
    cut: Bool[np.ndarray, " n"]  # the texts that were longer than the row, whose ends are lost


class Tokenizer(Protocol):
    """Turns texts into integers. A frozen dataclass: the same text always gives the same row."""

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens: they are integers from 0 to below it."""
        ...

    @property
    def context(self) -> int:
        """The length of a row, start and end included."""
        ...

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Writes each text as a row; what does not fit is cut off, and `Encoded.cut` says where."""
        ...

    def files(self) -> Mapping[str, bytes]:
        """Returns the files, by name, that a run folder needs in order to read the tokenizer again."""
        ...


def say_cut(texts: Sequence[str], encoded: Encoded) -> str:
    """Says how many texts were cut, and how the first of them begins; "" where all of them fit."""
    cut = np.flatnonzero(encoded.cut)
    if not len(cut):
        return ""
    first, length = texts[cut[0]], encoded.tokens.shape[1]
    begin = first if len(first) <= _SHOWN else f"{first[:_SHOWN]}..."
    return f"{len(cut)} of {len(texts)} texts are longer than {length} tokens and were cut, the first is {begin!r}"


def rows_of(rows: Iterable[Sequence[int]], context: int, start: int | None, end: int, padding: int) -> Encoded:
    """Puts each row between `start` and `end`, and brings it to the length `context`: cut before its end, or filled up.

    Rows have no start where that is None. Raises ValueError where `context` has no room for start and end.
    """
    if context < 2:
        raise ValueError(f"context={context} has no room for the start and the end of a text: give 2 or more")
    kept = [[*([] if start is None else [start]), *row] for row in rows]
    tokens = np.full((len(kept), context), padding, np.int32)
    lengths = np.asarray([min(len(row) + 1, context) for row in kept], np.int64)
    for row, length, place in zip(kept, lengths, tokens, strict=True):
        place[:length] = [*row[: length - 1], end]
    cut = np.asarray([len(row) >= context for row in kept], bool)
    return Encoded(tokens, np.arange(context) < lengths[:, None], cut)


def read_all(folder: Path, names: Sequence[str], what: str) -> dict[str, bytes]:
    """Reads the files of `what`, by name. Raises FileNotFoundError that names all that are missing, ValueError for
    what is no regular file.
    """
    places = {name: pathlib.Path(folder).expanduser() / name for name in names}
    missing = [name for name, place in places.items() if not place.exists()]
    if missing:
        raise FileNotFoundError(
            f"{folder} holds no {' and no '.join(missing)}: {what} needs {' and '.join(names)}, as its makers publish"
        )
    return {name: read_file(place) for name, place in places.items()}


def around(text: str, special: Mapping[str, int]) -> list[str | int]:
    """Splits a text at the names of special tokens, such as <|endoftext|>, which become these tokens."""
    if not special:
        return [text]
    names = "|".join(re.escape(name) for name in sorted(special, key=len, reverse=True))
    return [special.get(part, part) for part in re.split(f"({names})", text) if part]


def whole_characters(text: str) -> str:
    """Replaces halves of surrogate pairs, which stand for no character, by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
