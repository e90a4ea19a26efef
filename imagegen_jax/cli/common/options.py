"""Types of command-line options: numbers with a range, seeds and steps, checked as the command line is parsed."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import Literal

from imagegen_jax.core.config.given import LARGEST, SEEDS, Range, check_seed


def integer(low: int = 1, high: int = LARGEST) -> Callable[[str], int]:
    """Makes the type of an option that takes an integer from `low` to `high`."""

    def parse(text: str) -> int:
        value = int(text) if re.fullmatch(r"\s*[+-]?\d{1,99}\s*", text) else None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} must be an integer{Range(low, high).also}")
        return value

    return parse


def number(low: float = -math.inf, high: float = math.inf, above: bool = False) -> Callable[[str], float]:
    """Makes the type of an option that takes a finite number from `low` (with `above`, above it) to `high`."""
    found = Range(low, high, above)

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value not in found:
            raise argparse.ArgumentTypeError(f"{text!r} must be a finite number{found.also}")
        return value

    return parse


def seed(text: str) -> int:
    """Parses a seed, an integer from 0 to 2**32 - 1."""
    try:
        return check_seed(integer(0, SEEDS - 1)(text))
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} must be a seed: an integer from 0 to {SEEDS - 1}") from error


def step(text: str) -> int | Literal["best"]:
    """Parses the name of a checkpoint: its step, or "best"."""
    if text != "best" and not re.fullmatch(r"\d{1,99}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a step nor 'best'")
    return "best" if text == "best" else int(text)


def add_metadata_option(parser: argparse.ArgumentParser) -> None:
    """Adds --no-metadata: pictures then say nothing of themselves."""
    parser.add_argument(
        "--no-metadata", dest="metadata", action="store_false",
        help="leave out of pictures that they are generated, and by what (`imagegen provenance` reads it)",
    )  # fmt: skip
