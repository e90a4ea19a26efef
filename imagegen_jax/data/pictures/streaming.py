"""Streams of many images, written as they are drawn to a folder, an .npz or an .npy; interrupted calls can go on.

Beside an incomplete output lies a manifest of the call: its run and weights, its seed and all else that the images
depend on, and how many images there are. By it the same call goes on, and another call is refused.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from imagegen_jax.core.platform.signals import signal_of
from imagegen_jax.core.reporting.log import write_json
from imagegen_jax.core.reporting.progress import Progress
from imagegen_jax.data.formats.image_folder import may_be_image
from imagegen_jax.data.pictures.writers import FolderWriter, Writer

Draw = Callable[[int], Iterator[np.ndarray]]  # the images from a row on, chunk by chunk
Call = Mapping[str, Any]  # all that the images depend on, by words for an error to use; "n" and "chunk" among them


def check_folder(place: pathlib.Path, overwrite: bool) -> None:
    """Raises ValueError where a folder holds images that no interrupted call left, unless `overwrite` may remove them.

    With `overwrite`, images that are not named as samples are an error: they are never removed.
    """
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
    """Writes the images that `draw` gives and `call` describes, from the first that is not there yet.

    When it is interrupted, it says how many images are there, and exits with 128 + the signal's number. Raises
    ValueError where the output of another, incomplete call is in the way.
    """
    if overwrite:
        writer.remove()
    n, chunk, complete = call["n"], call["chunk"], False
    done = min(_images_of(writer, call), writer.rows(), n - 1) // chunk * chunk  # n - 1: the last chunk is made again
    writer.manifest.parent.mkdir(parents=True, exist_ok=True)
    if done:
        print(f"{done:,} of {n:,} images are there already ({writer.place}): on from there", file=sys.stderr)
    try:
        # The manifest comes first, so that images are known to belong to this call.
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
    """Passes chunks of images on, and shows how many of `n` there are; `done` were there before."""
    with Progress("images", n, "images", done) as progress:
        for images in chunks:
            yield images
            progress.add(len(images))


def _kept(writer: Writer, done: int, n: int) -> str:
    if not done:
        return f"none of {n:,} images was written"
    return f"{done:,} of {n:,} images are kept ({writer.place}); the same command goes on from there"


def _images_of(writer: Writer, call: Call) -> int:
    """Returns the number of images that an interrupted call has left; 0 where there was none.

    Raises ValueError where that was another call, or its manifest is damaged.
    """
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
