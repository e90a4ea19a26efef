"""A folder or a zip of images: in class folders, all in one, or with the labels of a dataset.json (StyleGAN, EDM)."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.files.archive import BadArchive, is_litter, open_archive
from imagegen_jax.core.files.regular import read_file
from imagegen_jax.data.decode import SUFFIXES
from imagegen_jax.data.prepare import Item, Listing, damage_error, numbered, prepare
from imagegen_jax.data.source import Dataset, Source

_BESIDE = frozenset(".txt .csv .tsv .json .jsonl .xml .yaml .yml .md .caption".split())
_LABELS = "dataset.json"


@dataclasses.dataclass(frozen=True)
class Folder:
    """The images in a folder, a .zip or a folder of a .zip ("photos.zip/train"), in the order of their names.

    Their classes are the labels of a `dataset.json` beside them ({"labels": [["a/0.png", 3], ...]}), else the folders
    that hold them, else there are none. `size` None keeps the size of the images, which must then be the same for all;
    so does `channels` None their channels (1 grey, 3 RGB, 4 RGBA). `skip_damaged` leaves out files that are no images
    or damaged.
    """

    path: str
    size: Count | None = None
    channels: Count | None = None
    skip_damaged: bool = False

    def open(self) -> Dataset:
        """Opens the images.

        Raises:
          FileNotFoundError: there is no such folder or zip.
          ValueError: it holds no images, some images have no class, or it is not a zip; as `prepare` does.
        """
        with open_files(self, self.path) as files:
            return self._prepare(files)

    def _prepare(self, files: Files) -> Dataset:
        stamps = files.stamps
        images = [name for name in stamps if may_be_image(name)]
        labelled = [name for name in stamps if name.split("/")[-1] == _LABELS]
        others = [name for name in stamps if not may_be_image(name) and not is_beside(name)]
        if others and not self.skip_damaged:
            if not images:
                check_no_tables(self, self.path, others)
            raise damage_error(self, others)
        if not images:
            only = next(iter(others or stamps), None)
            raise ValueError(f"{self}: no images in it" + (f", only {only} and the like" if only else ""))
        given = _given_labels(self, min(labelled, key=len), files.read) if labelled else None
        if given is not None:
            names, class_names, labels = _with_given(self, images, given)
        else:
            names, (class_names, labels) = images, class_folders(self, images)

        def items(indices: range) -> Iterator[Item]:
            for index in indices:
                there = names[index] in stamps  # else a label's name could lead out of the folder
                image = files.read_or_error(names[index]) if there else FileNotFoundError("not there")
                yield Item(image, labels[index] if labels else 0)

        listing = Listing(
            title=files.title,
            fingerprint=fingerprint(stamps),
            total=len(names),
            name=lambda index: names[index],
            start=lambda: items,
            class_names=class_names,
            left_out=tuple(others),
        )
        return prepare(self, listing, self.size, self.channels, self.skip_damaged)


class Files(NamedTuple):
    """The files in a folder or a zip."""

    title: str  # where they are
    stamps: Mapping[str, str]  # name with "/" -> a value that changes with the file; in order
    read: Callable[[str], bytes]  # a file by its name

    def read_or_error(self, name: str) -> bytes | Exception:
        """Reads a file, and returns its content or why it could not be read."""
        try:
            return self.read(name)
        except Exception as error:  # zlib, zipfile and the file system have no common class of errors
            return error


def check_no_tables(source: Source, path: str, names: Sequence[str], prefix: str = "") -> None:
    """Raises ValueError, with the words that read them, where files that are no images are parquet files or tars."""
    for suffix, form in ((".parquet", "parquet"), (".tar", "webdataset")):
        if found := next((name for name in names if name.lower().endswith(suffix)), None):
            raise ValueError(
                f"{source}: {found} is no image, but may hold some: give the place as {prefix}{form}:{path}"
            )


@contextlib.contextmanager
def open_files(source: Source, path: str) -> Iterator[Files]:
    """Opens the files in a folder, a .zip or a folder of a .zip, without those that file managers leave there.

    Raises FileNotFoundError where there is no such place, and ValueError where a zip is damaged; both name `source`.
    """
    place = pathlib.Path(path).expanduser().absolute()
    if place.is_dir():
        yield Files(str(place), _in_order(stamps_of_folder(place)), lambda name: read_file(place / name))
        return
    file = next((above for above in (place, *place.parents) if above.exists() and not above.is_dir()), None)
    if file is None:
        raise FileNotFoundError(f"{source}: there is no folder or zip {place}")
    prefix = "" if file == place else f"{place.relative_to(file).as_posix()}/"
    try:
        with open_archive(file) as archive:
            stamps = archive.stamps
            inside = {name.removeprefix(prefix): stamp for name, stamp in stamps.items() if name.startswith(prefix)}
            if stamps and not inside:
                raise FileNotFoundError(
                    f"{source}: there is no folder {prefix} in {file}, only {_near(stamps, prefix)}"
                )
            yield Files(str(place), _in_order(inside), lambda name: archive.read(prefix + name))
    except BadArchive as error:
        raise ValueError(f"{source}: {file} cannot be read as a folder or a zip: {error}") from error


def _near(names: Mapping[str, str], missing: str) -> str:
    """Names the folders where one is missing, or at the nearest place above that has any; "files" for none."""
    above = missing
    while above and not any(name.startswith(above) for name in names):
        above = above[: above.rstrip("/").rfind("/") + 1]
    rests = {name: name.removeprefix(above) for name in names if name.startswith(above) and not is_litter(name)}
    return ", ".join(sorted({above + rest.split("/")[0] for rest in rests.values() if "/" in rest})[:10]) or "files"


def _in_order(stamps: Mapping[str, str]) -> dict[str, str]:
    return {name: stamps[name] for name in sorted(stamps) if not is_litter(name)}


def stamps_of_folder(root: pathlib.Path) -> dict[str, str]:
    """Returns the path of each file below `root`, with "/", and its size and time of change.

    Links are followed, each folder once.
    """
    stamps, pending, seen = {}, [(str(root), "")], set()
    while pending:
        folder, prefix = pending.pop()
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                astray = entry.is_symlink() and not os.path.exists(entry.path)  # to nothing, or in a circle
                if not astray and entry.is_dir():
                    pending.append((entry.path, f"{prefix}{entry.name}/"))
                else:
                    status = entry.stat(follow_symlinks=not astray and entry.is_file())
                    stamps[prefix + entry.name] = f"{status.st_size} {status.st_mtime_ns}"
    return stamps


def fingerprint(stamps: Mapping[str, str]) -> str:
    """Digests stamps to a value that changes wherever a file is added, removed or changed."""
    digest = hashlib.sha256()
    for name in sorted(stamps):
        digest.update(f"{name}\0{stamps[name]}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def may_be_image(name: str) -> bool:
    """Tells, by the end of its name, whether a file may be an image; one without an end may be."""
    suffix = os.path.splitext(name)[1].lower()
    return not suffix or suffix in SUFFIXES


def is_beside(name: str) -> bool:
    """Tells, by the end of its name, whether a file is one that data sets keep beside images, such as captions."""
    return os.path.splitext(name)[1].lower() in _BESIDE


def _given_labels(source: Folder, path: str, read: Callable[[str], bytes]) -> dict[str, int] | None:
    """Reads the label of each file from the dataset.json at `path`; None where it gives none.

    Raises ValueError where it has another form, or a label is not an integer from 0.
    """
    try:
        pairs = json.loads(read(path))["labels"]
        if pairs is None:
            return None
        labels = {path.removesuffix(_LABELS) + name.replace("\\", "/"): label for name, label in pairs}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        form = '{"labels": [["folder/0.png", 3], ...]} or {"labels": null}'
        raise ValueError(f"{source}: {path} is not of the form {form} ({error!r})") from error
    for name, label in labels.items():
        if type(label) is not int or label < 0:
            raise ValueError(f"{source}: {path} gives {name} the label {label!r}, which is not an integer >= 0")
    return labels


def _with_given(
    source: Folder, images: Sequence[str], given: Mapping[str, int]
) -> tuple[list[str], tuple[str, ...], list[int]]:
    """Returns the files that have a label, the names of the classes, and the label of each file.

    A labelled file that is missing is found when it is read. Raises ValueError for an image without a label.
    """
    without = [name for name in images if name not in given]
    if without:
        raise ValueError(
            f"{source}: {len(without)} images have no label in {_LABELS}, such as {without[0]}: add their labels, "
            "remove them, or remove dataset.json"
        )
    names = sorted(given)
    return names, numbered(source, max(given.values())), [given[name] for name in names]


def class_folders(source: Source, images: Sequence[str]) -> tuple[tuple[str, ...], list[int]]:
    """Returns the names of the first folders that divide the images, and the number of each image's folder.

    () and [] where all images lie in one folder. Raises ValueError where some lie beside the class folders.
    """
    parts = [name.split("/")[:-1] for name in images]
    first, last = min(parts), max(parts)  # all images share the folders that these two share
    depth = next((i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    if not any(len(folders) > depth for folders in parts):
        return (), []
    beside = [name for name, folders in zip(images, parts, strict=True) if len(folders) == depth]
    if beside:
        raise ValueError(
            f"{source}: {len(beside)} images lie beside the class folders, such as {beside[0]}: "
            "move each into the folder of its class, or all images into one folder"
        )
    class_names = sorted({folders[depth] for folders in parts})
    number = {name: label for label, name in enumerate(class_names)}
    return tuple(class_names), [number[folders[depth]] for folders in parts]
