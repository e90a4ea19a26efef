#!/usr/bin/env python3
"""Prints the files of tests that a change can reach: scripts/reached_tests.py [REVISION].

The change is all that differs from where REVISION (by default `main`) and HEAD parted, what is not committed included;
REVISION HEAD: what is not committed alone. A test is reached where a changed file is among those that it imports,
directly or not, wherever in a file the import stands, or names in a text: a program for another process, a recipe for
the command line, a data file. Tests of every recipe that there is are run for the recipes that are reached
(`pytest --reached-since`). What no file shows, such as a plugin found at run time, it cannot see: CI runs all tests.
"""

from __future__ import annotations

import ast
import functools
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("imagegen_jax", "experiments")
WORDS = re.compile(rf"\b(?:{'|'.join(PACKAGES)})(?:\.\w+)+|[\w./-]+\.\w+")
FOR_ALL = ("pyproject.toml", "conftest.py", "dev.txt", "run.txt")  # names of files that every test depends on
TABLE = "imagegen_jax.recipes.shipped"  # the module that knows all recipes by name
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
ANY_RECIPE = "experiments."  # what texts begin with that are made into the name of each recipe, one after the other


class Files:
    """Knows the files of a checkout, and which of them each one reads."""

    def __init__(self, root: pathlib.Path, paths: Iterable[str]) -> None:
        """`paths` are those of all files, relative to `root`."""
        self.root, self.paths = root, frozenset(paths)
        self.by_name: dict[str, list[str]] = {}
        for path in sorted(self.paths):
            self.by_name.setdefault(path.rpartition("/")[2], []).append(path)
        recipes = [path for path in self.paths if re.fullmatch(r"experiments/(\w+/)?[a-z]\w*\.py", path)]
        self.recipes = {name: path for path in recipes for name in self._names(path)}
        self.closure = functools.cache(self._closure)

    @property
    def tests(self) -> list[str]:
        """The files of tests."""
        return sorted(path for path in self.paths if re.fullmatch(r"tests/(.*/)?test_\w+\.py", path))

    def takes_any_recipe(self, test: str) -> bool:
        """Whether a file of tests, or a helper of its own, goes through all recipes."""
        helpers = [path for path in self.closure(test) if path.startswith("tests/")]
        return any(self._goes_through_recipes(path) for path in helpers)

    def reached(self, changed: Iterable[str]) -> dict[str, frozenset[str] | None]:
        """Files of tests that changed files reach -> the recipes that are reached, or None where all its tests are."""
        changed = frozenset(changed)
        if any(path.rpartition("/")[2] in FOR_ALL for path in changed):
            return dict.fromkeys(self.tests)
        recipes = frozenset(name for name, path in self.recipes.items() if self.closure(path) & changed)
        found: dict[str, frozenset[str] | None] = {}
        for test in self.tests:
            if self.closure(test) & changed:
                found[test] = None
            elif recipes and self.takes_any_recipe(test):
                found[test] = recipes
        return found

    def _closure(self, path: str) -> frozenset[str]:
        """All that a file can run: of what it asks for itself also what is imported late, of packages around it not."""
        seen, waiting = {path: True}, [(path, True)]
        while waiting:
            for file, whole in self._reads(*waiting.pop()):
                if file not in seen or (whole and not seen[file]):
                    seen[file] = whole
                    waiting.append((file, whole))
        return frozenset(seen)

    @functools.cache  # noqa: B019  (lives as long as the program)
    def _reads(self, path: str, whole: bool) -> frozenset[tuple[str, bool]]:
        """(a file that one reads, whether what that imports in functions counts) for all of them.

        Without `whole` only what is imported as the file is imported itself.
        """
        tree = self._tree(path)
        if tree is None:
            return frozenset()
        inside = () if whole else (f for f in _nodes(tree) if isinstance(f, FUNCTIONS))
        late = {id(node) for f in inside for node in ast.walk(f)}
        unused = _used_as_program_alone(tree)
        found: set[tuple[str, bool]] = set()
        for node in _nodes(tree):
            if whole or id(node) not in late:
                for module in _imported(node, path, tree, unused):
                    found |= self._files_of(module, path, whole)
        for module in self._by_fixtures(path, tree) if whole else ():
            found |= self._files_of(module, path, whole)
        for text in _texts(tree) if whole else ():
            for word in [text] if text in PACKAGES else WORDS.findall(text):
                found |= self._named(word, path)
        return frozenset(found)

    def _by_fixtures(self, path: str, tree: ast.Module) -> Iterator[str]:
        """The modules that the fixtures of conftest.py import which a file of tests asks for."""
        arguments = {argument.arg for node in _nodes(tree) if isinstance(node, ast.arguments) for argument in node.args}
        for conftest in self.by_name.get("conftest.py", ()) if path.startswith("tests/") else ():
            fixtures = [
                node for node in (self._tree(conftest) or ast.Module([], [])).body if isinstance(node, ast.FunctionDef)
            ]
            nodes = [node for fixture in fixtures if fixture.name in arguments for node in ast.walk(fixture)]
            yield from (module for node in nodes for module in _imported(node, conftest, tree))

    def _named(self, word: str, path: str) -> set[tuple[str, bool]]:
        """The files that a word of a text stands for; in the package itself only files of data."""
        if word.split(".")[0] in PACKAGES and not word.endswith(".py"):  # and `python -m` runs a package's __main__
            in_package = path.startswith("imagegen_jax/")
            return (
                set()
                if in_package
                else {*self._files_of(f"{word}.__main__", path, True), *self._files_of(word, path, True)}
            )
        return {
            (file, True) for file in self.by_name.get(word.rpartition("/")[2], ()) if file.endswith(word.lstrip("./"))
        }

    def _files_of(self, module: str, importer: str, whole: bool) -> set[tuple[str, bool]]:
        """The file of a module, or of a name in one; and those of the packages around it, which are imported too."""
        parts, found = module.split("."), []
        if parts[0] == "experiments" and len(parts) > 1 and parts[1] in self.recipes:
            return {(self.recipes[parts[1]], whole), ("experiments/__init__.py", False)}
        for end in range(1, len(parts) + 1):
            place = "/".join(parts[:end])
            for folder in ("", importer.rpartition("/")[0] + "/", "tests/", "scripts/"):
                found += sorted({f"{folder}{place}.py", f"{folder}{place}/__init__.py"} & self.paths)
        if not found:
            return set()
        reads = {(file, False) for file in found[:-1]}
        last, name = found[-1], parts[-1]
        defined = self._defined_elsewhere(last).get(name) if last.endswith("__init__.py") else None
        if defined and defined != module:
            return reads | {(last, False)} | self._files_of(defined, last, whole)
        return reads | {
            (last, whole and not last.endswith(f"{name}/__init__.py"))
        }  # of a package only what is asked for

    @functools.cache  # noqa: B019  (lives as long as the program)
    def _defined_elsewhere(self, path: str) -> dict[str, str]:
        """The names that a package takes from modules -> "module.name"."""
        tree = self._tree(path)
        imports = [node for node in (tree.body if tree else ()) if isinstance(node, ast.ImportFrom)]
        return {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in imports for alias in node.names}

    def _goes_through_recipes(self, path: str) -> bool:
        tree = self._tree(path)
        nodes = _nodes(tree) if tree else ()
        made = [node.values[0] for node in nodes if isinstance(node, ast.JoinedStr) and node.values]
        by_name = any(isinstance(first, ast.Constant) and first.value == ANY_RECIPE for first in made)
        return by_name or any(
            module.startswith(TABLE) for node in nodes for module in _imported(node, path, ast.Module([], []))
        )

    def _names(self, path: str) -> list[str]:
        """The names of the recipes of a file: its own, or those of the rows of its table SIZES."""
        tree = self._tree(path)
        for node in tree.body if tree else ():
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Dict)
                and "SIZES" in map(_name, node.targets)
            ):
                return [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
        return [path.rpartition("/")[2].removesuffix(".py")]

    @functools.cache  # noqa: B019  (lives as long as the program)
    def _tree(self, path: str) -> ast.Module | None:
        file = self.root / path
        return ast.parse(file.read_text("utf-8")) if path.endswith(".py") and file.is_file() else None


@functools.cache
def _nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """Returns all nodes of a file, which is gone through once."""
    return tuple(ast.walk(tree))


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _imported(node: ast.AST, path: str, tree: ast.Module, unused: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yields the modules that a statement may import; of a package with a short name those that are asked for by it."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name
            if alias.name.split(".")[0] in PACKAGES and (alias.asname or "." not in alias.name):
                yield from _asked_for(tree, alias.asname or alias.name, alias.name)
    if isinstance(node, ast.ImportFrom):
        parents = path.split("/")[: -node.level] if node.level else []
        module = ".".join([*parents, *([node.module] if node.module else [])])
        yield from (f"{module}.{alias.name}" for alias in node.names if (alias.asname or alias.name) not in unused)


def _asked_for(tree: ast.Module, name: str, module: str) -> Iterator[str]:
    """Yields of ig.core.arrays.shard.MeshShape, where `ig` is the name of a module, all with the module's own name."""
    for node in _nodes(tree):
        if isinstance(node, ast.Attribute):
            words = ast.unparse(node).split(".")
            if words[0] == name and all(word.isidentifier() for word in words):
                yield ".".join([module, *words[1:]])


def _used_as_program_alone(tree: ast.Module) -> frozenset[str]:
    """Returns the names that a file uses below `if __name__ == "__main__"` and nowhere else: no import gets there."""
    program = [node for node in tree.body if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)]
    inside = {id(node) for part in program for node in ast.walk(part)}
    names = [node for node in _nodes(tree) if isinstance(node, ast.Name)]
    return frozenset(node.id for node in names if id(node) in inside) - {n.id for n in names if id(n) not in inside}


def _texts(tree: ast.Module) -> Iterator[str]:
    """Yields all texts of a file but its docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in _nodes(tree) if isinstance(node, documented) and node.body]
    docstrings = {id(body[0].value) for body in bodies if isinstance(body[0], ast.Expr)}
    for node in _nodes(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def git(*arguments: str, root: pathlib.Path = ROOT) -> list[str]:
    """Returns the lines that a command of git prints."""
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def reached_since(revision: str, root: pathlib.Path = ROOT) -> dict[str, frozenset[str] | None]:
    """Returns what is reached by all that differs from where `revision` and HEAD parted (`Files.reached`)."""
    (base,) = git("merge-base", revision, "HEAD", root=root)
    new = git("ls-files", "--others", "--exclude-standard", root=root)
    changed = git("diff", "--name-only", "--no-renames", base, root=root) + new
    # What was deleted is still imported, or named, by what is broken now.
    return Files(root, [*git("ls-files", root=root), *new, *changed]).reached(changed)


if __name__ == "__main__":
    print(*(test for test in reached_since(*sys.argv[1:2] or ["main"]) if (ROOT / test).is_file()), sep="\n")
