"""Options that several commands have: where classes come from, and how the images of a source are read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from imagegen_jax.cli.common import options as types

READING = ("size", "channels", "skip_damaged")  # the settings of `add_source_options`
LARGEST = 16_384  # pixels of a side: an image of it takes about a gigabyte


def add_module_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option that names where a run's own classes come from."""
    parser.add_argument(
        "--module", action="append", default=[], dest="modules",
        help="a module or .py file that the run's own classes come from",
    )  # fmt: skip


def add_source_options(parser: argparse.ArgumentParser, size: str = "as they are") -> None:
    """Adds the options that say how a source's images are read; `size` is the help's word for the default size."""
    from imagegen_jax.data.decode import MODES  # most commands have no such options, and it imports much

    parser.add_argument(
        "--size", type=types.integer(1, LARGEST), metavar="PIXELS",
        help=f"cut out the centre square of each image and bring it to this size (default: {size})",
    )  # fmt: skip
    parser.add_argument(
        "--channels", type=int, choices=tuple(MODES), help="1 grey, 3 RGB, 4 RGBA (default: as they are)"
    )
    parser.add_argument(
        "--skip-damaged", action="store_true", default=None, help="leave out damaged files and files that are no images"
    )


def add_set_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which part of a named set is read, and where it is."""
    parser.add_argument("--split", help="split of a TFDS set (default: train) or of digits (default: all)")
    parser.add_argument("--data-dir", help="where TFDS keeps its data")


def given_settings(request: Any, names: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the settings of sources that a request gives, by name; `names` are those that it has, if not all."""
    from imagegen_jax.data.parse import SETTINGS

    return {name: value for name in names or SETTINGS if (value := getattr(request, name)) is not None}
