"""`imagegen edit texture`: more of a picture's texture, from its patches alone. It needs neither a run nor weights."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import time
from collections.abc import Iterator
from typing import Literal

import jax.numpy as jnp
import numpy as np

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.options import add_metadata_option, integer, seed
from imagegen_jax.core.provenance.origin import origin_without_run
from imagegen_jax.core.reporting.progress import Progress
from imagegen_jax.data.pictures.output import PICTURES, check_output, check_picture_size, write_picture
from imagegen_jax.data.pictures.user_images import read_picture
from imagegen_jax.editing.exemplars.neighbours import Neighbours, grown, scales_of
from imagegen_jax.editing.exemplars.neighbours import check_size as check_for_neighbours
from imagegen_jax.editing.exemplars.quilting import Quilting, quilted
from imagegen_jax.editing.exemplars.quilting import check_size as check_for_quilting
from imagegen_jax.metrics.features.mobilenet import mobilenet
from imagegen_jax.metrics.scores.textures import distance_of_halves, gram_distance, verbatim_share
from imagegen_jax.nn.patches.quilting import places_of

JUDGES = (0, 1, 3, 5, 8)  # layers of MobileNetV1 that the Gram distance looks at
OVERLAP = 3  # a block has so many times as many pixels as its overlap


@dataclasses.dataclass(frozen=True)
class TextureRequest:
    """More of a picture's texture."""

    exemplar: str  # a picture
    _: dataclasses.KW_ONLY
    out: str | pathlib.Path = "texture.png"
    size: int = 256  # pixels of a side
    method: Literal["neighbours", "quilting"] = "neighbours"
    exemplar_size: int = 128  # pixels of the exemplar's shorter side, at most
    block: int | None = None  # pixels of a block's side; None: 24, in quilting
    mobilenet: str | pathlib.Path | None = None  # weights to judge by
    seed: int = 0
    metadata: bool = True  # whether the picture says in its metadata how it was made


def run(request: TextureRequest) -> pathlib.Path:
    """Writes the texture, says how much of it was copied, and returns its place.

    Raises ValueError for an exemplar that is too small, a size that is, and a place that cannot be written.
    """
    place = check_output(request.out, PICTURES)
    check_picture_size(place, request.size, request.size)
    if request.block is not None and request.method != "quilting":
        raise ValueError(f"--block {request.block}: blocks are those of --method quilting: add it, or leave this out")
    exemplar = read_picture(request.exemplar, request.exemplar_size)
    network = None if request.mobilenet is None else mobilenet(request.mobilenet)
    begun = time.monotonic()
    images, rounds, unit = _made(request, exemplar)
    with Progress("texture", rounds, unit) as shown:
        for made in images:
            image = made
            shown.add()
    said = origin_without_run("imagegen edit texture", request, request.seed, untrained=True)
    write_picture(place, image, said if request.metadata else None)
    print(f"{request.size}x{request.size} pixels in {place}, {time.monotonic() - begun:.0f} s")
    print(f"patches of 16x16 that the exemplar holds as they are: {verbatim_share(image, exemplar):.0%}")
    if network is not None:
        weights = {name: jnp.asarray(array) for name, array in network.weights.items()}
        found = gram_distance(weights, image, exemplar, JUDGES)
        halves = distance_of_halves(weights, exemplar, JUDGES)
        print(f"Gram distance to the exemplar: {found:.2f} ({halves:.2f} between its own halves)")
    return place


def _made(request: TextureRequest, exemplar: np.ndarray) -> tuple[Iterator[np.ndarray], int, str]:
    """Returns the images as they grow, how many there will be, and what each stands for."""
    size = (request.size, request.size)
    if request.method == "neighbours":
        neighbours = Neighbours()
        check_for_neighbours(exemplar, size, neighbours)
        rounds = len(scales_of(exemplar, size, neighbours))
        return grown(exemplar, size, neighbours, request.seed), rounds, "scales"
    block = request.block or Quilting.block
    quilting = Quilting(block, max(1, block // OVERLAP))
    check_for_quilting(exemplar, quilting)
    rows = places_of(request.size, block, quilting.overlap)
    return quilted(exemplar, size, quilting, request.seed), rows, "rows"


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exemplar", metavar="EXEMPLAR", help="a picture of the texture")
    parser.add_argument("--out", default="texture.png", help=f"{' or '.join(PICTURES)} (default: texture.png)")
    parser.add_argument("--size", type=integer(16), default=256, help="pixels of a side (default: 256)")
    parser.add_argument(
        "--method", choices=("neighbours", "quilting"), default="neighbours",
        help="patches that become their nearest ones, over scales (default); or blocks with seams, which copy more",
    )  # fmt: skip
    parser.add_argument(
        "--exemplar-size", type=integer(), default=128,
        help="pixels of the exemplar's shorter side, at most (default: 128): the time grows with its fourth power",
    )  # fmt: skip
    parser.add_argument(
        "--block", type=integer(2), help=f"pixels of a block's side in quilting (default: {Quilting.block})"
    )
    parser.add_argument(
        "--mobilenet", type=pathlib.Path, metavar="WEIGHTS",
        help="judge by MobileNetV1's features too: its weights as .npz, or a folder with them",
    )  # fmt: skip
    parser.add_argument("--seed", type=seed, default=0, help="another seed, another texture (default: 0)")
    add_metadata_option(parser)


EDITS = (Command("texture", "more of a picture's texture; no run is needed", _add_options, TextureRequest, run),)
