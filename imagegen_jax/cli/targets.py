"""Experiments as the command line names them: recipes, modules by their dotted names, and .py files by their paths."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from types import ModuleType

from imagegen_jax.core import user_module
from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.user_module import NoModuleError
from imagegen_jax.recipes.shipped import module_of, recipes


def import_target(target: str) -> ModuleType:
    """Imports the module of a dotted name, of the path of a .py file or of a recipe's name; a user's own goes first.

    Raises ValueError where there is none, and where it fails as it is imported: names file, line and reason.
    """
    name = target.removeprefix("experiments.")
    if name in recipes() and not user_module.is_here(target):
        return module_of(name)
    try:
        return user_module.import_target(target)
    except NoModuleError as error:
        near = difflib.get_close_matches(name, recipes(), 1)
        said = f"such as {near[0]!r}" if near else "`imagegen list` shows them"
        raise ValueError(f"{error}, or of a recipe: {said}") from error


def import_modules(names: Sequence[str]) -> list[str]:
    """Imports modules, each by its dotted name or the path of its file, and returns the names that they then have."""
    return [import_target(name).__name__ for name in names]


def experiment_of(module: ModuleType) -> Experiment:
    """Returns the `experiment` of a module. Raises ValueError where it has none."""
    found = getattr(module, "experiment", None)
    if not isinstance(found, Experiment):
        if found is None and isinstance(table := getattr(module, "experiments", None), dict):
            raise ValueError(f"{module.__name__} has several recipes: name one of {', '.join(table)}")
        kind = "" if found is None else f", but a {type(found).__name__}"
        raise ValueError(f"{module.__name__} has no `experiment`{kind}: set it to an imagegen_jax.Experiment")
    return found
