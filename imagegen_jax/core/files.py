"""Files as users name them: only regular ones are opened, since a pipe or a device would wait, or never end."""

from __future__ import annotations

import io
import os
import pathlib
import stat

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

Path = str | os.PathLike[str]


def check_regular(path: Path) -> pathlib.Path:
    """Returns the path of a regular file. Raises ValueError for a pipe and the like, FileNotFoundError for none."""
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
