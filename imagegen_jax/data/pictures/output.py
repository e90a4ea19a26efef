"""Outputs of commands: their paths are checked before any work, and each file appears whole or not at all.

A command names the kinds of output that it can write; the suffix of the path that a user gives chooses one of them.
"""

from __future__ import annotations

import io
import math
import os
import pathlib
import stat
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from imagegen_jax.core.files.regular import Path, partial_of, whole
from imagegen_jax.core.provenance.embedded import saved_with
from imagegen_jax.core.provenance.origin import Origin

FOLDER = "a folder/"  # the kind of a path without suffix, or one that ends in a slash
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
VIDEOS = (".gif", ".mp4")
ARRAYS = (".npz", ".npy")
FILES = (*PICTURES, *VIDEOS, *ARRAYS, ".md", ".html", ".json", ".csv")  # never taken for the end of a folder's name

LONGEST = {".jpg": 65_535, ".jpeg": 65_535, ".webp": 16_383}  # pixels of a side that the formats can hold at most
QUALITY = 95  # of JPEG and WebP, of 100; a JPEG keeps the colour of every pixel


def kind_of(path: Path) -> str:
    """Returns the suffix of `path` in lower case, or `FOLDER` where it names a folder."""
    place = pathlib.Path(path)
    if str(path).endswith(("/", os.sep)) or not place.suffix:
        return FOLDER
    return place.suffix.lower()


def check_output(path: Path, kinds: Sequence[str], option: str = "--out") -> pathlib.Path:
    """Checks that a command can write to `path`, and returns it; leaves nothing behind, and makes no folder.

    `kinds` are the suffixes that the command writes, such as `PICTURES`, and `FOLDER` where it can write one; with
    `FOLDER` alone any name is taken for a folder's unless it is plainly a file's. Raises ValueError, and names
    `option`, for a path of another kind, a folder in the place of a file, a file in the place of a folder, and where
    nothing can be written.
    """
    text = os.fspath(path)
    place, kind, says = pathlib.Path(text).expanduser(), kind_of(text), f"{option} {text}"
    if not text.strip():
        raise ValueError(f"{option} {text!r}: give the name of what to write: {_words(kinds)}")
    if place.name.lower() in FILES:
        raise ValueError(f"{says}: a suffix without a name: give it one, such as out{place.name}")
    if list(kinds) == [FOLDER] and kind not in FILES:
        kind = FOLDER
    if kind not in kinds:
        raise ValueError(f"{says}: this command writes {_words(kinds)}, by the end of the name: give one of these")
    try:
        _probe(place, kind == FOLDER)
    except OSError as error:
        raise ValueError(f"{says}: cannot be written ({error.strerror or error}): give another place") from error
    return place


def _words(kinds: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))


def _probe(place: pathlib.Path, is_folder: bool) -> None:
    """Raises OSError where nothing can be written at `place`, as far as an empty file can tell."""
    mode = _mode(place)
    if mode and is_folder and not stat.S_ISDIR(mode):
        raise NotADirectoryError(0, "there is a file of this name, but a folder is to be written")
    if mode and not is_folder and not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "something that is no file"
        raise IsADirectoryError(0, f"there is {what} of this name")
    nearest = place if is_folder else place.parent
    while not _mode(nearest):
        nearest = nearest.parent
    if not nearest.is_dir():
        raise NotADirectoryError(0, f"{nearest} is a file, not a folder")
    probe = nearest / partial_of(f"{place.name}_").name  # of a name about as long
    probe.touch()
    probe.unlink()


def _mode(path: pathlib.Path) -> int:
    """Returns the mode of the file or folder at `path`; 0 where there is nothing."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def write_picture(path: Path, image: UInt8[np.ndarray, "h w c"], origin: Origin | None = None) -> None:
    """Writes an image of 1, 3 or 4 channels as its suffix says, whole or not at all; its metadata say its origin.

    None is for pictures that no model made, and for those that are to say nothing. In a JPEG, transparent pixels turn
    white. Raises ValueError for a suffix that is no picture's, and for an image that is too large for the format.
    """
    from PIL import Image

    suffix = kind_of(path)
    if suffix not in PICTURES:
        raise ValueError(f"{path}: a picture is one of {_words(PICTURES)}")
    check_picture_size(path, image.shape[0], image.shape[1])
    if image.shape[-1] == 4 and suffix in (".jpg", ".jpeg"):
        image = opaque(image)
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    forms: dict[str, tuple[str, dict[str, Any]]] = {
        ".png": ("PNG", {}),
        ".webp": ("WEBP", {"quality": QUALITY}),
    }
    form, settings = forms.get(suffix, ("JPEG", {"quality": QUALITY, "subsampling": 0}))
    content = io.BytesIO()  # not to a file: on a full disk, Pillow's encoders take a part of it for all of it
    picture.save(content, format=form, **settings, **saved_with(form, origin))
    with whole(path) as partial:
        partial.write_bytes(content.getbuffer())


def check_picture_size(path: Path, height: int, width: int) -> None:
    """Raises ValueError where a picture is too large for the format that its suffix names."""
    longest = LONGEST.get(kind_of(path), math.inf)
    if max(height, width) > longest:
        raise ValueError(f"{path}: {height}x{width} pixels, but a {kind_of(path)} has at most {longest}: write a .png")


def opaque(image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w d"]:
    """Puts an RGBA image on white, and returns RGB; other images stay as they are."""
    if image.shape[2] != 4:
        return image
    colour, alpha = image[..., :3].astype(np.uint16), image[..., 3:].astype(np.uint16)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
