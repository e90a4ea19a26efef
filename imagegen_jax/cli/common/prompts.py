"""Prompts of a command: texts that say what to draw, and what guidance is to lead away from."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
from typing import Any, TypeVar

from imagegen_jax.core.arrays.texts import texts_of
from imagegen_jax.core.capabilities import reads_text
from imagegen_jax.core.run import Run

EACH = 8  # images of a prompt, where nothing else is asked for and prompts are few


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptRequest:
    """What to draw, in words."""

    prompt: tuple[str, ...] = ()  # each for as many images as the others
    prompts: str | pathlib.Path | None = None  # a file with a prompt a line, in place of `prompt`
    negative_prompt: str | None = None  # of all images


R = TypeVar("R", bound=PromptRequest)


def add_prompts(parser: argparse.ArgumentParser, otherwise: str = "captions of the training data") -> None:
    """Adds the options that say what to draw, in words; `otherwise` says what is drawn without."""
    parser.add_argument(
        "--prompt", action="append", default=[], metavar="TEXT",
        help="what to draw, for a model that reads text; several times for several prompts, each as often (default: "
        f"{otherwise})",
    )  # fmt: skip
    parser.add_argument("--prompts", type=pathlib.Path, metavar="FILE", help="a text file with a prompt a line")
    parser.add_argument("--negative-prompt", metavar="TEXT", help="what --guidance leads away from")


def prompts_of(request: PromptRequest) -> tuple[str, ...]:
    """Returns the prompts of a request, those of its file where it names one; () for none.

    A file may be a pipe, which is empty when it is read again: call this once. Raises ValueError where both are given,
    and for a file that is missing, empty or no text in UTF-8.
    """
    if request.prompts is None:
        return request.prompt
    if request.prompt:
        raise ValueError(f"--prompts {request.prompts}: --prompt is given too: put all prompts into the file")
    place = pathlib.Path(request.prompts).expanduser()
    try:
        lines = place.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--prompts {request.prompts}: no text in UTF-8 can be read there ({error})") from error
    found = tuple(line.strip() for line in lines if line.strip())
    if not found:
        raise ValueError(f"--prompts {request.prompts}: it holds no prompt: write one a line")
    return found


def with_prompts(request: R) -> R:
    """Returns a request with the prompts of its file in itself, for a command that asks for them more than once."""
    return dataclasses.replace(request, prompt=prompts_of(request), prompts=None)


def number_of_images(prompts: tuple[str, ...], n: int | None, otherwise: int) -> int:
    """Returns how many images are drawn: `n`, or some of each prompt, or `otherwise` without prompts.

    Raises ValueError where `n` is fewer than the prompts.
    """
    if n is not None and n < len(prompts):
        raise ValueError(f"--n {n}: there are {len(prompts)} prompts: ask for at least one image of each")
    return n or (len(prompts) * (EACH if len(prompts) <= EACH else 1) if prompts else otherwise)


def drawn_texts(prompts: tuple[str, ...], run: Run, n: int, seed: int) -> tuple[str, ...]:
    """Returns the prompt of each of `n` images: those that are given, or captions of the data; () without text.

    Raises ValueError for more prompts than images.
    """
    model = run.experiment.model
    if len(prompts) > n:
        raise ValueError(f"{len(prompts)} prompts for {n} images: name fewer prompts, or more images (--source)")
    if prompts:
        return tuple(prompts[i * len(prompts) // n] for i in range(n))
    if reads_text(model) is None:
        return ()
    data = run.experiment.data.open()
    print(f"no --prompt: captions of the training data, {run.experiment.data}", file=sys.stderr)
    return texts_of(data, n, seed)


def texts_in_turn(request: PromptRequest, model: Any, n: int) -> tuple[str, ...]:
    """Returns the prompt of each of `n` given images, those of the request in turn; () without any.

    Raises ValueError where the model reads text and there are none, or where there are more than images.
    """
    prompts = prompts_of(request)
    if not prompts and reads_text(model) is not None:
        raise ValueError('this model reads text: say what the images are to show, such as --prompt "a red circle"')
    if len(prompts) > n:
        raise ValueError(f"{len(prompts)} prompts for {n} images: name fewer")
    return tuple(prompts[i % len(prompts)] for i in range(n)) if prompts else ()


def conditions_of_prompts(texts: tuple[str, ...], negative: str | None, run: Run) -> dict[str, Any]:
    """Returns texts, one an image, and a negative prompt as conditions. Raises what `prompted` does."""
    if not texts and negative is None:
        return {}
    return run.prompted(len(texts), texts, () if negative is None else (negative,))
