"""`imagegen watermark`: a faint mark over any picture, and finding it again. A label, not security."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.options import number
from imagegen_jax.core.provenance.embedded import read_said
from imagegen_jax.data.pictures.output import PICTURES, check_output, write_picture
from imagegen_jax.data.pictures.user_images import read_picture
from imagegen_jax.data.pictures.watermark import (
    PSNR,
    RESIZED,
    SMALLEST,
    THRESHOLD,
    Detected,
    add_mark,
    find_mark,
)

EXAMPLES = """examples:
  imagegen watermark add grid.png --out marked.png
  imagegen watermark detect marked.png
  imagegen watermark add photo.jpg --psnr 38 --out marked.jpg
  imagegen watermark detect marked.jpg --resized --json

The mark is a label, not security: whoever has this program can take it off, or put it on a picture that nothing
generated. It is found after JPEG at 75, in parts cut out of the picture, mirrored or upside down, and after the picture
was made smaller and as large as before; --resized also looks where it was left at half its size, or twice. About 1 %
of pictures without a mark, or fewer, are called marked, more with --resized; and small pictures hold it less surely:
docs/measured.md has figures. It is one mark for everyone, and says nothing of who put it there."""


@dataclasses.dataclass(frozen=True)
class AddRequest:
    """A picture, and where it is written with a mark."""

    file: str | pathlib.Path
    _: dataclasses.KW_ONLY
    out: str | pathlib.Path = "marked.png"
    psnr: float = PSNR  # dB of the marked picture against the one before


@dataclasses.dataclass(frozen=True)
class DetectRequest:
    """A picture in which a mark is looked for."""

    file: str | pathlib.Path
    _: dataclasses.KW_ONLY
    resized: bool = False  # whether it is also looked for at half its size, and twice
    json: bool = False


def add(request: AddRequest) -> pathlib.Path:
    """Writes a picture with a mark, says so and returns its place; what it says of its origin goes with it.

    Raises ValueError where the file is no picture, or too small for a mark.
    """
    place = check_output(request.out, PICTURES)
    marked = add_mark(_read(request.file), request.psnr)
    write_picture(place, marked, read_said(request.file).origin)
    print(f"marked, at {request.psnr:g} dB, in {place}: a label, not security")
    return place


def detect(request: DetectRequest) -> Detected:
    """Looks for a mark in a picture, says how sure it is, and returns that."""
    image = _read(request.file)
    found = find_mark(image, RESIZED if request.resized else (1.0,))
    if request.json:
        print(json.dumps({"marked": found.marked, "score": round(found.score, 3), "threshold": THRESHOLD}))
        return found
    small = f"; of {SMALLEST} pixels a side or more it could hold one" if min(image.shape[:2]) < SMALLEST else ""
    said = "marked" if found.marked else "no mark is found"
    print(f"{request.file}: {said} (score {found.score:.1f}, marked above {THRESHOLD}){small}")
    return found


def _read(path: str | pathlib.Path) -> np.ndarray:
    """Reads a picture as uint8 [h w c] with its own channels. Raises ValueError where the file is no picture."""
    try:
        return read_picture(path, channels=None)
    except ValueError as error:
        raise ValueError(f"no picture that can be read: {error}: give a PNG, JPEG or WebP file") from error


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=pathlib.Path, help="a picture")


def _add_options(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument("--out", default="marked.png", help=f"{' or '.join(PICTURES)} (default: marked.png)")
    parser.add_argument(
        "--psnr", type=number(25, 60), default=PSNR,
        help=f"dB against the picture before; with fewer it is found more surely, and seen (default: {PSNR:g})",
    )  # fmt: skip


def _detect_options(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument("--resized", action="store_true", help="also look at half the size, and twice")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


WAYS: tuple[Command, ...] = (
    Command("add", "put a mark on a picture", _add_options, AddRequest, add),
    Command("detect", "look for a mark in a picture", _detect_options, DetectRequest, detect),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the commands below `imagegen watermark`."""
    ways = parser.add_subparsers(required=True, metavar="WAY")
    for way in WAYS:
        way.add_to(ways)


def run(request: AddRequest | DetectRequest) -> Any:
    """Does what requests of this class are for."""
    return add(request) if isinstance(request, AddRequest) else detect(request)


COMMAND = Command(
    "watermark", "put a faint mark on any picture, and find it again", add_options, AddRequest, run, EXAMPLES
)
