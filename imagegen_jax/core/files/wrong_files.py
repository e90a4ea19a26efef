"""What stands in place of a file of weights: pointers, web pages, half of a download; and the parts of one network."""

from __future__ import annotations

import json
import pathlib
import re
from typing import BinaryIO

from imagegen_jax.core.files.regular import Path, read_file
from imagegen_jax.core.files.torch_files import ZIP

INDEX = ".index.json"  # how files end that say which part of a network has which tensor
_INDEX_SIZE = 1 << 26  # bytes, also of the names in a .safetensors
_PART = re.compile(r"-(\d{5})-of-(\d{5})(?=\.\w+$)")
_AGAIN = "download it again"


def check_content(file: BinaryIO, suffix: str) -> None:
    """Raises ValueError, saying what it is and what helps, for what is often found where weights should be."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(512)
    file.seek(0)
    if not size:
        raise ValueError(f"it is empty: {_AGAIN}")
    _check_head(head)
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")) or head[257:262] == b"ustar":
        raise ValueError("it is packed: unpack it first, and give the file that was inside")
    if suffix == ".safetensors":
        _check_safetensors(file, size)
    elif head.startswith(ZIP) and not _ends_as_a_zip(file, size):
        raise ValueError(f"it starts as a zip and its end is missing, so the download was cut short: {_AGAIN}")


def read_text_file(path: Path) -> bytes:
    """Reads a file of text beside weights, such as a configuration or a tokenizer's.

    Raises ValueError, saying what it is and what helps, for a pointer and a web page.
    """
    content = read_file(path)
    try:
        _check_head(content[:512])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return content


def _check_head(head: bytes) -> None:
    text = head[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"version https://git-lfs"):
        raise ValueError("it is a pointer of Git LFS, not the file itself: `git lfs pull` in its folder fetches that")
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise ValueError(
            "it is a web page: the address leads to a page of the file, or asks for a login or a consent; open it in a "
            "browser and save what its download button gives"
        )


def _check_safetensors(file: BinaryIO, size: int) -> None:
    length = int.from_bytes(file.read(8), "little")
    if length + 8 > size:
        file.seek(8)
        if length < _INDEX_SIZE and file.read(1) == b"{":
            raise ValueError(f"{size:,} bytes are there and its names alone are {length + 8:,}: {_AGAIN}")
        raise ValueError("it does not start as a .safetensors does")
    if length > _INDEX_SIZE:
        return
    try:
        header = json.loads(file.read(length))
        needed = (
            8
            + length
            + max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return  # the reader of such files says what is wrong
    if isinstance(needed, int) and needed > size:
        raise ValueError(f"{size:,} of its {needed:,} bytes are there, so the download was cut short: {_AGAIN}")


def _ends_as_a_zip(file: BinaryIO, size: int) -> bool:
    file.seek(max(0, size - (1 << 16) - 22))
    return b"PK\5\6" in file.read()


def parts_of(place: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files that one network is in: of an index or of one part of several all parts, else the file itself.

    Raises ValueError where a part is missing, or the index is none.
    """
    part = _PART.search(place.name)
    if place.name.endswith(INDEX):
        names = _indexed(place)
    elif part and int(part[2]) > 1:
        names = [f"{place.name[: part.start()]}-{i:05}-of-{part[2]}{place.suffix}" for i in range(1, int(part[2]) + 1)]
    else:
        return [place]
    missing = [name for name in names if not (place.parent / name).is_file()]
    if missing:
        raise ValueError(
            f"{place}: of the {len(names)} parts of its network {len(missing)} are missing, {', '.join(missing[:3])}"
            f"{' and more' if len(missing) > 3 else ''}: download them into {place.parent}"
        )
    return [place.parent / name for name in names]


def _indexed(place: pathlib.Path) -> list[str]:
    if place.stat().st_size > _INDEX_SIZE:
        raise ValueError(f"{place}: it is no index of parts, having {place.stat().st_size:,} bytes")
    try:
        names = sorted(set(json.loads(read_file(place))["weight_map"].values()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f'{place}: it is no index, a file of JSON with "weight_map" ({error})') from error
    strange = [name for name in names if not isinstance(name, str) or pathlib.PurePath(name).name != name]
    if strange or not names:
        raise ValueError(f"{place}: its parts are not files beside it: {strange[:3]}")
    return names
