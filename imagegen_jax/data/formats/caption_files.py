"""Captions beside images: in a metadata.jsonl, in a .csv, or in a .txt for each image."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.data.formats.image_folder import (
    Files,
    check_no_tables,
    fingerprint,
    is_beside,
    may_be_image,
    open_files,
)
from imagegen_jax.data.prepare import Item, Listing, damage_error, prepare
from imagegen_jax.data.source import Dataset, Source

_METADATA = "metadata.jsonl"
_FILE, _TEXT = "file_name", "text"  # keys of metadata.jsonl, and columns of a .csv
TEXTS = ("text", "caption", "captions", "texts", "prompt", "sentences", "description", "txt")  # of columns, in order
_NAMED = 10  # files that an error names; the others are counted

Found = Mapping[str, tuple[str, ...]]  # the captions of each image, by its name


@dataclasses.dataclass(frozen=True)
class CaptionedFolder:
    """The images in a folder or a .zip with texts that lie beside them, in the order of their names.

    Texts are taken from the first that is there of

        metadata.jsonl  a line for each image, {"file_name": "a/0.png", "text": "a red circle"}; the text may be a list
        a .csv          with the columns file_name and text; several rows of one file are several captions of it
        .txt            beside each image, 0.txt for 0.png; each line is a caption

    Paths are those from the file that names them. Folders are no classes. `size` None keeps the size of the images,
    `channels` None their channels.
    """

    path: str
    size: Count | None = None
    channels: Count | None = None

    def open(self) -> Dataset:
        """Opens images and captions.

        Raises:
          FileNotFoundError: there is no such folder or zip.
          ValueError: an image has no caption, a caption has no image, or a file of captions is no text in UTF-8 or of
            another form; as `prepare` does.
        """
        with open_files(self, self.path) as files:
            names = self._images(files)
            captions = _captions(self, files, names)
            _check_each(self, files, names, captions)

            def items(indices: range) -> Iterator[Item]:
                return (Item(files.read_or_error(names[index])) for index in indices)

            listing = Listing(
                title=files.title,
                fingerprint=fingerprint({name: files.stamps[name] for name in names}),
                total=len(names),
                name=lambda index: names[index],
                start=lambda: items,
            )
            dataset = prepare(self, listing, self.size, self.channels)
        return dataclasses.replace(dataset, captions=[captions[name] for name in names])

    def _images(self, files: Files) -> list[str]:
        others = [name for name in files.stamps if not may_be_image(name) and not is_beside(name)]
        names = [name for name in files.stamps if may_be_image(name)]
        if others and not names:
            check_no_tables(self, self.path, others, "captioned:")
        if others:
            raise damage_error(self, others)
        if not names:
            raise ValueError(f"{self}: no images in {files.title}")
        return names


def _captions(source: Source, files: Files, names: Sequence[str]) -> Found:
    """Reads the captions. Raises ValueError where there are none, or two files that could be meant."""
    metadata = [name for name in files.stamps if posixpath.basename(name) == _METADATA]
    tables = [name for name in files.stamps if name.lower().endswith(".csv")]
    if metadata:
        return _joined(pair for name in metadata for pair in _of_lines(source, files, name))
    if len(tables) > 1:
        raise ValueError(f"{source}: {' and '.join(tables[:_NAMED])} could hold the captions: keep one of them there")
    if tables:
        return _joined(_of_table(source, files, tables[0]))
    beside = {f"{posixpath.splitext(name)[0]}.txt": name for name in names}
    texts = {image: _text(source, files, name) for name, image in beside.items() if name in files.stamps}
    if not texts:
        raise ValueError(
            f"{source}: there are no captions in {files.title}: add a {_METADATA} with a line for each image, such as "
            f'{{"{_FILE}": "{names[0]}", "{_TEXT}": "a red circle"}}, or a .txt beside each'
        )
    return {image: tuple(line.strip() for line in text.splitlines() if line.strip()) for image, text in texts.items()}


def _of_lines(source: Source, files: Files, name: str) -> Iterator[tuple[str, str]]:
    """Yields (image, caption) of each line of JSON. Raises ValueError for one of another form."""
    for number, line in enumerate(_text(source, files, name).split("\n"), 1):  # JSON has others of splitlines in texts
        if not line.strip():
            continue
        try:
            found = json.loads(line)
            file, text = found[_FILE], found[_TEXT]
        except (ValueError, KeyError, TypeError, RecursionError):
            file = text = None
        texts = [text] if isinstance(text, str) else text
        if not isinstance(file, str) or not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
            raise ValueError(
                f'{source}: line {number} of {name} is not of the form {{"{_FILE}": "0.png", "{_TEXT}": "a red '
                'circle"}, where the text may be a list'
            )
        yield from ((_from(name, file), one) for one in texts)


def _of_table(source: Source, files: Files, name: str) -> Iterator[tuple[str, str]]:
    """Yields (image, caption) of each row of a .csv. Raises ValueError where it has other columns."""
    rows = csv.DictReader(io.StringIO(_text(source, files, name), newline=""))
    columns = rows.fieldnames or []
    if not {_FILE, _TEXT} <= set(columns):
        raise ValueError(
            f"{source}: {name} has the columns {', '.join(columns) or '(none)'}: name those of images and captions "
            f"{_FILE} and {_TEXT} in its first line"
        )
    try:
        yield from ((_from(name, row[_FILE]), row[_TEXT] or "") for row in rows)
    except csv.Error as error:
        raise ValueError(f"{source}: {name} is no table, from line {rows.line_num} on ({error}): correct it") from error


def _from(beside: str, name: str) -> str:
    """Returns the name of a file that another one, `beside` it, names."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(beside), name.replace("\\", "/")))


def _text(source: Source, files: Files, name: str) -> str:
    try:
        return files.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: {name} is no text in UTF-8 ({error}): store it as UTF-8") from error


def texts_in(value: Any) -> tuple[str, ...]:
    """Returns the texts of a column's value: of a text, of bytes in UTF-8, or of a list of these."""
    texts = [value] if isinstance(value, str | bytes) else [] if value is None else value
    plain = (text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in texts)
    return tuple(text.strip() for text in plain if isinstance(text, str) and text.strip())


def _joined(pairs: Iterator[tuple[str, str]]) -> Found:
    """Collects the captions of each image in order."""
    found: dict[str, tuple[str, ...]] = {}
    for name, text in pairs:
        found[name] = (*found.get(name, ()), *([text.strip()] if text.strip() else ()))
    return found


def _check_each(source: Source, files: Files, names: Sequence[str], captions: Found) -> None:
    """Raises ValueError for captions without an image, and for images without a caption."""
    there = set(names)
    missing = [name for name in captions if name not in there]
    if missing:
        raise ValueError(
            f"{source}: {_some(missing)} named with captions, but not there in {files.title}: add the images, or take "
            "these lines away"
        )
    without = [name for name in names if not captions.get(name)]
    if without:
        raise ValueError(
            f"{source}: {_some(without)} without a caption, of {len(names)} images: add one to each, or take them away"
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more} {'is' if len(names) == 1 else 'are'}"
