"""Edits of what a model draws by a prompt, by changing the prompt: prompt-to-prompt."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

import numpy as np

from imagegen_jax.cli.common.options import integer, number
from imagegen_jax.cli.common.runs import add_scalar, classes_of, open_run, scalars_of
from imagegen_jax.cli.edit.common import EditRequest, checked_place, edit
from imagegen_jax.core.arrays.texts import conditions_of
from imagegen_jax.core.drawing import draw
from imagegen_jax.data.pictures.captions import by_prompt
from imagegen_jax.data.pictures.output import write_picture
from imagegen_jax.editing.rewording import aligned, last_level, reworded
from imagegen_jax.editing.rows import as_bytes, made
from imagegen_jax.editing.worded import worded_model

IMAGES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewordRequest(EditRequest):
    """Images by a prompt, and the same images by another: prompt-to-prompt."""

    prompt: str
    to: str | None = None  # the prompt that it becomes; None: itself, with words reweighted
    out: str | pathlib.Path = "reword.png"
    cross_replace: float = 0.8  # share of the steps in which words are looked at as in the first drawing
    self_replace: float = 0.4  # likewise, in which places look at each other as there
    reweight: tuple[tuple[str, float], ...] = ()  # words of the second prompt, and the factor of their weights
    n: int = IMAGES
    guidance: float | None = None
    negative_prompt: str | None = None


def reword(request: RewordRequest) -> pathlib.Path:
    """Draws images by both prompts, writes them side by side, and returns the picture's place.

    Raises ValueError where nothing is reworded, for a word that the prompt does not have, and for a model that has no
    words, or does not look at them by cross-attention.
    """
    place = checked_place(request)
    opened = open_run(request, "imagegen edit reword", request.guidance)
    run, model, n = opened.run, worded_model(opened.model), request.n
    prompt, to = request.prompt, request.prompt if request.to is None else request.to
    if prompt == to and not request.reweight:
        raise ValueError(
            "nothing is reworded: say what the prompt becomes (--to TEXT), or reweight a word (--reweight)"
        )
    factors = _factors(request.reweight)
    classes = classes_of(request.labels, run, n)
    conditions = {
        **draw.label_conditions(np.resize(classes, n) if classes else None),
        **scalars_of(opened.model, guidance=request.guidance),
    }
    negative = () if request.negative_prompt is None else (request.negative_prompt,)
    conditions = run.prompted(n, [prompt], negative, **conditions)
    draw.check_conditions(opened.model, n, conditions)
    words = aligned(run.tokenizer, prompt, to, factors)
    rows = {
        "conditions": conditions,
        "to": conditions_of(run.tokenizer, [to] * n),
        **{name: np.tile(x, (n, *(1,) * x.ndim)) for name, x in words._asdict().items()},
    }
    sigmas = model.path.sigmas
    levels = {"cross": last_level(sigmas, request.cross_replace), "self": last_level(sigmas, request.self_replace)}
    seed, check = request.seed or 0, opened.check_used
    found = as_bytes(made(run, reworded, rows, levels, chunk=request.chunk, seed=seed, check=check))
    texts = (prompt, f"{to}{''.join(f' ({word} x {factor:g})' for word, factor in request.reweight)}")
    images = found.swapaxes(0, 1).reshape(2 * n, *found.shape[2:])
    write_picture(place, by_prompt(images, [text for text in texts for _ in range(n)], columns=n), opened.said(texts))
    print(f"{n} images by the prompt and by what it becomes in {place}")
    return place


def _factors(reweight: tuple[tuple[str, float], ...]) -> dict[str, float]:
    """Returns the factor of each word. Raises ValueError for a word that is given twice, in large letters or small."""
    found: dict[str, float] = {}
    for word, factor in reweight:
        if any(word.casefold() == other.casefold() for other in found):
            raise ValueError(f"--reweight {word}={factor:g}: {word!r} has a factor already: name a word once")
        found[word] = factor
    return found


def _weighted(text: str) -> tuple[str, float]:
    word, _, factor = text.rpartition("=")
    if not word:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form WORD=FACTOR, such as red=2")
    return word, number(-10, 10)(factor)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="what is drawn first")
    parser.add_argument("--to", metavar="TEXT", help="what the prompt becomes (default: itself, with --reweight)")
    parser.add_argument(
        "--cross-replace", type=number(0, 1), default=0.8, metavar="SHARE",
        help="of the steps, in which words are looked at as in the first drawing: 0 is the second prompt's own layout, "
        "1 the first one's (default: 0.8)",
    )  # fmt: skip
    parser.add_argument(
        "--self-replace",
        type=number(0, 1),
        default=0.4,
        metavar="SHARE",
        help="of the steps, in which places look at each other as in the first drawing (default: 0.4)",
    )
    parser.add_argument(
        "--reweight", type=_weighted, action="append", default=[], metavar="WORD=FACTOR",
        help="how strongly a word of the second prompt counts, such as red=2; several times for several words",
    )  # fmt: skip
    parser.add_argument("--n", type=integer(), default=IMAGES, help=f"how many images (default: {IMAGES})")
    add_scalar(parser, "guidance")
    parser.add_argument("--negative-prompt", metavar="TEXT", help="what --guidance leads away from")


EDITS = (
    edit(
        "reword", "images by a prompt, and the same images by another: prompt-to-prompt", RewordRequest, reword,
        _options, aliases=("prompt-to-prompt",),
    ),
)  # fmt: skip
