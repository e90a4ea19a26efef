"""`imagegen data`: what a data set holds, in figures and as a picture; and preparing one."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from typing import Any, Literal

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.data_options import add_set_options, add_source_options, given_settings
from imagegen_jax.data.parse import SETTINGS, check_settings
from imagegen_jax.data.pictures.output import PICTURES, check_output
from imagegen_jax.data.remedy import as_options, remedies_spelled

EXAMPLES = """examples:
  imagegen data info digits
  imagegen data info photos.zip --size 64 --channels 3 --out photos.png
  imagegen data info photos/train --skip-damaged
  imagegen data info paired:facades.zip/train
  imagegen data info unpaired:horse2zebra.zip/trainB,horse2zebra.zip/trainA
  imagegen data info codes:codes.npz        how much of the codebook is used, and whose codes they are
  imagegen data prepare tfds:cifar10

`info` prints figures and writes a picture; `prepare` first downloads a TFDS set where it is not there. Both decode the
images, once for all runs, and keep them in the cache. Settings that a source does not have are refused."""


@dataclasses.dataclass(frozen=True)
class DataRequest:
    """The source to look at or to prepare, and how its images are read; None is the source's default."""

    action: Literal["info", "prepare"]
    source: str
    size: int | None = None
    channels: Literal[1, 3, 4] | None = None
    skip_damaged: bool | None = None
    split: str | None = None
    data_dir: str | None = None
    out: str | pathlib.Path = "data.png"  # the picture

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the settings of the source that are given, by name."""
        return given_settings(self)


def run(request: DataRequest) -> pathlib.Path:
    """Opens a source, prints what it holds, writes its picture and returns that place.

    Raises ValueError for a setting that the source does not have, and what opening it raises.
    """
    from imagegen_jax.data import parse_source, prepare_tfds
    from imagegen_jax.data.formats.tfds import TFDS
    from imagegen_jax.data.pictures.describe import describe, picture_grid

    picture = check_output(request.out, PICTURES)
    check_settings(request.source, request.settings)
    source = parse_source(request.source, **request.settings)
    with remedies_spelled(as_options(SETTINGS)):
        if request.action == "prepare" and isinstance(source, TFDS):
            try:
                prepare_tfds(source.name, source.data_dir)
            except ImportError as error:
                raise ValueError(str(error)) from error
        dataset = source.open()
        print(describe(dataset, request.source))
    picture_grid(dataset, picture)
    print(f"pictures: {picture}")
    return picture


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen data`."""
    parser.add_argument("action", choices=("info", "prepare"))
    parser.add_argument(
        "source", help="digits, a TFDS name such as mnist or tfds:cifar10, a folder, a .zip, an .npz, latents:PLACE, "
        "codes:PLACE, paired:PLACE, ...",
    )  # fmt: skip
    add_source_options(parser)
    add_set_options(parser)
    parser.add_argument("--out", default="data.png", help=f"picture, {', '.join(PICTURES)} (default: data.png)")


COMMAND = Command("data", "look at a data set, or prepare it", add_options, DataRequest, run, EXAMPLES)
