"""Digests of data, wherever they are read from: by them a run knows its data again, or sees that they have changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
from typing import Any

import numpy as np

from imagegen_jax.core.files.regular import cache_root, whole
from imagegen_jax.core.source import Recorded

_ROWS = 256  # stand for all rows of what is made as it is read, and of a user's own data set
_BLOCK = 1 << 24  # bytes hashed at a time


def contents(data: Any) -> dict[str, str]:
    """Returns a digest of each part of data: the same for equal values, wherever they lie.

    Data that are not `Recorded` can only be asked for rows: the first 256 stand for them.
    """
    if isinstance(data, Recorded):
        return data.contents()
    return {name: _digest(np.asarray(rows)) for name, rows in data.batch(0, _ROWS).items()}


def digest(array: Any) -> str:
    """Returns a digest of an array; that of a large one in a file is kept in the cache while the file is unchanged.

    What is no array, but made as it is read, is known by its first 256 rows.
    """
    if not isinstance(array, np.ndarray):
        return _digest(np.asarray(array[:_ROWS]))
    if not isinstance(array, np.memmap) or array.filename is None or array.nbytes < _BLOCK:
        return _digest(array)
    status = os.stat(array.filename)
    if array.offset + array.nbytes != status.st_size:
        return _digest(array)  # a part of the file
    stamp = (
        f"{pathlib.Path(array.filename).resolve()} {status.st_size} {status.st_mtime_ns} {array.dtype} {array.shape}"
    )
    path = cache_root() / "digests" / hashlib.sha256(stamp.encode("utf-8", "surrogateescape")).hexdigest()[:20]
    with contextlib.suppress(OSError):
        if len(kept := path.read_text()) == 16:
            return kept
    found = _digest(array)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time alone
        with whole(path) as partial:
            partial.write_text(found)
    return found


def _digest(array: np.ndarray) -> str:
    """Returns a digest of an array's type, shape and values."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    rows = max(1, _BLOCK // max(1, array.nbytes // max(1, len(array)))) if array.ndim else 1
    for start in range(0, len(array), rows) if array.ndim else ():
        digest.update(np.ascontiguousarray(array[start : start + rows]).data)
    return digest.hexdigest()[:16]
