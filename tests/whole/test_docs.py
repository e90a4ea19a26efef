"""The pages: their links lead somewhere, each page can be found, and the commands that they show exist."""

from __future__ import annotations

import pathlib
import re

import pytest

from imagegen_jax.cli import commands
from imagegen_jax.recipes.shipped import recipes

WRITTEN = ("gallery.md",)  # pages that the site's own extensions write
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"(?:^!|`|^ {4})imagegen ([a-z]+)(?: ([a-z0-9_]+))?", re.MULTILINE)


@pytest.fixture(scope="module")
def pages(root: pathlib.Path) -> dict[str, str]:
    """All pages by their path, README included."""
    found = [root / "README.md", *(root / "docs").glob("*.md")]
    return {str(page.relative_to(root)): page.read_text() for page in found if page.name not in WRITTEN}


def test_every_link_of_a_page_leads_to_a_file(root: pathlib.Path, pages: dict[str, str]) -> None:
    dead = [
        f"{name}: {link}"
        for name, text in pages.items()
        for link in LINK.findall(text)
        if not (root / name).parent.joinpath(link).exists() and pathlib.Path(link).name not in WRITTEN
    ]
    assert not dead


def test_every_page_is_listed(root: pathlib.Path, pages: dict[str, str]) -> None:
    listed = set(re.findall(r"^[a-z_]+$", (root / "docs/index.md").read_text(), re.MULTILINE))
    assert {pathlib.Path(name).stem for name in pages if name.startswith("docs/")} - {"index"} <= listed


def test_pages_show_commands_that_exist(pages: dict[str, str]) -> None:
    shown = {(name, *found) for name, text in pages.items() for found in COMMAND.findall(text)}
    names = {command.name for command in commands.COMMANDS}
    assert shown
    assert not {one for one in shown if one[1] not in names}
    trained = {one for one in shown if one[1] == "train" and "_" in one[2]}
    assert not {one for one in trained if one[2] not in recipes() and not one[2].startswith("my_")}


def test_the_readme_stays_one_page(pages: dict[str, str]) -> None:
    assert len(pages["README.md"].split()) <= 900
