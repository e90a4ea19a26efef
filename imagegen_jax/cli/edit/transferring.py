"""`imagegen edit style`: one picture with the style of another. It needs no run, but the weights of MobileNetV1."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import time
from collections.abc import Iterator
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.options import add_metadata_option, integer, number, seed
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.image import to_float, to_uint8
from imagegen_jax.core.provenance.origin import origin_without_run
from imagegen_jax.core.reporting.progress import Progress
from imagegen_jax.data.pictures.output import PICTURES, VIDEOS, check_output, check_picture_size, write_picture
from imagegen_jax.data.pictures.user_images import read_picture
from imagegen_jax.data.pictures.video import check_video, write_video
from imagegen_jax.editing.exemplars.style import LAYERS, LEAST, OTHER_LAYERS, Transfer, transferred
from imagegen_jax.metrics.features.mobilenet import mobilenet
from imagegen_jax.metrics.scores.similarity import WINDOW, ssim
from imagegen_jax.metrics.scores.textures import distance_of_halves, gram_distance

FPS = 25
FRAMES_OF = 2  # steps that a frame of the video stands for
REPORT_EVERY = 10  # steps between two looks at the loss; each look waits for the device


@dataclasses.dataclass(frozen=True)
class StyleRequest:
    """A picture with the style of another."""

    content: str  # a picture
    _: dataclasses.KW_ONLY
    style: str  # another
    mobilenet: str | pathlib.Path  # MobileNetV1's weights, or a folder with them
    out: str | pathlib.Path = "style.png"
    video: str | pathlib.Path | None = None  # of the way there
    size: int = 256  # pixels of the shorter side of both pictures, at most
    steps: int = Transfer.steps
    content_weight: float = Transfer.content_weight
    loss: Literal["wasserstein", "gram"] = "wasserstein"
    seed: int = 0
    metadata: bool = True  # whether the picture and the video say in their metadata how they were made


def run(request: StyleRequest) -> pathlib.Path:
    """Writes the picture, and the video of the way, says how near style and content are, and returns its place.

    Raises ValueError for pictures that are too small, weights of another network, and places that cannot be written.
    """
    place = check_output(request.out, PICTURES)
    if request.video is not None:
        check_video(check_output(request.video, VIDEOS, "--video"), FPS)
    content, style = read_picture(request.content, request.size), read_picture(request.style, request.size)
    check_picture_size(place, *content.shape[:2])
    network = mobilenet(request.mobilenet)
    compiling.use_persistent_cache()
    weights = {name: jnp.asarray(array) for name, array in network.weights.items()}
    transfer = Transfer(request.steps, request.content_weight, request.loss)
    begun = time.monotonic()
    frames = list(_frames(weights, content, style, transfer, request))
    took = time.monotonic() - begun
    origin = origin_without_run("imagegen edit style", request, request.seed) if request.metadata else None
    write_picture(place, frames[-1], origin)
    if request.video is not None:
        write_video(request.video, [content, *frames], FPS, origin)
    print(f"{content.shape[1]}x{content.shape[0]} pixels in {place}, {took:.0f} s")
    _say_distances(weights, frames[-1], content, style)
    return place


def _frames(
    weights: dict[str, jax.Array], content: np.ndarray, style: np.ndarray, transfer: Transfer, request: StyleRequest
) -> Iterator[np.ndarray]:
    """Yields what the video shows, the result last; without a video, the result alone."""
    key = jax.random.key(request.seed)
    given, wanted = (to_float(jnp.asarray(picture)) for picture in (content, style))
    steps = transferred(weights, given, wanted, transfer, key)
    with Progress("style", transfer.steps, "steps") as shown:
        for i, step in enumerate(steps, 1):
            if i % REPORT_EVERY == 1:
                shown.also(loss=f"{float(step.loss):.4g}")
            if i == transfer.steps or (request.video is not None and i % FRAMES_OF == 0):
                yield np.asarray(to_uint8(step.image))
            shown.add()


def _say_distances(weights: dict[str, jax.Array], image: np.ndarray, content: np.ndarray, style: np.ndarray) -> None:
    for layers, what in ((LAYERS, "that were optimised"), (OTHER_LAYERS, "that were not")):
        before, after = (gram_distance(weights, x, style, layers) for x in (content, image))
        halves = f"{distance_of_halves(weights, style, layers):.2f}" if style.shape[1] >= 2 * LEAST else "too small"
        print(
            f"Gram distance to the style, in layers {what}: {after:.2f} ({before:.2f} before, {halves} between the "
            "style's own halves)"
        )
    if min(content.shape[:2]) >= WINDOW:
        print(f"SSIM to the content, in grey: {similarity(image, content):.2f}")


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Computes the SSIM of two RGB pictures in grey."""
    first, second = (np.asarray(Image.fromarray(x).convert("L"))[None, :, :, None] for x in (a, b))
    return float(ssim(first, second, (0, 255))[0])


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("content", metavar="CONTENT", help="a picture, which keeps its content")
    parser.add_argument("--style", required=True, metavar="PICTURE", help="the picture whose style it gets")
    parser.add_argument(
        "--mobilenet", required=True, type=pathlib.Path, metavar="WEIGHTS",
        help="MobileNetV1 of width 1.0 by Keras as .npz, or a folder with it",
    )  # fmt: skip
    parser.add_argument("--out", default="style.png", help=f"{' or '.join(PICTURES)} (default: style.png)")
    parser.add_argument("--video", metavar="PLACE", help=f"write the way there too: {' or '.join(VIDEOS)}")
    parser.add_argument(
        "--size", type=integer(LEAST), default=256,
        help="pixels of the shorter side of both pictures, at most (default: 256); smaller ones stay as they are",
    )  # fmt: skip
    parser.add_argument("--steps", type=integer(), default=Transfer.steps, help=f"default: {Transfer.steps}")
    parser.add_argument(
        "--content-weight", type=number(0), default=Transfer.content_weight,
        help=f"more: nearer to the content, 0: texture alone (default: {Transfer.content_weight})",
    )  # fmt: skip
    parser.add_argument(
        "--loss", choices=("wasserstein", "gram"), default="wasserstein",
        help="how styles are compared: whole distributions of features, or products of two (default: wasserstein)",
    )  # fmt: skip
    parser.add_argument("--seed", type=seed, default=0, help="default: 0")
    add_metadata_option(parser)


EDITS = (Command("style", "a picture with the style of another; no run is needed", _add_options, StyleRequest, run),)
