"""Every writer of pictures in the package says where they come from, or is named here with the reason why not."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[2] / "imagegen_jax"

# What encodes pictures without an origin, and what calls a writer without one: "file:function", and why.
SILENT = {
    "pages/judge/judging.py:png": "who judges by eye must not be told which picture is generated",
    "pages/play/routes.py:_upload": "the visitor's own picture, shown back",
    "pages/play/edits.py:mask_text": "a mask that the visitor painted",
    "data/pictures/describe.py:picture_grid": "real images of a data set",
}


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def calls(node: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call below a node by the last part of its name, but those of the object's own methods."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name | ast.Attribute):
            if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "self":
                continue
            yield (call.func.id if isinstance(call.func, ast.Name) else call.func.attr), call


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}


def writers(trees: dict[str, ast.Module]) -> dict[str, int]:
    """The functions of modules that take an origin, and at which place among their arguments."""
    found = {}
    for tree in trees.values():
        for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            names = [argument.arg for argument in function.args.args]
            if "origin" in names and not ast.unparse(function).startswith("def saved_with"):
                found[function.name] = names.index("origin")
    return {name: at for name, at in found.items() if at and name.startswith(("write", "png", "url", "sheet"))}


def silent(trees: dict[str, ast.Module]) -> set[str]:
    """The functions that encode a picture, or call a writer, and name no origin."""
    known, found = writers(trees), set()
    for file, tree in trees.items():
        for function in functions(tree):
            inner = {node for below in functions(function) if below is not function for node in ast.walk(below)}
            for name, call in calls(function):
                if call in inner:
                    continue
                given = len(call.args) > known.get(name, 99) or any(key.arg == "origin" for key in call.keywords)
                if (name in known and not given) or (encodes(name, call) and not says(call, function)):
                    found.add(f"{file}:{function.name}")
    return found


def encodes(name: str, call: ast.Call) -> bool:
    """Whether a call is Pillow's `save` with the name of a format, or the start of ffmpeg."""
    if name == "Popen":
        return "PIPE" in ast.unparse(call)
    words = [argument.value for argument in call.args[1:] if isinstance(argument, ast.Constant)]
    return name == "save" and (bool({"PNG", "JPEG", "WEBP", "GIF"} & set(words)) or any(
        key.arg == "format" for key in call.keywords
    ))  # fmt: skip


def says(call: ast.Call, function: Function) -> bool:
    """Whether the metadata are among the arguments, or put into what was encoded."""
    return "saved_with" in ast.unparse(call) or bool({"gif_with", "mp4_box"} & {name for name, _ in calls(function)})


def test_all_writers_are_known(trees):
    """Nothing is found that is not named above, and the writers that it looks for are there."""
    assert {"write_png", "write_picture", "write_video", "png_of", "url_of", "sheet_of"} <= set(writers(trees))
    assert silent(trees) == set(SILENT)


def test_a_writer_that_says_nothing_is_found(trees):
    planted = {
        "a.py": "def plain(image):\n    write_picture('a.png', image)\n",
        "b.py": "def straight(image):\n    image.save(file, 'PNG')\n",
        "c.py": "def told(image, origin):\n    write_picture('a.png', image, origin)\n",
    }
    assert silent(trees | {file: ast.parse(text) for file, text in planted.items()}) - set(SILENT) == {
        "a.py:plain", "b.py:straight",
    }  # fmt: skip
