"""What all edits share: fields of their requests, options for these, and the picture that most of them write."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.options import integer
from imagegen_jax.cli.common.runs import Opened, RunRequest, add_run_options
from imagegen_jax.core.drawing.grid import grid, magnified
from imagegen_jax.data.pictures.output import PICTURES, check_output, write_picture


@dataclasses.dataclass(frozen=True, kw_only=True)
class EditRequest(RunRequest):
    """The fields of every edit's request; each edit has a default of its own for `out`."""

    out: str | pathlib.Path
    chunk: int = 64  # images made at a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class GivenImagesRequest(EditRequest):
    """The fields of an edit that begins with given images."""

    images: tuple[str, ...]  # places: files, folders or .zip files
    fit: bool = False  # whether images of another size are made to fit

    @property
    def begins_with_images(self) -> bool:
        """Tells whether images are given."""
        return bool(self.images)


def edit(
    name: str,
    about: str,
    request: type[EditRequest],
    run: Callable[[Any], pathlib.Path],
    add_options: Callable[[argparse.ArgumentParser], None],
    kinds: Sequence[str] = PICTURES,
    aliases: tuple[str, ...] = (),
) -> Command:
    """Makes an edit: a command below `imagegen edit`, with the options that all have, which writes one of `kinds`."""

    def add_all(parser: argparse.ArgumentParser) -> None:
        add_run_options(parser)
        fields = {field.name: field.default for field in dataclasses.fields(request)}
        out, chunk = fields["out"], fields["chunk"]
        parser.add_argument("--out", default=out, help=f"{' or '.join(kinds)} (default: {out})")
        parser.add_argument("--chunk", type=integer(), default=chunk, help=f"images made at a time (default: {chunk})")
        add_options(parser)

    return Command(name, about, add_all, request, run, takes_more=True, aliases=aliases)


def add_images(parser: argparse.ArgumentParser) -> None:
    """Adds the options of edits that start from images."""
    parser.add_argument("images", nargs="+", metavar="PLACE", help="files, folders or .zip files")
    parser.add_argument(
        "--fit", action="store_true",
        help="cut out the centre square of images of another size, resize and convert them (else they are refused)",
    )  # fmt: skip


def checked_place(request: EditRequest, kinds: Sequence[str] = PICTURES) -> pathlib.Path:
    """Returns the place to write to. Raises ValueError, before any work, where it cannot be written."""
    return check_output(request.out, kinds)


def write_grid(place: pathlib.Path, images: np.ndarray, columns: int, opened: Opened, more: str = "") -> pathlib.Path:
    """Writes uint8 images [n h w c] as a grid of what was `opened`, says so, with `more`, and returns the place."""
    write_picture(place, magnified(grid(images, columns), images.shape[1]), opened.origin)
    print(f"{len(images)} images in {place}{more}")
    return place
