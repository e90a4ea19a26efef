"""`imagegen edit reconstruct`: what a tokenizer or another autoencoder leaves of given images."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

from imagegen_jax.cli.common.runs import open_run
from imagegen_jax.cli.edit.common import GivenImagesRequest, add_images, checked_place, edit, write_grid
from imagegen_jax.core.drawing.grid import beside
from imagegen_jax.data.pictures.user_images import read_images
from imagegen_jax.editing.encoding import check_reconstructs, finite_psnr, reconstructed


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReconstructRequest(GivenImagesRequest):
    """Images, encoded and decoded again."""

    out: str | pathlib.Path = "reconstruct.png"
    seed: int | None = None  # nothing is drawn at random


def reconstruct(request: ReconstructRequest) -> pathlib.Path:
    """Writes each image beside its reconstruction, says how near they are, and returns the picture's place.

    Raises ValueError for a model without an encoder and a decoder, for images of another shape, and for a seed or
    labels, which nothing would read.
    """
    place = checked_place(request)
    opened = open_run(request, "imagegen edit reconstruct")
    check_reconstructs(opened.model)
    for option, value in (("--seed", request.seed), ("--labels", request.labels)):
        if value is not None:
            raise ValueError(f"{option} {value}: a reconstruction follows from the image alone: leave it out")
    images = read_images(request.images, opened.model.image_shape, request.fit)
    found = reconstructed(opened.model, opened.run.nets, images, request.chunk)
    ratios = finite_psnr(images, found)
    said = f"; PSNR {ratios.mean():.2f} dB" + (
        f" ({ratios.min():.2f} to {ratios.max():.2f})" if len(ratios) > 1 else ""
    )
    return write_grid(place, beside(images, found), max(1, round(len(images) ** 0.5)), opened, said)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_images(parser)
    parser.set_defaults(seed=None)


EDITS = (
    edit(
        "reconstruct", "what a tokenizer or another autoencoder leaves of images", ReconstructRequest, reconstruct,
        _add_options,
    ),
)  # fmt: skip
