"""`imagegen list`: the recipes that come with the package, a line each."""

from __future__ import annotations

import argparse
import dataclasses

from imagegen_jax.cli.common.command import Command
from imagegen_jax.core.reporting.tables import Table
from imagegen_jax.recipes.shipped import HEADS, listing, recipes

EXAMPLES = """examples:
  imagegen list
  imagegen list mnist digits       those on these data
  imagegen train ddpm_digits       what its name is for

Times and scores are what the file of a recipe says of it, which also says for which machine and by whom."""


@dataclasses.dataclass(frozen=True)
class ListRequest:
    """Which recipes to list."""

    words: tuple[str, ...] = ()  # those with one of them in their name, family or data; () all


def run(request: ListRequest) -> str:
    """Prints the recipes that a request asks for, a line each, and returns that.

    Raises ValueError where there are none.
    """
    found = Table("", HEADS, listing(request.words))
    if not found.rows:
        families = ", ".join(sorted({recipe.family for recipe in recipes().values()}))
        raise ValueError(
            f"no recipe has {' or '.join(map(repr, request.words))} in its name, family or data: {families}"
        )
    found.print()
    return str(found)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen list`."""
    parser.add_argument("words", nargs="*", metavar="WORD", help="parts of names, families or data (default: all)")


COMMAND = Command(
    "list", "list the recipes: family, data, cost and expected score", add_options, ListRequest, run, EXAMPLES
)
