"""What all edits share: their parser and the options that all have, and the picture that most write."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from imagegen_jax.cli.options import integer
from imagegen_jax.cli.runs import add_run_options
from imagegen_jax.core.grid import grid, magnified
from imagegen_jax.data.output import PICTURES, VIDEOS, write_picture
from imagegen_jax.run import Run

Command = Callable[[argparse.Namespace, Run], str]  # does an edit, and says what it did


def add_edit(
    edits: Any, name: str, what: str, command: Command, out: str = "", aliases: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """Adds an edit, a command below `imagegen edit`, with the options that all have; `command` does it."""
    description = f"{what[0].upper()}{what[1:]}."
    parser = edits.add_parser(name, aliases=aliases, help=what, description=description, allow_abbrev=False)
    add_run_options(parser)
    kinds = VIDEOS if out else PICTURES
    parser.add_argument(
        "--out", default=out or f"{name}.png", help=f"{' or '.join(kinds)} (default: {out or name + '.png'})"
    )
    parser.add_argument("--chunk", type=integer(), default=64, help="images made at a time (default: 64)")
    parser.set_defaults(edit=command, kinds=kinds, parser=parser)
    return parser


def write_grid(options: argparse.Namespace, images: np.ndarray, columns: int) -> str:
    """Writes uint8 images [n h w c] as a grid at --out, and says so."""
    write_picture(options.out, magnified(grid(images, columns), images.shape[1]))
    return f"{len(images)} images in {options.out}"
