"""What all tokenizers share: texts become rows of integers of one length."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from imagegen_jax import moved
from imagegen_jax.core.arrays.texts import Encoded
from imagegen_jax.core.files.regular import Path
from imagegen_jax.core.files.wrong_files import read_text_file

__getattr__ = moved.attributes(__name__)


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
    what is no regular file, and for what stands in a file's place, such as a pointer of Git LFS.
    """
    places = {name: pathlib.Path(folder).expanduser() / name for name in names}
    missing = [name for name, place in places.items() if not place.exists()]
    if missing:
        raise FileNotFoundError(
            f"{folder} holds no {' and no '.join(missing)}: {what} needs {' and '.join(names)}, as its makers publish"
        )
    return {name: read_text_file(place) for name, place in places.items()}


def around(text: str, special: Mapping[str, int]) -> list[str | int]:
    """Splits a text at the names of special tokens, such as <|endoftext|>, which become these tokens."""
    if not special:
        return [text]
    names = "|".join(re.escape(name) for name in sorted(special, key=len, reverse=True))
    return [special.get(part, part) for part in re.split(f"({names})", text) if part]


def whole_characters(text: str) -> str:
    """Replaces halves of surrogate pairs, which stand for no character, by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
