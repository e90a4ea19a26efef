"""Writes the page of the recipes from what their files say, with the pictures that their trainings left."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import Any

from imagegen_jax.recipes.shipped import ShippedRecipe, recipes

DOCS = pathlib.Path(__file__).resolve().parent.parent
RESULTS = DOCS.parent / "benchmarks" / "results"
PAGE = DOCS / "gallery.md"

INTRODUCTION = """# Recipes

Each comes with the package: `imagegen train NAME` trains it, `imagegen info NAME` says what it is made of, and
`imagegen train NAME --smoke` runs a tiny version in seconds. Costs and scores are what the recipe's file says, with the
machine; where a recipe has been trained here its picture is shown.
"""


def write(app: Any) -> None:
    """Writes the page, unless it is there as it would be written."""
    text = "\n".join(lines())
    if not PAGE.exists() or PAGE.read_text() != text:
        PAGE.write_text(text)


def lines() -> Iterator[str]:
    """Yields the page's lines: a section for each family, and in it each recipe."""
    yield INTRODUCTION
    family = ""
    for recipe in recipes().values():
        if recipe.family != family:
            family = recipe.family
            yield f"## {family}\n"
        yield from entry(recipe)


def entry(recipe: ShippedRecipe) -> Iterator[str]:
    """Yields what is said of one recipe."""
    yield f"### {recipe.name}\n"
    yield f"{recipe.title}\n"
    yield f"- data: `{recipe.data}`\n- cost: {recipe.cost}\n- expected: {recipe.expected}\n"
    picture = RESULTS / f"{recipe.name}.png"
    if picture.exists():
        yield f"![samples of {recipe.name}]({os.path.relpath(picture, DOCS)})\n"


def setup(app: Any) -> dict[str, bool]:
    """Takes part in Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
