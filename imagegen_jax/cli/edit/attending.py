"""An edit that changes nothing: it shows where in an image the words of its prompt are looked at."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

import numpy as np

from imagegen_jax.cli.common.options import integer
from imagegen_jax.cli.common.prompts import (
    PromptRequest,
    add_prompts,
    conditions_of_prompts,
    drawn_texts,
    number_of_images,
    prompts_of,
)
from imagegen_jax.cli.common.runs import add_scalar, classes_of, open_run, scalars_of
from imagegen_jax.cli.edit.common import EditRequest, checked_place, edit
from imagegen_jax.core.arrays.space import space_of
from imagegen_jax.core.arrays.texts import Tokenizer
from imagegen_jax.core.capabilities import reads_text
from imagegen_jax.core.drawing import draw
from imagegen_jax.core.drawing.grid import coloured, grid, magnified
from imagegen_jax.data.pictures.captions import filled, row_under
from imagegen_jax.data.pictures.output import write_picture
from imagegen_jax.editing import attention
from imagegen_jax.editing.denoiser import denoising_model
from imagegen_jax.editing.rows import floats, made
from imagegen_jax.nn.backbones.conditioning import TEXT

IMAGES = 4  # drawn where nothing else is asked for


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionRequest(PromptRequest, EditRequest):
    """Images by prompts, each beside maps of where its words are looked at."""

    out: str | pathlib.Path = "attention.png"
    n: int | None = None  # images; None: 4, or one for each of more prompts
    guidance: float | None = None


def attend(request: AttentionRequest) -> pathlib.Path:
    """Draws images by prompts, writes each beside the maps of its words, and returns the picture's place.

    Raises ValueError for a model that reads no text, draws latents, or has no cross-attention to one row.
    """
    place = checked_place(request)
    opened = open_run(request, "imagegen edit attention", request.guidance)
    run, model, seed = opened.run, opened.model, request.seed or 0
    denoising_model(model)  # or it is refused
    if reads_text(model) is None or not space_of(model).draws_images:
        raise ValueError(
            f"{run.workdir}: only images that a model draws by text have words to look for: use a run of such a model, "
            "such as one of the recipe shapes_text"
        )
    prompts = prompts_of(request)
    n = number_of_images(prompts, request.n or max(IMAGES, len(prompts)), IMAGES)
    texts, classes = drawn_texts(prompts, run, n, seed), classes_of(request.labels, run, n)
    conditions = conditions_of_prompts(texts, request.negative_prompt, run)
    conditions |= scalars_of(model, guidance=request.guidance)
    conditions |= draw.label_conditions(np.resize(classes, n) if classes else None)
    images = run.sample(n, None, seed, request.chunk, **conditions)
    told = {name: conditions[name] for name in (*TEXT, "label") if name in conditions}
    rows = {"image": floats(images), "conditions": told}
    shares = made(run, attention.attended, rows, chunk=request.chunk, seed=seed)
    tokenizer = attention.row_seen(run.tokenizer, shares.shape[-1])
    pictures = [row_of(*one, tokenizer) for one in zip(images, shares, texts, strict=True)]
    width = max(picture.shape[1] for picture in pictures)
    picture = np.concatenate([filled(picture, picture.shape[0], width) for picture in pictures])
    write_picture(place, picture, opened.said(texts))
    print(f"{n} images with maps of their words in {place}")
    return place


def row_of(image: np.ndarray, shares: np.ndarray, text: str, tokenizer: Tokenizer) -> np.ndarray:
    """Returns an image [h w c] and the maps of its words side by side, each under its word."""
    words = attention.words_of(tokenizer, text)
    maps = [attention.heated(image, shares[..., word.tokens].sum(axis=-1)) for word in words]
    cells = [magnified(grid(coloured(one[None]), 1), len(image)) for one in (image, *maps)]
    return row_under(("", *(word.text for word in words)), cells)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_prompts(parser)
    parser.add_argument("--n", type=integer(), help=f"how many images (default: {IMAGES}, or one a prompt)")
    add_scalar(parser, "guidance")


EDITS = (
    edit("attention", "where in an image each word of its prompt is looked at", AttentionRequest, attend, _add_options),
)
