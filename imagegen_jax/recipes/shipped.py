"""The recipes that come with the package: which there are, read without importing one, and each of them as a module.

A recipe is a file of the folder of its family, experiments/FAMILY/NAME.py, which has an `experiment` and a `smoke`. A
file of several sizes has a table `SIZES` by the recipes' names, and their experiments by name, `experiments`.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.util
import pathlib
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple

HERE = pathlib.Path(__file__).resolve().parent.parent  # the package
FOLDER = next(
    place for place in (HERE / "experiments", HERE.parent / "experiments") if place.is_dir()
)  # wheel, checkout
PACKAGE = "imagegen_jax.experiments"
HEADS = ("recipe", "family", "data", "cost", "expected")  # of the columns of `listing`

SCORES = re.compile(
    r"(?:FID|FD-classifier|inception score) \d+\.?\d*|\d+\.?\d* (?:bits per dimension|nats)|PSNR of \d+\.?\d* dB"
)


class ShippedRecipe(NamedTuple):
    """What the file of a recipe says about it."""

    name: str
    file: pathlib.Path
    title: str
    data: str
    cost: str
    expected: str

    @property
    def family(self) -> str:
        """The name of the folder that its file is in."""
        return self.file.parent.name

    @property
    def is_row(self) -> bool:
        """Tells whether its file is a table of several recipes."""
        return self.file.stem != self.name

    @property
    def score(self) -> str:
        """The first two scores among what is expected, or the beginning of that."""
        found = list(dict.fromkeys(match[0] for match in SCORES.finditer(self.expected)))[:2]
        return ", ".join(found) or textwrap.shorten(self.expected.split(";")[0], 60, placeholder=" ...")


@functools.cache
def recipes() -> dict[str, ShippedRecipe]:
    """Returns all recipes by name, in the order of their families and names."""
    found = [recipe for file in sorted(FOLDER.glob("*/[a-z]*.py")) for recipe in _read(file)]
    return {recipe.name: recipe for recipe in sorted(found, key=lambda recipe: (recipe.family, recipe.name))}


def module_of(name: str) -> ModuleType:
    """Imports a recipe: a module with `experiment` and `smoke`. Raises KeyError where there is none of that name."""
    recipes()[name]
    if PACKAGE not in sys.modules:  # from its place, whatever else is called `experiments` where the user works
        spec = importlib.util.spec_from_file_location(
            PACKAGE, FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
        )
        assert spec is not None and spec.loader is not None
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[PACKAGE])
    return importlib.import_module(f"{PACKAGE}.{name}")


def recipe(name: str) -> Any:
    """Returns the `Experiment` of a recipe that `imagegen list` names: `recipe("ddpm_digits")`.

    It is the same from a checkout and from an installed package. Raises ValueError where there is none of that name.
    """
    if name not in recipes():
        near = difflib.get_close_matches(name, recipes(), n=1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no recipe {name!r}, `imagegen list` shows them all{hint}")
    return module_of(name).experiment


def listing(words: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Returns a row for each recipe with one of `words` in name, family or data, as `HEADS` names its columns."""
    wanted = [
        recipe
        for recipe in recipes().values()
        if not words or any(word.lower() in f"{recipe.name} {recipe.family} {recipe.data}".lower() for word in words)
    ]
    return [
        (r.name, r.family, textwrap.shorten(r.data, 26, placeholder="..."), _short(r.cost), r.score) for r in wanted
    ]


# --- what a file says ------------------------------------------------------------------------------------------------


def _read(file: pathlib.Path) -> Iterator[ShippedRecipe]:
    tree = ast.parse(file.read_text("utf-8"))
    text = ast.get_docstring(tree) or ""
    for name in _sizes(tree) or [file.stem]:
        title = text.split("\n\n")[0].replace("\n", " ")
        yield ShippedRecipe(name, file, title, _data(tree), _part(text, "Cost", name), _part(text, "Expected", name))


def _sizes(tree: ast.Module) -> list[str]:
    """Returns the names in a file's table of sizes; [] for a file of one recipe."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            if any(isinstance(target, ast.Name) and target.id == "SIZES" for target in node.targets):
                constants = [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
                return [name for name in constants if isinstance(name, str)]
    return []


def _data(tree: ast.Module) -> str:
    """Returns the data set of a recipe: the name or place that its source is given, or the source's own name."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _called(node) == "Experiment"]
    for keyword in (keyword for call in calls for keyword in call.keywords if keyword.arg == "data"):
        sources = [node for node in ast.walk(keyword.value) if isinstance(node, ast.Call)]
        sources = [node for node in sources if not _called(node).endswith(("Tokenizer", "Vocabulary"))]  # of captions
        for source in sources:
            if source.args and isinstance(source.args[0], ast.Constant) and isinstance(source.args[0].value, str):
                return source.args[0].value
        return _called(sources[-1]).lower() if sources else ast.unparse(keyword.value)
    return ""


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _part(text: str, what: str, name: str) -> str:
    """Returns what a docstring says after "Cost:" or "Expected:"; after "Cost of NAME:" where it has that."""
    for label in (f"{what} of {name}", what):  # in a table, and in a file of one recipe
        match = re.search(rf"\b{label}:\s+(.*?)(?=\s+(?:Cost|Expected)(?: of \w+)?:|\n\n|\Z)", text, re.DOTALL)
        if match:
            return " ".join(match[1].split())
    return ""


def _short(cost: str) -> str:
    """Shortens a cost to a column: how long training takes, or for what machine it is made."""
    cost = re.sub(r" \([^)]*\)", "", cost)  # in brackets is what others took
    number = r"(?:about )?(?<![\w.,])[\d.,]+"
    time = rf"{number} (?:s|minutes|hours|days)\b(?![^,;]* a step)[^,;:]*"
    found = re.search(time, cost.split(". ")[0].rstrip("."))
    found = found or re.search(r"made for [^,.;:]*", cost)
    return textwrap.shorten(re.sub(r" for its .*", "", found[0] if found else cost), 52, placeholder=" ...")


# --- modules ---------------------------------------------------------------------------------------------------------


class Finder:
    """Finds the recipes as modules right below a package, `experiments.NAME`, in whichever folder their files are."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns how to load a recipe; None for any other module."""
        package, _, last = name.rpartition(".")
        recipe = recipes().get(last) if package == self.package else None
        if recipe is None:
            return None
        if not recipe.is_row:
            return importlib.util.spec_from_file_location(name, recipe.file)
        loader = Row(f"{package}.{recipe.family}.{recipe.file.stem}")
        return importlib.util.spec_from_loader(name, loader, origin=str(recipe.file))


class Row(InspectLoader):
    """Loads a row of a table of recipes as a module of its own."""

    def __init__(self, table: str) -> None:
        self.table = table

    def get_source(self, name: str) -> str:
        """Returns what a file of this recipe alone would contain."""
        return textwrap.dedent(f"""\
            from imagegen_jax import main
            from {self.table} import __doc__, experiments, smoke

            experiment = experiments["{name.rpartition(".")[2]}"]

            if __name__ == "__main__":
                main(experiment, smoke)
        """)
