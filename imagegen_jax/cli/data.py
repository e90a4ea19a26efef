"""`imagegen data`: what a data set holds, in figures and as a picture; and preparing one."""

from __future__ import annotations

import argparse
from typing import Any

from imagegen_jax.cli import options as types
from imagegen_jax.data.decode import MODES
from imagegen_jax.data.output import PICTURES, check_output
from imagegen_jax.data.remedy import as_options, option_words, remedies_spelled

SETTINGS = ("size", "channels", "skip_damaged", "split", "data_dir")  # of sources, as options
LARGEST = 16_384  # pixels of a side: an image of it takes about a gigabyte

EXAMPLES = """examples:
  imagegen data info digits
  imagegen data info photos.zip --size 64 --channels 3 --out photos.png
  imagegen data info photos/train --skip-damaged
  imagegen data info paired:facades.zip/train
  imagegen data info unpaired:horse2zebra.zip/trainB,horse2zebra.zip/trainA
  imagegen data prepare tfds:cifar10

`info` prints figures and writes a picture; `prepare` first downloads a TFDS set where it is not there. Both decode the
images, once for all runs, and keep them in the cache. Settings that a source does not have are refused."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen data`."""
    parser.add_argument("action", choices=("info", "prepare"))
    parser.add_argument(
        "source", help="digits, a TFDS name such as mnist or tfds:cifar10, a folder, a .zip, an .npz, latents:PLACE, "
        "paired:PLACE, ...",
    )  # fmt: skip
    add_source_options(parser)
    parser.add_argument("--split", help="split of a TFDS set (default: train) or of digits (default: all)")
    parser.add_argument("--data-dir", help="where TFDS keeps its data")
    parser.add_argument("--out", default="data.png", help=f"picture, {', '.join(PICTURES)} (default: data.png)")


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say how a source's images are read."""
    parser.add_argument(
        "--size", type=types.integer(1, LARGEST), metavar="PIXELS",
        help="cut out the centre square of each image and bring it to this size (default: as they are)",
    )  # fmt: skip
    parser.add_argument(
        "--channels", type=int, choices=tuple(MODES), help="1 grey, 3 RGB, 4 RGBA (default: as they are)"
    )
    parser.add_argument(
        "--skip-damaged", action="store_true", default=None, help="leave out damaged files and files that are no images"
    )


def run_command(options: argparse.Namespace) -> None:
    """Opens the source that the command line names, prints what it holds and writes its picture."""
    from imagegen_jax.data import parse_source, prepare_tfds
    from imagegen_jax.data.describe import describe, picture_grid
    from imagegen_jax.data.parse import settings_of
    from imagegen_jax.data.tfds import TFDS

    picture = check_output(options.out, PICTURES)
    known = settings_of(options.source)
    settings = given(options)
    for name, value in settings.items():
        if name not in known:
            has = ", ".join(f"--{word.replace('_', '-')}" for word in known if word in SETTINGS) or "none of these"
            raise ValueError(
                f"{option_words('--', name, value)}: {options.source} has no such setting, only {has}: leave it out"
            )
    source = parse_source(options.source, **settings)
    with remedies_spelled(as_options(SETTINGS)):
        if options.action == "prepare" and isinstance(source, TFDS):
            try:
                prepare_tfds(source.name, source.data_dir)
            except ImportError as error:
                raise ValueError(str(error)) from error
        dataset = source.open()
        print(describe(dataset, options.source))
    picture_grid(dataset, picture)
    print(f"pictures: {picture}")


def given(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings of a source that the options give, by name."""
    found = {name: value for name, value in vars(options).items() if name in SETTINGS}
    return {name: value for name, value in found.items() if value is not None}
