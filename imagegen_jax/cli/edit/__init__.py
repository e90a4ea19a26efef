"""`imagegen edit`: what trained models make of latents, of styles and of given images; pictures without a model."""

from __future__ import annotations

import argparse
from typing import Any

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.edit import (
    attending,
    projecting,
    reconstructing,
    redrawing,
    restoring,
    rewording,
    styles,
    texturing,
    transferring,
    walking,
)

EXAMPLES = """examples:
  imagegen edit mix runs/stylegan2 --layers coarse
  imagegen edit truncate runs/stylegan2 --range -1 1
  imagegen edit interpolate runs/dcgan --latents 6 --out walk.gif
  imagegen edit interpolate runs/shapes_text --prompt "a red circle" --prompt "a blue cross" --out between.png
  imagegen edit directions runs/stylegan2 --layers 0-3
  imagegen edit project runs/stylegan2 photo.png --steps 500
  imagegen edit reconstruct runs/vqvae_digits digit.png       an autoencoder's, beside it
  imagegen edit inpaint runs/ddpm photo.png --mask mask.png    what is white in the mask is drawn anew
  imagegen edit redraw runs/ddpm sketch.png --strength 0.6
  imagegen edit resemble runs/ddpm photo.png --factor 8
  imagegen edit enlarge runs/ddpm small.png --factor 4
  imagegen edit colour runs/ddpm grey.png --method dps
  imagegen edit deblur runs/ddpm blurred.png --sigma 1.5
  imagegen edit morph runs/ddpm one.png other.png
  imagegen edit reclass runs/ddpm_digits three.png --from 3 --to 5,8
  imagegen edit attention runs/shapes_text --prompt "a small red circle on the left" --guidance 3
  imagegen edit reword runs/shapes_text --prompt "a red circle" --to "a blue circle" --guidance 3
  imagegen edit style photo.png --style painting.png --mobilenet weights/       no run is needed
  imagegen edit texture bark.png --size 256                    no run is needed

imagegen edit EDIT --help shows an edit's options."""

EDITS: tuple[Command, ...] = (
    *styles.EDITS, *walking.EDITS, *projecting.EDITS, *reconstructing.EDITS, *restoring.EDITS, *redrawing.EDITS,
    *attending.EDITS, *rewording.EDITS, *transferring.EDITS, *texturing.EDITS,
)  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the edits as commands below `imagegen edit`."""
    edits = parser.add_subparsers(required=True, metavar="EDIT")
    for edit in EDITS:
        edit.add_to(edits)


def run(request: Any) -> Any:
    """Does the edit that requests of this class are for."""
    return next(edit for edit in EDITS if edit.request is type(request)).run(request)


COMMAND = Command(
    "edit", "edit what a model makes: mix, truncate, ...; inpaint, redraw, enlarge, ...; style, texture without one",
    add_options, object, run, EXAMPLES,
)  # fmt: skip
