"""The arrows between modules: they point down only, and nowhere in a circle. Read from the imports, nothing is run."""

from __future__ import annotations

import ast
import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest

PACKAGE = "imagegen_jax"
ROWS = (  # of wings, from below, as docs/architecture.md draws them: each may know those of the rows below its own
    ("core",),
    ("text",),
    ("data", "nn", "machines"),
    ("early", "gan", "autoencoders", "autoregressive", "diffusion", "metrics"),
    ("studies",),
    ("recipes", "editing", "interop"),
    ("pages",),
    ("cli",),
)
HEIGHT = {wing: height for height, row in enumerate(ROWS) for wing in row}
FILES_IN_A_ROOM = 15  # __init__.py apart


class Arrow(NamedTuple):
    """An import of one module of the package by another."""

    source: str
    target: str
    place: str  # file:line

    def __str__(self) -> str:
        return f"{self.place}: {self.source} imports {self.target}"


def modules_of(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Every module of the package by its dotted name; a folder's __init__.py by the folder's."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def parsed(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(modules: Mapping[str, pathlib.Path], name: str) -> Iterator[tuple[str, int]]:
    """(module, line) of each import in a module, in functions too; of a name that a folder's __init__.py passes on, the
    module that it comes from.
    """
    for node in ast.walk(parsed(modules[name])):
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == PACKAGE:
            for alias in node.names:
                yield origin(modules, node.module or "", alias.name), node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in modules:
                    yield alias.name, node.lineno


def origin(modules: Mapping[str, pathlib.Path], module: str, name: str) -> str:
    """The module that `from module import name` is about."""
    if f"{module}.{name}" in modules and not passes_on(modules, module, name):
        return f"{module}.{name}"
    further = passes_on(modules, module, name)
    return origin(modules, *further) if further else module


def passes_on(modules: Mapping[str, pathlib.Path], module: str, name: str) -> tuple[str, str] | None:
    """Where a folder's __init__.py has a name from: (module, name there)."""
    if modules.get(module, pathlib.Path()).name != "__init__.py":
        return None
    for node in ast.walk(parsed(modules[module])):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return node.module or "", alias.name
    return None


def arrows_of(root: pathlib.Path) -> list[Arrow]:
    """All arrows but those of __init__.py files, which pass names on and are seen through."""
    modules = modules_of(root)
    return [
        Arrow(name, target, f"{path.relative_to(root)}:{line}")
        for name, path in modules.items()
        if path.name != "__init__.py"
        for target, line in imported(modules, name)
        if target != name
    ]


def wing(module: str) -> str:
    """The wing of a module, such as "core" of "imagegen_jax.core.step"; "" of what is in none."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in HEIGHT else ""


def allowed(source: str, target: str) -> bool:
    """Whether a module of the wing `source` may know one of the wing `target`."""
    return not source or source == target or (bool(target) and HEIGHT[target] < HEIGHT[source])


def wrong(arrows: list[Arrow]) -> list[str]:
    """What the arrows that point up are, and what they may point to; `moved` and the package itself are below all."""
    beneath = (PACKAGE, f"{PACKAGE}.moved")
    return [
        f"{arrow}, but {wing(arrow.source)}/ may know {knows(wing(arrow.source))} alone"
        for arrow in arrows
        if arrow.target not in beneath and not allowed(wing(arrow.source), wing(arrow.target))
    ]


def knows(name: str) -> str:
    """The wings that a wing may know, in words."""
    return ", ".join(other for other in HEIGHT if allowed(name, other))


def parting(source: str, target: str) -> tuple[str, str]:
    """What two modules lie in, below the folder that both are in: ("core/arrays", "core/model") for two of core/."""
    one, other = source.split("."), target.split(".")
    same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return "/".join(one[: same + 1]), "/".join(other[: same + 1])


def circle(edges: list[tuple[str, str, Arrow]]) -> list[Arrow]:
    """The arrows of one circle of (from, to, arrow), the shortest of those through its first node; [] without one."""
    following: dict[str, dict[str, Arrow]] = {}
    for source, target, arrow in edges:
        following.setdefault(source, {}).setdefault(target, arrow)
    best: list[Arrow] = []
    for start in sorted(following):
        ways: dict[str, list[Arrow]] = {start: []}
        waiting = [start]
        for node in waiting:
            for target, arrow in following.get(node, {}).items():
                if target == start and (not best or len(ways[node]) + 1 < len(best)):
                    best = [*ways[node], arrow]
                if target not in ways:
                    ways[target] = [*ways[node], arrow]
                    waiting.append(target)
    return best


def shown(arrows: list[Arrow]) -> str:
    return "a circle:\n" + "\n".join(f"  {arrow}" for arrow in arrows)


@pytest.fixture(scope="module")
def arrows(root: pathlib.Path) -> list[Arrow]:
    return arrows_of(root)


def test_arrows_point_down_only(arrows: list[Arrow]) -> None:
    assert len(arrows) > 1_000
    found = wrong(arrows)
    assert not found, "\n" + "\n".join(found)


def test_the_drawing_is_right(root: pathlib.Path) -> None:
    """Each folder of the package is in its row of docs/architecture.md, and of the rows that are tested here."""
    folders = {path.parent.name for path in (root / PACKAGE).glob("*/__init__.py")}
    drawing = (root / "docs" / "architecture.md").read_text().split("```")[1]
    drawn = [set(line.split()) & set(HEIGHT) for line in reversed([line[:58] for line in drawing.strip().splitlines()])]
    assert drawn == [folders & set(row) for row in ROWS]
    assert folders <= set(HEIGHT)


def test_no_circle_of_what_lies_in_one_folder(arrows: list[Arrow]) -> None:
    """Files and folders of each folder, so that wings form no circle, nor do rooms, nor a room and a file beside it."""
    found = circle([(*parting(arrow.source, arrow.target), arrow) for arrow in arrows])
    assert not found, shown(found)


def test_no_circle_of_modules(arrows: list[Arrow]) -> None:
    found = circle([(arrow.source, arrow.target, arrow) for arrow in arrows])
    assert not found, shown(found)


def test_no_room_is_a_warehouse(root: pathlib.Path) -> None:
    rooms: dict[str, int] = {}
    for top in (PACKAGE, "tests"):
        for path in (root / top).rglob("*.py"):
            if path.name != "__init__.py" and "reference" not in path.parts:
                rooms[str(path.parent.relative_to(root))] = rooms.get(str(path.parent.relative_to(root)), 0) + 1
    assert not {room: files for room, files in rooms.items() if files > FILES_IN_A_ROOM}


@pytest.fixture
def small(tmp_path: pathlib.Path) -> pathlib.Path:
    """A package with one arrow of each wrong kind."""
    files = {
        "__init__.py": "",
        "core/__init__.py": "",
        "core/step.py": "import math\n\nfrom imagegen_jax.data import Folder\n",
        "data/__init__.py": "from imagegen_jax.data.folder import Folder\n",
        "data/folder.py": "def read():\n    from imagegen_jax.core import step\n",
        "gan/__init__.py": "",
        "gan/dcgan.py": "import imagegen_jax.diffusion.ddpm\n",
        "diffusion/__init__.py": "",
        "diffusion/ddpm.py": "from imagegen_jax.core.step import train\n",
        "nn/__init__.py": "",
        "nn/unet.py": "from imagegen_jax import cli\n",
        "cli/__init__.py": "",
        "metrics/__init__.py": "",
        "metrics/fid.py": "from imagegen_jax.cli import main\n",
    }
    for name, text in files.items():
        place = tmp_path / PACKAGE / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return tmp_path


def test_a_wrong_arrow_is_named_with_its_place(small: pathlib.Path) -> None:
    assert [line.split(",")[0] for line in wrong(arrows_of(small))] == [
        "imagegen_jax/core/step.py:3: imagegen_jax.core.step imports imagegen_jax.data.folder",
        "imagegen_jax/gan/dcgan.py:1: imagegen_jax.gan.dcgan imports imagegen_jax.diffusion.ddpm",
        "imagegen_jax/metrics/fid.py:1: imagegen_jax.metrics.fid imports imagegen_jax.cli",
        "imagegen_jax/nn/unet.py:1: imagegen_jax.nn.unet imports imagegen_jax.cli",
    ]


def test_a_circle_is_named_with_its_places(small: pathlib.Path) -> None:
    found = circle([(arrow.source, arrow.target, arrow) for arrow in arrows_of(small)])
    assert [arrow.place for arrow in found] == ["imagegen_jax/core/step.py:3", "imagegen_jax/data/folder.py:2"]
