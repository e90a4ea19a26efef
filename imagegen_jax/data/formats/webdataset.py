"""WebDataset tars: files of one name before its first dot are one image, 07.png with 07.cls, 07.txt or 07.json."""

from __future__ import annotations

import dataclasses
import glob
import itertools
import json
import os
import pathlib
import re
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.files.archive import BadArchive, clean_name, is_litter
from imagegen_jax.core.files.regular import open_regular
from imagegen_jax.data.decode import SUFFIXES
from imagegen_jax.data.formats.image_folder import class_folders, fingerprint
from imagegen_jax.data.prepare import Item, Listing, damage_error, numbered, prepare
from imagegen_jax.data.source import Dataset, Source

_LABEL, _TEXT, _JSON = ".cls", ".txt", ".json"
_TEXT_KEYS = ("text", "caption")  # of a .json, the first one there is
_LARGEST = 1 << 30  # bytes of one file
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")  # as in shard-{000..127}.tar


@dataclasses.dataclass(frozen=True)
class WebDataset:
    """The images of one .tar, of all in a folder, or of shards "a-{000..127}.tar", in the order of shards and members.

    Classes are the numbers in each image's .cls or the "label" of its .json, else the folders that hold the images
    within the tars, of data without texts; else there are none. Texts are the lines of each image's .txt, or "text" or
    "caption" of its .json. `size` None keeps the size of the images, `channels` None their channels; `skip_damaged`
    leaves out images that are damaged, where none has a text.
    """

    path: str
    size: Count | None = None
    channels: Count | None = None
    skip_damaged: bool = False

    def open(self) -> Dataset:
        """Opens images, and texts or classes.

        Raises:
          FileNotFoundError: there is no such tar or folder of tars.
          ValueError: a tar is damaged or compressed, only some images have a class or a text, or `skip_damaged` is set
            where they have texts; as `prepare` does.
        """
        shards = [_Shard(self, path) for path in _paths(self)]
        samples = [sample for shard in shards for sample in shard.samples]
        if not samples:
            raise ValueError(f"{self}: no images in {len(shards)} tars")
        texts = _texts(self, samples)
        class_names, labels = _labels(self, samples, folders=texts is None)
        if texts is not None and self.skip_damaged:
            raise ValueError(f"{self}: skip_damaged=True would part images and texts: take damaged images out")

        def items(indices: range) -> Iterator[Item]:
            for index in indices:
                yield Item(samples[index].read(samples[index].image), labels[index] if labels else 0)

        listing = Listing(
            title=self.path,
            fingerprint=fingerprint({str(shard.path): shard.stamp for shard in shards}),
            total=len(samples),
            name=lambda index: samples[index].name,
            start=lambda: items,
            class_names=class_names,
        )
        dataset = prepare(self, listing, self.size, self.channels, self.skip_damaged)
        return dataclasses.replace(dataset, captions=texts)


class _Member(NamedTuple):
    """Where a file lies in its tar."""

    offset: int
    size: int


class _Sample(NamedTuple):
    """An image with the files of its name."""

    shard: _Shard
    name: str
    image: _Member
    beside: Mapping[str, _Member]  # by the end of its name

    def read(self, member: _Member) -> bytes:
        """Reads a file of it."""
        return self.shard.read(member)


class _Shard:
    """One tar, listed; threads read from it in turn."""

    def __init__(self, source: Source, path: pathlib.Path) -> None:
        self.path, self._lock = path, threading.Lock()
        self._file = open_regular(path)
        status = os.fstat(self._file.fileno())
        self.stamp = f"{status.st_size} {status.st_mtime_ns}"
        try:
            self.samples = list(_samples(self, source, self._members()))
        except (tarfile.TarError, BadArchive, EOFError, ValueError) as error:
            raise ValueError(
                f"{source}: {path} is no tar, damaged or compressed ({error}): unpack a .tar.gz"
            ) from error

    def _members(self) -> Iterator[tuple[str, _Member]]:
        with tarfile.open(fileobj=self._file, mode="r:") as archive:
            for entry in archive:
                name = clean_name(entry.name)
                if entry.isfile() and not is_litter(name):
                    if entry.size > _LARGEST:
                        raise BadArchive(f"{entry.name} has {entry.size:,} bytes, more than {_LARGEST:,}")
                    yield name, _Member(entry.offset_data, entry.size)

    def read(self, member: _Member) -> bytes:
        """Reads the bytes of a member."""
        with self._lock:
            self._file.seek(member.offset)
            return self._file.read(member.size)


def _paths(source: WebDataset) -> list[pathlib.Path]:
    """Returns the tars that a path names. Raises FileNotFoundError where one is not there, or there are none."""
    place = pathlib.Path(source.path).expanduser()
    if place.is_dir():
        found = sorted(pathlib.Path(path) for path in glob.glob(f"{glob.escape(str(place))}/**/*.tar", recursive=True))
        if not found:
            raise FileNotFoundError(f"{source}: there is no .tar in {place}")
        return found
    found = [pathlib.Path(path) for path in _unfolded(str(place))]
    if missing := [path for path in found if not path.exists()]:
        more = f", and {len(missing) - 1} more are missing" if len(missing) > 1 else ""
        raise FileNotFoundError(f"{source}: there is no {missing[0]}{more}")
    return found


def _unfolded(text: str) -> Iterator[str]:
    """Yields the paths that a path with ranges, {000..127}, stands for."""
    match = _RANGE.search(text)
    if match is None:
        yield text
        return
    first, last = match.groups()
    for number in range(int(first), int(last) + 1):
        yield from _unfolded(f"{text[: match.start()]}{number:0{len(first)}d}{text[match.end() :]}")


def _samples(shard: _Shard, source: Source, members: Iterator[tuple[str, _Member]]) -> Iterator[_Sample]:
    """Groups files that follow one another by the names before their first dots."""
    for key, of in itertools.groupby(members, key=lambda member: _parted(member[0])[0]):
        files = {_parted(name)[1]: (name, member) for name, member in of}
        images = [end for end in files if end in SUFFIXES]
        if len(images) > 1:
            raise ValueError(f"{key} has {len(images)} images, {', '.join(images)}: give each its own name")
        if images:
            beside = {end: member for end, (_, member) in files.items() if end not in images}
            yield _Sample(shard, f"{shard.path}/{files[images[0]][0]}", files[images[0]][1], beside)
        elif any(end not in (_LABEL, _TEXT, _JSON) for end in files):
            raise damage_error(source, [f"{shard.path}/{name}" for name, _ in files.values()])


def _parted(name: str) -> tuple[str, str]:
    """Parts a name at the first dot of its last part: "a/07", ".png"; the end in small letters."""
    folder, _, file = name.rpartition("/")
    stem, dot, end = file.partition(".")
    return f"{folder}/{stem}".lstrip("/"), f"{dot}{end}".lower()


def _json_of(source: Source, sample: _Sample) -> Mapping[str, object]:
    if _JSON not in sample.beside:
        return {}
    try:
        found = json.loads(sample.read(sample.beside[_JSON]))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source}: the {_JSON} of {sample.name} is damaged ({error})") from error
    return found if isinstance(found, dict) else {}


def _texts(source: Source, samples: Sequence[_Sample]) -> list[tuple[str, ...]] | None:
    """Reads the texts of each image; None where none has any. Raises ValueError where only some have."""
    found = [tuple(text for text in _texts_of(source, sample) if text) for sample in samples]
    _check_all(source, samples, [bool(texts) for texts in found], "text")
    return found if found and found[0] else None


def _texts_of(source: Source, sample: _Sample) -> list[str]:
    if _TEXT in sample.beside:
        try:
            return [line.strip() for line in sample.read(sample.beside[_TEXT]).decode("utf-8-sig").splitlines()]
        except UnicodeDecodeError as error:
            raise ValueError(f"{source}: the {_TEXT} of {sample.name} is no text in UTF-8 ({error})") from error
    stored = _json_of(source, sample)
    value = next((stored[key] for key in _TEXT_KEYS if stored.get(key)), [])
    return [text.strip() for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]


def _labels(source: Source, samples: Sequence[_Sample], folders: bool) -> tuple[tuple[str, ...], list[int]]:
    """Returns the names of the classes and the label of each image; () and [] where there are none.

    Without numbers the classes are the `folders`, where these may be.
    """
    found = [_label_of(source, sample) for sample in samples]
    _check_all(source, samples, [label is not None for label in found], "class")
    labels = [label for label in found if label is not None]
    if labels:
        return numbered(source, max(labels)), labels
    if not folders:
        return (), []
    return class_folders(source, [sample.name.removeprefix(f"{sample.shard.path}/") for sample in samples])


def _label_of(source: Source, sample: _Sample) -> int | None:
    if _LABEL in sample.beside:
        text = sample.read(sample.beside[_LABEL]).decode("utf-8", "replace").strip()
        value: object = int(text) if text.isdecimal() else text
    else:
        value = _json_of(source, sample).get("label")
    if value is None or (type(value) is int and value >= 0):
        return value
    raise ValueError(f"{source}: {sample.name} has the class {value!r}, which is no integer >= 0")


def _check_all(source: Source, samples: Sequence[_Sample], have: Sequence[bool], what: str) -> None:
    if any(have) and not all(have):
        without = samples[list(have).index(False)].name
        raise ValueError(
            f"{source}: {have.count(False)} of {len(have)} images have no {what}, such as {without}: add it to each, "
            "or take it from all"
        )
