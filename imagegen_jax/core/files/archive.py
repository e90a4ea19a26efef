"""Zip files, .npz among them: members by names with "/", and limits to what they unpack to."""

from __future__ import annotations

import contextlib
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from imagegen_jax.core.files.regular import Path, open_regular

_FREE = 1 << 30  # bytes that a zip may always unpack to
_RATIO = 100  # of unpacked to packed bytes above that: of images, which are packed already, it is 2 or 3
_LARGEST_IMAGE = 1 << 30  # bytes of one image file
_LITTER = ("Thumbs.db", "desktop.ini", "__MACOSX")
_PIECE = 1 << 12  # bytes that are unpacked at a time where a few may become millions


class BadArchive(ValueError):
    """A file that is no zip, a damaged one, or one that is not read."""


class Archive(NamedTuple):
    """An open zip."""

    file: zipfile.ZipFile
    members: Mapping[str, zipfile.ZipInfo]  # by name, with "/"; without folders

    @property
    def stamps(self) -> dict[str, str]:
        """Returns the size and the checksum of each file, by its name."""
        return {name: f"{entry.file_size} {entry.CRC}" for name, entry in self.members.items()}

    def read(self, name: str) -> bytes:
        """Reads an image file. Raises ValueError for one that is too large or a link, and what `zipfile` raises."""
        entry = self.members[name]
        if entry.file_size > _LARGEST_IMAGE:
            raise ValueError(f"decompression bomb: {entry.file_size:,} bytes, more than {_LARGEST_IMAGE:,}")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ValueError("a symbolic link: pack what it leads to")
        if entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return self.file.read(entry)
        with self.file.open(entry) as file:  # of these methods, zipfile unpacks all that it reads, whatever the size
            content = bytearray()
            while piece := file.read(_PIECE):
                content += piece
        return bytes(content)


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Opens the zip at `path`.

    Raises FileNotFoundError where there is none, ValueError where it is no regular file, and BadArchive where it is no
    zip or damaged, where two members have one name or one leads out of it, and where all together unpack to more than
    a zip of images would.
    """
    with open_regular(path) as file:
        size = file.seek(0, 2)
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, OverflowError, ValueError, OSError) as error:
            raise BadArchive(f"no zip, or a damaged one ({error})") from error
        with archive:
            _check_total(archive, size)
            yield Archive(archive, _members(archive))


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = clean_name(entry.filename)
        if not name.endswith("/"):
            if name in found and not is_litter(name):
                raise BadArchive(f"it holds {name} twice: pack it again")
            found[name] = entry
    return found


def is_litter(name: str) -> bool:
    """Tells whether this is what file managers leave in folders and zips, by its name with "/"."""
    return any(part.startswith(".") or part in _LITTER for part in name.split("/"))


def clean_name(name: str) -> str:
    r"""Returns a member's name with "/", also where Windows packed it with "\", relative to the zip's root.

    Raises BadArchive where it leads out of the zip.
    """
    parts = re.sub(r"^[A-Za-z]:(?=[\\/])", "", name).replace("\\", "/").split("/")
    if ".." in parts:
        raise BadArchive(f"it holds {name}, which leads out of it: pack it again")
    kept = [part for part in parts if part not in ("", ".")]
    return "/".join(kept) + ("/" if parts[-1] in ("", ".") else "")


def _check_total(archive: zipfile.ZipFile, packed: int) -> None:
    total = sum(entry.file_size for entry in archive.infolist())
    if total > _FREE and total > _RATIO * packed:
        raise BadArchive(
            f"it unpacks from {packed:,} to {total:,} bytes, which are more than {_FREE:,} and more than {_RATIO} "
            "times as many: a decompression bomb; if these are images, pack them without compression"
        )
