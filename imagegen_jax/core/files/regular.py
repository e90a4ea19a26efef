"""Files: only regular ones are read, since a pipe or a device may wait or never end; new ones appear whole.

Also the folder of the cache, in which the package keeps what it need not make twice.
"""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import stat
from collections.abc import Iterator

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

Path = str | os.PathLike[str]


def check_regular(path: Path) -> pathlib.Path:
    """Returns the path of a regular file. Raises ValueError for a pipe and the like, FileNotFoundError for nothing."""
    place = pathlib.Path(path).expanduser()
    kind = stat.S_IFMT(place.stat().st_mode)
    if kind != stat.S_IFREG:
        raise ValueError(f"{place} is {_KINDS.get(kind, 'no regular file')}, not a file: give a file")
    return place


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a regular file for reading; raises as `check_regular` does."""
    return check_regular(path).open("rb")


def read_file(path: Path) -> bytes:
    """Reads a regular file; raises as `check_regular` does."""
    with open_regular(path) as file:
        return file.read()


def partial_of(path: Path) -> pathlib.Path:
    """Returns the name that a file has while this process writes it: hidden, with the same suffix."""
    place = pathlib.Path(path)
    return place.with_name(f".{os.getpid()}.{place.name}")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[pathlib.Path]:
    """Gives another name to write a file under, which then takes the place of `path`; makes parent folders.

    Where the block fails or is interrupted, `path` stays as it was, what was written under the other name is removed,
    and an OSError names `path`.
    """
    target = pathlib.Path(os.path.realpath(pathlib.Path(path).expanduser()))  # of a link, the file that it points to
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(target)
    try:
        yield partial
        partial.replace(target)
    except OSError as error:  # of a full disk, which names no file, or the other name
        if error.errno and error.filename in (None, os.fspath(partial)):
            error.filename = os.fspath(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_whole(file: io.RawIOBase, data: bytes) -> None:
    """Writes all of `data`: on a disk that is nearly full, a write may take a part and the next one raise."""
    while data:
        data = data[file.write(data) or 0 :]


def is_at(descriptor: int, path: pathlib.Path) -> bool:
    """Tells whether an open file is still the one at `path`: who held a lock may have deleted it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def cache_root() -> pathlib.Path:
    """Returns `$IMAGEGEN_CACHE`, else `imagegen_jax` in `$XDG_CACHE_HOME`, else `~/.cache/imagegen_jax`."""
    if chosen := os.environ.get("IMAGEGEN_CACHE"):
        return pathlib.Path(chosen).expanduser().absolute()
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "imagegen_jax"
