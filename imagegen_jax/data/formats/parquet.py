"""Parquet files of images with texts or classes, such as the folders in which Hugging Face has data sets."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
import json
import pathlib
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.files.regular import read_file
from imagegen_jax.data.formats.caption_files import TEXTS, texts_in
from imagegen_jax.data.formats.image_folder import fingerprint
from imagegen_jax.data.prepare import Item, Listing, numbered, prepare
from imagegen_jax.data.source import Dataset, ReadCaptions, Source

IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo")  # names of columns, the first one there is
_LABEL = "label"
_SPLIT = re.compile(r"(.+)-\d{5}-of-\d{5}")  # train-00000-of-00002.parquet


@dataclasses.dataclass(frozen=True)
class Parquet:
    """The images of a .parquet, or of all in a folder, in the order of files and rows, with their texts.

    Images are files' bytes, or {"bytes", "path"} as Hugging Face's data sets have them; a path without bytes is that of
    a file beside the parquet. A row's texts are a text or a list of them; it has classes where a column "label" is of
    integers, with the names that Hugging Face's files say. `image`, `text` and `label` name columns; None: found by
    their names (`IMAGES`, `TEXTS`), for images else by their form. `split` takes one of the splits of a folder, None
    "train" where there are several. `size` None keeps the size of the images, `channels` None their channels;
    `skip_damaged` leaves out rows whose images are damaged, in data without texts.
    """

    path: str
    split: str | None = None
    size: Count | None = None
    channels: Count | None = None
    image: str | None = None
    text: str | None = None
    label: str | None = None
    skip_damaged: bool = False

    def open(self) -> Dataset:
        """Opens images, and texts or classes.

        Raises:
          FileNotFoundError: there is no such folder or file.
          ImportError: pyarrow is not installed; names the command that installs it.
          ValueError: a file is no parquet, there is no such split or column, or `skip_damaged` is set for data with
            texts; as `prepare` does. A row without a text is named where texts are asked for.
        """
        files = _files(self)
        rows = _Rows(self, files, *_columns(self, files))
        if rows.text is not None and self.skip_damaged:
            raise ValueError(
                f"{self}: skip_damaged=True would part images and texts: take damaged rows out of the file"
            )
        labels = rows.labels() if rows.label is not None else None
        names = rows.class_names or (numbered(self, max(labels, default=0)) if labels else ())

        def items(indices: range) -> Iterator[Item]:
            return (Item(rows.read(index), labels[index] if labels else 0) for index in indices)

        listing = Listing(
            title=f"{self.path}" + (f" {self.split}" if self.split else ""),
            fingerprint=fingerprint(rows.stamps()),
            total=len(rows),
            name=rows.name,
            start=lambda: items,
            class_names=names,
        )
        dataset = prepare(self, listing, self.size, self.channels, self.skip_damaged)
        return (
            dataset if rows.text is None else dataclasses.replace(dataset, captions=ReadCaptions(len(rows), rows.texts))
        )


class _File(NamedTuple):
    """A parquet file, opened."""

    place: pathlib.Path
    opened: Any  # a pyarrow.parquet.ParquetFile


class _Rows:
    """The rows of some files, read a group of rows at a time; threads share the last few groups."""

    def __init__(
        self, source: Parquet, files: Sequence[_File], image: str, text: str | None, label: str | None,
        class_names: tuple[str, ...],
    ) -> None:  # fmt: skip
        self.source, self.files = source, files
        self.image, self.text, self.label, self.class_names = image, text, label, class_names
        groups = [
            (file, group, file.opened.metadata.row_group(group).num_rows)
            for file in files
            for group in range(file.opened.metadata.num_row_groups)
        ]
        self._groups = [(file, group) for file, group, rows in groups if rows]
        self._starts = [0, *itertools.accumulate(rows for _, _, rows in groups if rows)]
        self._lock = threading.Lock()
        self._group = functools.lru_cache(maxsize=4)(self._read_group)

    def __len__(self) -> int:
        """Returns the number of rows."""
        return self._starts[-1]

    def name(self, index: int) -> str:
        """Names a row for errors."""
        file, _, row = self._at(index)
        before = next(i for i, (one, _) in enumerate(self._groups) if one is file)
        return f"{file.place.name}[{row + self._starts[self._number(index)] - self._starts[before]}]"

    def read(self, index: int) -> bytes | Exception:
        """Returns the bytes of an image, or why there are none."""
        file, group, row = self._at(index)
        try:
            with self._lock:
                value = self._group(file, group)[row]
            return _bytes(value, file.place.parent)
        except Exception as error:  # pyarrow and the file system have no common class of errors
            return error

    def texts(self) -> list[tuple[str, ...]]:
        """Reads the texts of all rows. Raises ValueError for a row without."""
        found = [texts_in(value) for value in self._column(self.text)]
        without = [self.name(i) for i, texts in enumerate(found) if not texts]
        if without:
            raise ValueError(
                f"{self.source}: {len(without)} of {len(found)} rows have no text in {self.text!r}, the first is "
                f"{without[0]}: take them out, or name another column (text=)"
            )
        return found

    def labels(self) -> list[int]:
        """Reads the class of all rows. Raises ValueError where one is no integer."""
        found = list(self._column(self.label))
        wrong = next((i for i, value in enumerate(found) if not isinstance(value, int)), None)
        if wrong is not None:
            raise ValueError(f"{self.source}: {self.label!r} of {self.name(wrong)} is {found[wrong]!r}, not an integer")
        return found

    def stamps(self) -> dict[str, str]:
        """Returns what changes with the files and with the columns that are read."""
        columns = {"columns": f"{self.image} {self.label}"}
        stats = {str(file.place): file.place.stat() for file in self.files}
        return columns | {name: f"{stat.st_size} {stat.st_mtime_ns}" for name, stat in stats.items()}

    def _column(self, name: str | None) -> Iterator[Any]:
        for file in self.files:
            yield from file.opened.read(columns=[name]).column(name).to_pylist()

    def _number(self, index: int) -> int:
        return bisect.bisect_right(self._starts, index) - 1

    def _at(self, index: int) -> tuple[_File, int, int]:
        number = self._number(index)
        return *self._groups[number], index - self._starts[number]

    def _read_group(self, file: _File, group: int) -> list[Any]:
        values: list[Any] = file.opened.read_row_group(group, columns=[self.image]).column(self.image).to_pylist()
        return values


def _bytes(value: Any, beside: pathlib.Path) -> bytes:
    """Returns the bytes of an image's file. Raises ValueError where there are none, or OSError."""
    path = value.get("path") if isinstance(value, dict) else None
    content = value.get("bytes") if isinstance(value, dict) else value
    if content is None and path:
        if not (beside / path).resolve().is_relative_to(beside.resolve()):
            raise ValueError(f"{path} is not in the folder of the parquet")
        return read_file(beside / path)
    if not isinstance(content, bytes):
        raise ValueError("no image in this row")
    return content


# --- which files and columns -----------------------------------------------------------------------------------------


def _files(source: Parquet) -> list[_File]:
    """Opens the files of the split that is asked for, in the order of their names."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f"{source}: parquet is read by pyarrow: pip install 'imagegen_jax[parquet]'") from error
    place = pathlib.Path(source.path).expanduser()
    found = [place] if place.is_file() else sorted(path for path in place.rglob("*.parquet") if path.is_file())
    if not found:
        arrow = next(place.rglob("*.arrow"), None)
        hint = f"; {arrow.name} is of save_to_disk: write the set with its to_parquet" if arrow else ""
        raise FileNotFoundError(f"{source}: there is no .parquet at {place}{hint}")
    files = []
    for path in _of_split(source, found):
        try:
            files.append(_File(path, pyarrow.parquet.ParquetFile(path)))
        except (OSError, ValueError) as error:  # pyarrow's own are ValueErrors
            raise ValueError(f"{source}: {path} is no parquet that can be read ({error}): fetch it again") from error
    return files


def _of_split(source: Parquet, files: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """Returns the files of a split: of the names "train-00000-of-00002.parquet" and "train.parquet", or a folder's."""
    splits: dict[str, list[pathlib.Path]] = {}
    for file in files:
        numbered = _SPLIT.fullmatch(file.stem)
        inside = file.parent != pathlib.Path(source.path).expanduser() and file.parent.name != "data"
        name = numbered[1] if numbered else file.parent.name if inside else file.stem
        splits.setdefault(name, []).append(file)
    if source.split is not None and source.split not in splits:
        raise ValueError(f"{source}: there is no split {source.split!r}, only {', '.join(splits)}")
    if source.split is None and not {"train", "test", "validation"} & set(splits):
        return list(files)
    wanted = source.split or ("train" if "train" in splits else "")
    if not wanted and len(splits) > 1:
        raise ValueError(f"{source}: there are the splits {', '.join(splits)}: name one (split=)")
    return splits[wanted or next(iter(splits))]


def _columns(source: Parquet, files: Sequence[_File]) -> tuple[str, str | None, str | None, tuple[str, ...]]:
    """Returns the columns of images, texts and classes, and the names of classes. Raises ValueError without images."""
    schema = files[0].opened.schema_arrow
    for file in files[1:]:
        if missing := set(schema.names) - set(file.opened.schema_arrow.names):
            raise ValueError(
                f"{source}: {file.place} lacks the columns {', '.join(sorted(missing))} of {files[0].place}: "
                "put files of one form into a folder"
            )
    forms = {field.name: str(field.type) for field in schema}
    images = [name for name, form in forms.items() if "binary" in form]
    image = _named(source, "image", source.image, forms, [name for name in IMAGES if name in images] or images)
    if image is None:
        raise ValueError(f"{source}: none of the columns {', '.join(forms)} holds the bytes of images")
    stringy = [name for name in TEXTS if "string" in forms.get(name, "") and not forms[name].startswith("struct")]
    text = _named(source, "text", source.text, forms, stringy)
    integers = [_LABEL] if re.fullmatch(r"u?int\d+", forms.get(_LABEL, "")) else []
    label = _named(source, "label", source.label, forms, integers)
    return image, text, label, _class_names(schema.metadata or {}, label)


def _named(source: Source, setting: str, given: str | None, forms: dict[str, str], found: Sequence[str]) -> str | None:
    if given is not None and given not in forms:
        raise ValueError(f"{source}: {setting}={given!r} is none of the columns {', '.join(forms)}")
    return given or next(iter(found), None)


def _class_names(metadata: dict[bytes, bytes], label: str | None) -> tuple[str, ...]:
    """Returns the names of classes that Hugging Face's files say; () where they say none."""
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][label]
        return tuple(feature["names"]) if feature["_type"] == "ClassLabel" else ()
    except (KeyError, ValueError, TypeError):
        return ()
