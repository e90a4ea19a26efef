"""Writers of samples as they are drawn: to a folder of pictures, an .npz or an .npy."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Sequence
from typing import IO, Any, Protocol

import numpy as np

from imagegen_jax.core.files.regular import partial_of
from imagegen_jax.core.provenance.origin import Origin
from imagegen_jax.data.pictures.output import FOLDER, write_picture


class Writer(Protocol):
    """A writer of images in order, which can go on where an earlier writer to the same place stopped."""

    @property
    def place(self) -> pathlib.Path: ...

    @property
    def manifest(self) -> pathlib.Path:
        """The file that describes the call that makes the images, until they are complete."""
        ...

    def rows(self) -> int:
        """Returns the greatest number of images that may be there already, as far as files tell."""
        ...

    def add(self, start: int, images: np.ndarray) -> None:
        """Writes images, numbered from `start` on; when it returns they are on disk."""
        ...

    def close(self, complete: bool) -> None:
        """Closes what is open; where `complete`, the output gets its name."""
        ...

    def remove(self) -> None:
        """Removes the files that an earlier call left, but no image of another kind."""
        ...


class FolderWriter:
    """A writer of a PNG for each image, "3_000042.png" with labels and "000042.png" without."""

    NAMES = re.compile(r"(\d+_)?\d{6,}\.png")

    def __init__(
        self, place: pathlib.Path, n: int, labels: np.ndarray | None, prompts: Sequence[str] = (),
        origin: Origin | None = None,
    ) -> None:  # fmt: skip
        self.place, self.n, self.labels, self.prompts, self.origin = place, n, labels, prompts, origin
        self.manifest = place / ".sampling.json"

    def rows(self) -> int:
        """Counts images up to the first that is missing."""
        return next((i for i in range(self.n) if not self._path(i).is_file()), self.n)

    def add(self, start: int, images: np.ndarray) -> None:
        """Writes a file for each image, whole or not at all."""
        for i, image in enumerate(images, start):
            said = None if self.origin is None else self.origin.of_row(i, self.prompts[i : i + 1])
            write_picture(self._path(i), image, said)

    def close(self, complete: bool) -> None:
        """Does nothing: no file is open."""

    def remove(self) -> None:
        """Removes images with names of samples; other files stay, and then the folder, too."""
        self.manifest.unlink(missing_ok=True)
        for path in self.place.iterdir() if self.place.is_dir() else ():
            if self.NAMES.fullmatch(path.name):
                path.unlink()
        with contextlib.suppress(OSError):  # of a folder that holds other files, or is not there
            self.place.rmdir()

    def _path(self, i: int) -> pathlib.Path:
        return self.place / f"{'' if self.labels is None else f'{self.labels[i]}_'}{i:06d}.png"


class ArrayWriter:
    """A writer of the .npz that ADM's evaluator reads: arr_0, images uint8 [n h w c], and arr_1, labels int64 [n].

    Where there are prompts, they are "prompts", text [n]. Latents become arr_0 as they are, float32. The file grows as
    ".NAME.partial", a zip without its end, whose first member is the images, not compressed. Only the images of one
    call of `add` are in memory.
    """

    def __init__(
        self, place: pathlib.Path, n: int, labels: np.ndarray | None, prompts: Sequence[str] = (),
        origin: Origin | None = None,
    ) -> None:  # fmt: skip
        self.place, self.n, self.labels, self.prompts = place, n, labels, prompts
        self.partial = place.with_name(f".{place.name}.partial")
        self.manifest = place.with_name(f".{place.name}.sampling.json")
        self._stack: contextlib.ExitStack | None = None
        self._file: IO[bytes]
        self._archive: zipfile.ZipFile
        self._images: IO[bytes]

    def rows(self) -> int:
        """Returns the number of all images if there is a file to go on with: `add` checks how many it holds."""
        return self.n if self.partial.is_file() else 0

    def add(self, start: int, images: np.ndarray) -> None:
        """Appends images; the first time, it copies those that an earlier call left before them."""
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
        """Copies the images of the partial file, which begin there at the same `offset` as in the new file.

        Raises ValueError where the file is too short.
        """
        with self.partial.open("rb") as old:
            if os.fstat(old.fileno()).st_size < offset + size:
                raise ValueError(f"{self.partial} is damaged, it is too short: begin anew with --overwrite")
            old.seek(offset)
            for at in range(0, size, 2**20):
                self._images.write(old.read(min(2**20, size - at)))

    def close(self, complete: bool) -> None:
        """Gives a complete file its name; an incomplete one keeps its partial name."""
        if self._stack is None:
            return
        if not complete:
            with contextlib.suppress(OSError):  # a full disk, which an error has told of already
                self._stack.close()
            return
        self._images.close()
        if self.labels is not None:
            with self._archive.open("arr_1.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, self.labels.astype(np.int64))
        if self.prompts:
            with self._archive.open("prompts.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(self.prompts))
        self._stack.close()
        self.partial.replace(self.place)

    def remove(self) -> None:
        """Removes the partial file; a complete one stays until a new one is complete."""
        self.manifest.unlink(missing_ok=True)
        self.partial.unlink(missing_ok=True)


class OneArrayWriter:
    """A writer of an .npy of samples alone, uint8 images or float32 latents [n h w c]; it grows as ".NAME.partial"."""

    def __init__(
        self, place: pathlib.Path, n: int, labels: np.ndarray | None, prompts: Sequence[str] = (),
        origin: Origin | None = None,
    ) -> None:  # fmt: skip
        self.place, self.n = place, n
        self.partial = place.with_name(f".{place.name}.partial")
        self.manifest = place.with_name(f".{place.name}.sampling.json")
        self._file: IO[bytes] | None = None

    def rows(self) -> int:
        """Returns the number of all images if there is a file to go on with: `add` checks how many it holds."""
        return self.n if self.partial.is_file() else 0

    def add(self, start: int, images: np.ndarray) -> None:
        """Appends images; the first time, it keeps those that an earlier call left before them."""
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
        """Gives a complete file its name; an incomplete one keeps its partial name."""
        if self._file is None:
            return
        with contextlib.nullcontext() if complete else contextlib.suppress(OSError):  # a full disk, told already
            self._file.close()
        if complete:
            self.partial.replace(self.place)

    def remove(self) -> None:
        """Removes the partial file; a complete one stays until a new one is complete."""
        self.manifest.unlink(missing_ok=True)
        self.partial.unlink(missing_ok=True)


def _header(n: int, images: np.ndarray) -> dict[str, Any]:
    """Makes the header of an .npy of `n` images like these."""
    shape = (n, *images.shape[1:])
    return {"descr": np.lib.format.dtype_to_descr(images.dtype), "fortran_order": False, "shape": shape}


WRITERS: dict[str, Callable[[pathlib.Path, int, np.ndarray | None, Sequence[str], Origin | None], Writer]]
WRITERS = {FOLDER: FolderWriter, ".npz": ArrayWriter, ".npy": OneArrayWriter}  # by the kind of the output
