"""Many images written as they are drawn, to a folder or an .npz: an interrupted call goes on where it was.

Beside what is not yet complete lies a manifest of the call: its run and weights, its seed and all else that the images
follow from, and how many there are. With it the same call goes on, and another is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any, Protocol

import numpy as np

from imagegen_jax.core.files import partial_of
from imagegen_jax.core.log import write_json
from imagegen_jax.core.progress import Progress
from imagegen_jax.core.signals import signal_of
from imagegen_jax.data.folder import may_be_image
from imagegen_jax.data.output import write_picture

Draw = Callable[[int], Iterator[np.ndarray]]  # the images from a row on, chunk by chunk
Call = Mapping[str, Any]  # what the images follow from, by words that an error can name; "n" and "chunk" among them


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

    It grows as ".NAME.partial", a zip without its end, whose first member is the images, not compressed. Nothing but
    the images in hand is in memory.
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
            self._begin(start, images.shape[1:])
        self._images.write(np.ascontiguousarray(images).data)
        self._file.flush()

    def _begin(self, start: int, shape: tuple[int, ...]) -> None:
        fresh = partial_of(self.partial)
        self.place.parent.mkdir(parents=True, exist_ok=True)
        self._stack = contextlib.ExitStack()
        self._stack.callback(fresh.unlink, missing_ok=True)
        self._file = self._stack.enter_context(fresh.open("wb"))
        self._archive = self._stack.enter_context(zipfile.ZipFile(self._file, "w"))
        self._images = self._stack.enter_context(self._archive.open("arr_0.npy", "w", force_zip64=True))
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.n, *shape)}
        np.lib.format.write_array_header_1_0(self._images, header)
        if start:
            self._copy(self._file.tell(), start * int(np.prod(shape)))
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


# --- calls -----------------------------------------------------------------------------------------------------------


def check_folder(place: pathlib.Path, overwrite: bool) -> None:
    """Raises ValueError where a folder holds images that no interrupted call has left, or that nobody may remove."""
    if (place / ".sampling.json").is_file() and not overwrite:
        return
    names = (os.path.relpath(os.path.join(at, name), place) for at, _, names in os.walk(place) for name in names)
    images = [name for name in names if may_be_image(name)]
    other = next((name for name in images if not FolderWriter.NAMES.fullmatch(name)), None)
    if other and overwrite:
        raise ValueError(f"--overwrite: {place} holds other images too, such as {other}: give another --out")
    if images and not overwrite:
        shown = other or images[0]
        what = "images" if os.path.splitext(shown)[1] else "files that may be images"
        raise ValueError(
            f"--out {place}: holds {what} already, such as {shown}, which would be among the new ones: give another "
            f"folder{'' if other else ', or add --overwrite to remove them'}"
        )


def write_chunks(writer: Writer, call: Call, draw: Draw, overwrite: bool = False) -> None:
    """Writes the images that `draw` gives, which `call` describes, from the first that is not there yet.

    Interrupted, it says what is there, and exits with 128 + the signal's number. Raises ValueError where an incomplete
    other call is in the way.
    """
    if overwrite:
        writer.remove()
    n, chunk, complete = call["n"], call["chunk"], False
    done = min(_images_of(writer, call), writer.rows(), n - 1) // chunk * chunk  # of all, the last chunk once more
    writer.manifest.parent.mkdir(parents=True, exist_ok=True)
    if done:
        print(f"{done:,} of {n:,} images are there already ({writer.place}): on from there", file=sys.stderr)
    try:
        # The manifest comes first, so that what follows is known to be of this call.
        write_json(writer.manifest, {"call": call, "images": done})
        for images in with_progress(draw(done), n, done):
            writer.add(done, images)
            done += len(images)
            write_json(writer.manifest, {"call": call, "images": done})
        complete = True
    except KeyboardInterrupt as error:
        print(f"stopped: {_kept(writer, done, n)}", file=sys.stderr)
        raise SystemExit(128 + signal_of(error)) from None
    except OSError as error:
        raise OSError(f"{error.strerror or error}: {_kept(writer, done, n)}") from error
    finally:
        writer.close(complete)
        if not done:
            writer.remove()
    writer.manifest.unlink()


def with_progress(chunks: Iterable[np.ndarray], n: int, done: int = 0) -> Iterator[np.ndarray]:
    """Gives chunks of images on, and shows how many of `n` there are, of which `done` were before."""
    with Progress("images", n, "images", done) as progress:
        for images in chunks:
            yield images
            progress.add(len(images))


def _kept(writer: Writer, done: int, n: int) -> str:
    if not done:
        return f"none of {n:,} images was written"
    return f"{done:,} of {n:,} images are kept ({writer.place}); the same command goes on from there"


def _images_of(writer: Writer, call: Call) -> int:
    """How many images an interrupted call has left; 0 where there was none."""
    if not writer.manifest.is_file():
        return 0
    try:
        stored = json.loads(writer.manifest.read_text())
    except (ValueError, RecursionError):
        stored = None
    match stored:
        case {"call": dict(old), "images": int(images)}:
            pass
        case _:
            raise ValueError(f"{writer.manifest}, a note of an interrupted call, is damaged: add --overwrite")
    other = [name for name in {**old, **call} if old.get(name) != call.get(name)]
    if other:
        said = "; ".join(f"{name}: {old.get(name)!r} there, {call.get(name)!r} now" for name in other)
        raise ValueError(
            f"--out {writer.place}: holds {images:,} images of a call that was interrupted, and this is another "
            f"({said}): give that call again, or another --out, or add --overwrite"
        )
    return images
