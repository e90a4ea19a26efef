"""Preparation of many images: decoded side by side, in order, into a folder of the cache, and mapped from there."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import errno
import io
import itertools
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from imagegen_jax.core.reporting.progress import counted
from imagegen_jax.data.cache import cached
from imagegen_jax.data.decode import MODES, Whole, decode
from imagegen_jax.data.remedy import Remedy, SettingError, has_setting
from imagegen_jax.data.source import Dataset, Source

logger = logging.getLogger(__name__)

_FORMAT = 1  # part of every key: raise it when the same source would be decoded to other pixels
_CHUNK = 32  # images a task
_MOST_CLASSES = 100_000
_NAMED = 10  # damaged files that an error names; the others are counted


class Item(NamedTuple):
    """One image as a source reads it."""

    image: bytes | np.ndarray | Exception  # a file's bytes, or pixels uint8 [h w c], or why it could not be read
    label: int = 0


class Decoded(NamedTuple):
    """One image, decoded."""

    image: np.ndarray | Exception  # pixels uint8 [h w c], or why there are none
    label: int


class Listing(NamedTuple):
    """A source's images as they are listed, before any is read."""

    title: str  # for the user
    fingerprint: str  # of the content
    total: int  # images
    name: Callable[[int], str]  # the name of an image in errors
    start: Callable[
        [], Callable[[range], Iterable[Item]]
    ]  # called where nothing is prepared; returns the function that threads read items with
    class_names: tuple[str, ...] = ()  # () for no labels
    left_out: tuple[str, ...] = ()  # files that are no images, where the user allows them


def prepare(
    source: Source, listing: Listing, size: int | None, channels: int | None, skip_damaged: bool = False
) -> Dataset:
    """Prepares the images of `listing` at `size` and `channels`, decoded now or by an earlier run.

    Raises:
      ValueError: `size` or `channels` is impossible, images are damaged and `skip_damaged` is not set, images differ in
        shape and `size` or `channels` is not given, or a label is not one of the classes.
      OSError: the cache cannot be written.
    """
    if size is not None and size < 1:
        raise ValueError(f"{source}: size={size} must be positive, or None to keep the size that the images have")
    if channels is not None and channels not in MODES:
        raise ValueError(f"{source}: channels={channels} must be 1 (grey), 3 (RGB), 4 (RGBA), or None for the images'")
    key = {"format": _FORMAT, "size": size, "channels": channels, **listing._asdict()}
    key |= {"whole": True} if isinstance(size, Whole) else {}  # JSON stores a Whole like an int
    del key["name"], key["start"]

    def build(folder: pathlib.Path) -> None:
        with contextlib.closing(_decoded(listing, size, channels)) as items:
            _write(folder, source, listing, items, skip_damaged)

    folder = cached(listing.title, key, build)
    skipped = _info(folder)["skipped"]
    if skipped and not skip_damaged:
        raise damage_error(source, skipped)
    if skipped:
        logger.warning("%s: %d damaged files or files that are no images are left out", source, len(skipped))
    return load(folder)


def load(folder: pathlib.Path) -> Dataset:
    """Opens the data set of a prepared folder. Raises ValueError where a file of it is missing or was cut short."""
    class_names = tuple(_info(folder)["class_names"])
    try:
        images = np.load(folder / "images.npy", mmap_mode="r")
        labels = np.load(folder / "labels.npy") if class_names else None
    except (OSError, ValueError) as error:
        raise _spoilt(folder, error) from error
    return Dataset(images, labels, class_names)


def save(path: pathlib.Path, array: np.ndarray) -> None:
    """Writes an .npy file; its error says when the disk is full, which that of `numpy.save` does not."""
    array = np.ascontiguousarray(array)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)


def write_info(folder: pathlib.Path, source: str, class_names: Sequence[str], skipped: Sequence[str] = ()) -> None:
    """Writes info.json, which a prepared folder holds beside its arrays."""
    info = {"source": source, "class_names": list(class_names), "skipped": list(skipped)}
    (folder / "info.json").write_text(json.dumps(info))


def numbered(source: object, highest: int) -> tuple[str, ...]:
    """Returns the class names "0", "1", ... of labels up to `highest`.

    Raises ValueError where `highest` is too high for a class number.
    """
    if highest >= _MOST_CLASSES:
        raise ValueError(f"{source}: the label {highest} is too high for a class number: number the classes from 0")
    return tuple(str(label) for label in range(highest + 1))


def damage_error(source: Source, damaged: Sequence[str]) -> SettingError:
    """Makes the error that names and counts `damaged` files."""
    named = "".join(f"\n  {name}" for name in damaged[:_NAMED])
    more = f"\n  and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""
    remedies = [Remedy("repair or remove them")]
    if has_setting(source, "skip_damaged"):
        remedies.append(Remedy("leave them out with {}", {"skip_damaged": True}))
    problem = f"{source}: {len(damaged)} damaged files or files that are no images:{named}{more}\n"
    return SettingError(source, problem, remedies)


def _info(folder: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "info.json").read_text())
    except (OSError, ValueError) as error:
        raise _spoilt(folder, error) from error


def _spoilt(folder: pathlib.Path, error: Exception) -> ValueError:
    return ValueError(
        f"the prepared images in {folder} are damaged or deleted ({error}): delete the folder, and start again"
    )


def _decoded(listing: Listing, size: int | None, channels: int | None) -> Generator[Decoded, None, None]:
    """Decodes the items of `listing` in order, in as many threads as there are cores: Pillow releases the GIL."""
    read = listing.start()

    def work(indices: range) -> list[Decoded]:
        return [_decode_item(item, size, channels) for item in read(indices)]

    chunks = (range(listing.total)[start : start + _CHUNK] for start in range(0, listing.total, _CHUNK))
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        pending = collections.deque(pool.submit(work, chunk) for chunk in itertools.islice(chunks, workers + 2))
        try:
            while pending:
                yield from pending.popleft().result()
                pending.extend(pool.submit(work, chunk) for chunk in itertools.islice(chunks, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _decode_item(item: Item, size: int | None, channels: int | None) -> Decoded:
    if isinstance(item.image, Exception):
        return Decoded(item.image, item.label)
    try:
        return Decoded(decode(item.image, size, channels), item.label)
    except MemoryError:
        raise
    except Exception as error:  # what Pillow's decoders raise on damaged input is not a closed list
        return Decoded(error, item.label)


def _write(
    folder: pathlib.Path, source: Source, listing: Listing, items: Iterable[Decoded], skip_damaged: bool
) -> None:
    """Fills `folder` with images.npy, labels.npy and info.json, or raises."""
    damaged, labels, shape, first = list(listing.left_out), [], None, ""
    with open(folder / "images.npy", "wb") as file:
        progress = counted(items, f"decoding {listing.title}", listing.total, "images")
        for index, (pixels, label) in enumerate(progress):
            if isinstance(pixels, Exception):
                damaged.append(f"{listing.name(index)} ({_reason(pixels)})")
                continue
            if shape is None:
                shape, first = pixels.shape, listing.name(index)
                _check_room(folder, listing.total * pixels.nbytes)
                file.write(_header(listing.total, shape))
            if pixels.shape != shape:
                raise _shape_error(source, first, shape, listing.name(index), pixels.shape)
            file.write(pixels.tobytes())  # not through a memory map: on a full disk that would kill the process
            labels.append(label)
        if damaged and not skip_damaged:
            raise damage_error(source, damaged)
        if shape is None:
            raise ValueError(f"{source}: not one of {listing.total} files is an image that can be read")
        file.seek(0)
        file.write(_header(len(labels), shape))
    if listing.class_names:
        save(folder / "labels.npy", _checked_labels(source, labels, len(listing.class_names)))
    write_info(folder, str(source), listing.class_names, damaged)


def _reason(error: Exception) -> str:
    """Says in few words why an image was not read; Pillow's own words for an unknown format name a buffer in memory."""
    text = "not an image" if type(error).__name__ == "UnidentifiedImageError" else str(error)
    return text.splitlines()[0][:120] if text else type(error).__name__


def _check_room(folder: pathlib.Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{needed / 1e6:,.0f} MB needed, {free / 1e6:,.0f} MB free")


def _header(count: int, shape: tuple[int, ...]) -> bytes:
    """Makes the header of an .npy file. NumPy pads it so that it keeps its length for any count."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})
    return head.getvalue()


def _shape_error(source: Source, first: str, shape: tuple[int, ...], name: str, other: tuple[int, ...]) -> SettingError:
    wanted = {"size": min(*shape[:2], *other[:2])} if shape[:2] != other[:2] else {}
    wanted |= {"channels": 3} if shape[2] != other[2] else {}  # one grey file among colour ones costs no colours
    remedies = [Remedy("bring the files to one shape")]
    if all(has_setting(source, setting) for setting in wanted):
        remedies.append(Remedy("have it done with {}", wanted))
    given, differs = "x".join(map(str, shape)), "x".join(map(str, other))
    problem = f"{source}: {first} is {given} (height x width x channels), but {name} is {differs}: "
    return SettingError(source, problem, remedies)


def _checked_labels(source: Source, labels: list[int], num_classes: int) -> np.ndarray:
    array = np.asarray(labels, np.int64)
    wrong = (array < 0) | (array >= num_classes)
    if wrong.any():
        split = "choose another split, or " if has_setting(source, "split") else ""
        raise ValueError(
            f"{source}: {wrong.sum()} labels are not in 0..{num_classes - 1}, the first is {array[wrong.argmax()]}: "
            f"{split}correct the labels"
        )
    return array.astype(np.int32)
