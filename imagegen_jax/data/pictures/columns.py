"""A writer of rows with several values each, such as means and deviations, as one .npz with an array for each name."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import zipfile
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from imagegen_jax.core.files.regular import whole

Summary = Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]]


class ColumnsWriter:
    """A writer of structured rows: each field becomes an array of an .npz, beside arrays that are known before.

    A `summary` of all rows, as maps of the arrays, gives more of these when the rows are there.

    Until all rows are there, they lie as .npy files in the folder ".NAME.partial", from which the same call goes on.
    """

    def __init__(
        self, place: pathlib.Path, n: int, row: np.dtype[Any], beside: Mapping[str, Any], summary: Summary | None = None
    ) -> None:
        self.place, self.n, self.row, self.beside, self.summary = place, n, row, dict(beside), summary
        self.partial = place.with_name(f".{place.name}.partial")
        self.manifest = place.with_name(f".{place.name}.encoding.json")
        self._files: dict[str, IO[bytes]] = {}

    def rows(self) -> int:
        """Returns how many rows all files hold."""
        return min(self._rows_of(name) for name in self.row.names or ())

    def add(self, start: int, images: np.ndarray) -> None:
        """Appends structured rows, numbered from `start` on; what lies there beyond `start` is made anew."""
        if not self._files:
            self.partial.mkdir(parents=True, exist_ok=True)
            self._files = {name: self._open(name, start) for name in self.row.names or ()}
        for name, file in self._files.items():
            file.write(np.ascontiguousarray(images[name]).data)
            file.flush()

    def close(self, complete: bool) -> None:
        """Closes the files; where `complete`, packs them as the .npz."""
        with contextlib.nullcontext() if complete else contextlib.suppress(OSError):  # a full disk, told already
            for file in self._files.values():
                file.close()
        if not complete:
            return
        if self.summary is not None:
            self.beside |= self.summary({name: np.load(self._path(name), mmap_mode="r") for name in self._files})
        with whole(self.place) as fresh, zipfile.ZipFile(fresh, "w") as archive:
            for name in self._files:
                archive.write(self._path(name), f"{name}.npy")
            for name, value in self.beside.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)
        shutil.rmtree(self.partial)

    def remove(self) -> None:
        """Removes what an earlier call left; a complete .npz stays until a new one is complete."""
        self.manifest.unlink(missing_ok=True)
        shutil.rmtree(self.partial, ignore_errors=True)

    def _path(self, name: str) -> pathlib.Path:
        return self.partial / f"{name}.npy"

    def _header(self, name: str) -> dict[str, Any]:
        base, shape = self.row[name].subdtype or (self.row[name], ())
        return {
            "descr": np.lib.format.dtype_to_descr(base),
            "fortran_order": False,
            "shape": (self.n, *shape),
        }

    def _open(self, name: str, start: int) -> IO[bytes]:
        file = self._path(name).open("r+b" if start else "wb")
        np.lib.format.write_array_header_1_0(file, self._header(name))
        file.seek(file.tell() + start * self.row[name].itemsize)
        file.truncate()
        return file

    def _rows_of(self, name: str) -> int:
        path = self._path(name)
        if not path.is_file():
            return 0
        with path.open("rb") as file, contextlib.suppress(ValueError):
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            return (os.fstat(file.fileno()).st_size - file.tell()) // self.row[name].itemsize
        return 0
