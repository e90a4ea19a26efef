"""Arrays of .npz files: their headers, their values in memory or mapped from disk, and one error for damaged ones."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from imagegen_jax.core.files.archive import Archive, open_archive
from imagegen_jax.core.files.regular import Path, cache_root


@contextlib.contextmanager
def explained(place: str, what: str) -> Iterator[None]:
    """Turns whatever a damaged file raises into a ValueError: "`place` `what`", with `what` such as "is no .npz"."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{place} {what}, or it is damaged ({error})") from error


def outline(archive: Archive, name: str) -> np.ndarray:
    """Returns an array of the type and shape of the stored one, without reading its values.

    Raises ValueError where the header is damaged, or is for another number of values than there are.
    """
    with archive.file.open(archive.members[name]) as file:
        shape, _, dtype, start = read_header(file, name)
    size, there = math.prod(shape) * dtype.itemsize, archive.members[name].file_size - start
    if size != there:
        raise ValueError(f"{name} says that it is {dtype} {list(shape)}, {size:,} bytes, but there are {there:,}")
    return np.broadcast_to(np.zeros((), dtype), shape)


def read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Reads shape, whether columns come first, type, and where values start. Raises ValueError for a bad header."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, columns_first, dtype = read(file)
    except (ValueError, SyntaxError, TypeError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise ValueError(f"{name} has no header of an array ({error})") from error
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are not read: they can run code; store numbers")
    if any(n < 0 for n in shape):
        raise ValueError(f"{name} has the shape {shape}")
    return shape, columns_first, dtype, file.tell()


def read_array(archive: Archive, name: str) -> np.ndarray:
    """Reads an array into memory. Raises ValueError as `outline` does."""
    outline(archive, name)
    with archive.file.open(archive.members[name]) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def read_arrays(path: Path, what: str) -> dict[str, np.ndarray]:
    """Reads all arrays of an .npz, by name. `what` is for the ValueError: "is not an .npz of weights"."""
    with explained(str(path), what), open_archive(path) as archive:
        names = [name for name in archive.members if name.endswith(".npy")]
        return {name.removesuffix(".npy"): read_array(archive, name) for name in names}


def stored(place: str, path: Path, name: str) -> np.ndarray:
    """Maps an array of an .npz from disk, unpacked into a nameless file in the cache.

    Raises ValueError, naming `place`, as `outline` does.
    """
    with explained(place, "is not an .npz of arrays"), open_archive(path) as archive:
        outline(archive, f"{name}.npy")
        folder = cache_root() / "data"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as unpacked:
            with archive.file.open(archive.members[f"{name}.npy"]) as packed:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
            unpacked.seek(0)
            shape, columns_first, dtype, start = read_header(unpacked, name)
            if 0 in shape:
                return np.zeros(shape, dtype)
            return np.memmap(unpacked, dtype, "r", start, shape, "F" if columns_first else "C")
