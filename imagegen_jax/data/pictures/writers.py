"""Files that samples are written to as they are drawn: a folder of pictures, an .npz, an .npy."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import zipfile
from collections.abc import Callable
from typing import IO, Any, Protocol

import numpy as np

from imagegen_jax.core.files.regular import partial_of
from imagegen_jax.data.pictures.output import FOLDER, write_picture


class Writer(Protocol):
    """Takes images in order, and can go on where another of the same place has stopped."""

    @property
    def place(self) -> pathlib.Path: ...

    @property
    def manifest(self) -> pathlib.Path:
        """The file that notes which call the images are of, until they are complete."""
        ...

    def rows(self) -> int:
        """Returns how many images can be there at most, as far as files tell."""
        ...

    def add(self, start: int, images: np.ndarray) -> None:
        """Writes images, the first of which is number `start`; after it they are on disk."""
        ...

    def close(self, complete: bool) -> None:
        """Ends all; where `complete`, what was written takes its place."""
        ...

    def remove(self) -> None:
        """Removes what an earlier call has left, but no image that is not of its kind."""
        ...


class FolderWriter:
    """A PNG an image, "3_000042.png" with labels and "000042.png" without."""

    NAMES = re.compile(r"(\d+_)?\d{6,}\.png")

    def __init__(self, place: pathlib.Path, n: int, labels: np.ndarray | None) -> None:
        self.place, self.n, self.labels = place, n, labels
        self.manifest = place / ".sampling.json"

    def rows(self) -> int:
        """Counts them up to the first that is missing."""
        return next((i for i in range(self.n) if not self._path(i).is_file()), self.n)

    def add(self, start: int, images: np.ndarray) -> None:
        """Writes a file an image, each whole or not at all."""
        for i, image in enumerate(images, start):
            write_picture(self._path(i), image)

    def close(self, complete: bool) -> None:
        """Does nothing: no file is open."""

    def remove(self) -> None:
        """Removes its images; files of other names stay, and the folder where there are any."""
        self.manifest.unlink(missing_ok=True)
        for path in self.place.iterdir() if self.place.is_dir() else ():
            if self.NAMES.fullmatch(path.name):
                path.unlink()
        with contextlib.suppress(OSError):  # of a folder that holds other files, or is not there
            self.place.rmdir()

    def _path(self, i: int) -> pathlib.Path:
        return self.place / f"{'' if self.labels is None else f'{self.labels[i]}_'}{i:06d}.png"


class ArrayWriter:
    """The .npz that ADM's evaluator reads: arr_0 the images, uint8 [n h w c], and arr_1 the labels, int64 [n].

    Latents are arr_0 as they are, float32. It grows as ".NAME.partial", a zip without its end, whose first member is
    the images, not compressed. Nothing but the images in hand is in memory.
    """

    def __init__(self, place: pathlib.Path, n: int, labels: np.ndarray | None) -> None:
        self.place, self.n, self.labels = place, n, labels
        self.partial = place.with_name(f".{place.name}.partial")
        self.manifest = place.with_name(f".{place.name}.sampling.json")
        self._stack: contextlib.ExitStack | None = None
        self._file: IO[bytes]
        self._archive: zipfile.ZipFile
        self._images: IO[bytes]

    def rows(self) -> int:
        """Returns all, if there is a file to go on with: `add` looks whether it holds them."""
        return self.n if self.partial.is_file() else 0

    def add(self, start: int, images: np.ndarray) -> None:
        """Appends them; the first time, copies what an earlier call has left before them."""
        if self._stack is None:
            self._begin(start, images)
        self._images.write(np.ascontiguousarray(images).data)
        self._file.flush()

    def _begin(self, start: int, images: np.ndarray) -> None:
        fresh = partial_of(self.partial)
        self.place.parent.mkdir(parents=True, exist_ok=True)
        self._stack = contextlib.ExitStack()
        self._stack.callback(fresh.unlink, missing_ok=True)
        self._file = self._stack.enter_context(fresh.open("wb"))
        self._archive = self._stack.enter_context(zipfile.ZipFile(self._file, "w"))
        self._images = self._stack.enter_context(self._archive.open("arr_0.npy", "w", force_zip64=True))
        np.lib.format.write_array_header_1_0(self._images, _header(self.n, images))
        if start:
            self._copy(self._file.tell(), start * images[0].nbytes)
        fresh.replace(self.partial)

    def _copy(self, offset: int, size: int) -> None:
        """The bytes of the images that the partial file holds, which begin where they do in this one."""
        with self.partial.open("rb") as old:
            if os.fstat(old.fileno()).st_size < offset + size:
                raise ValueError(f"{self.partial} is damaged, it is too short: begin anew with --overwrite")
            old.seek(offset)
            for at in range(0, size, 2**20):
                self._images.write(old.read(min(2**20, size - at)))

    def close(self, complete: bool) -> None:
        """Gives a complete file its name; what is not complete keeps its partial one."""
        if self._stack is None:
            return
        if not complete:
            with contextlib.suppress(OSError):  # of a full disk, which has been told of already
                self._stack.close()
            return
        self._images.close()
        if self.labels is not None:
            with self._archive.open("arr_1.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, self.labels.astype(np.int64))
        self._stack.close()
        self.partial.replace(self.place)

    def remove(self) -> None:
        """Removes the partial file; a complete one stays until another is."""
        self.manifest.unlink(missing_ok=True)
        self.partial.unlink(missing_ok=True)


class OneArrayWriter:
    """An .npy of the samples alone, uint8 images or float32 latents [n h w c]; it grows as ".NAME.partial"."""

    def __init__(self, place: pathlib.Path, n: int, labels: np.ndarray | None) -> None:
        self.place, self.n = place, n
        self.partial = place.with_name(f".{place.name}.partial")
        self.manifest = place.with_name(f".{place.name}.sampling.json")
        self._file: IO[bytes] | None = None

    def rows(self) -> int:
        """Returns all, if there is a file to go on with: `add` looks whether it holds them."""
        return self.n if self.partial.is_file() else 0

    def add(self, start: int, images: np.ndarray) -> None:
        """Appends them; the first time, after what an earlier call has left before them."""
        if self._file is None:
            self._file = self._begin(start, images)
        self._file.write(np.ascontiguousarray(images).data)
        self._file.flush()

    def _begin(self, start: int, images: np.ndarray) -> IO[bytes]:
        self.place.parent.mkdir(parents=True, exist_ok=True)
        file = self.partial.open("r+b" if start else "wb")
        np.lib.format.write_array_header_1_0(file, _header(self.n, images))
        file.flush()
        at = file.tell() + start * images[0].nbytes
        if os.fstat(file.fileno()).st_size < at:
            file.close()
            raise ValueError(f"{self.partial} is damaged, it is too short: begin anew with --overwrite")
        file.seek(at)
        file.truncate()
        return file

    def close(self, complete: bool) -> None:
        """Gives a complete file its name; what is not complete keeps its partial one."""
        if self._file is None:
            return
        with contextlib.nullcontext() if complete else contextlib.suppress(OSError):  # of a full disk, told already
            self._file.close()
        if complete:
            self.partial.replace(self.place)

    def remove(self) -> None:
        """Removes the partial file; a complete one stays until another is."""
        self.manifest.unlink(missing_ok=True)
        self.partial.unlink(missing_ok=True)


def _header(n: int, images: np.ndarray) -> dict[str, Any]:
    """Of an .npy of `n` images like these."""
    shape = (n, *images.shape[1:])
    return {"descr": np.lib.format.dtype_to_descr(images.dtype), "fortran_order": False, "shape": shape}


WRITERS: dict[str, Callable[[pathlib.Path, int, np.ndarray | None], Writer]]
WRITERS = {FOLDER: FolderWriter, ".npz": ArrayWriter, ".npy": OneArrayWriter}  # by the kind of the output
