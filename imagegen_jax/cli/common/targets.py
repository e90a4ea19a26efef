"""Experiments as the command line names them: recipes, modules by their dotted names, and .py files by their paths."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from imagegen_jax.core.config import user_module
from imagegen_jax.core.experiment import Experiment
from imagegen_jax.recipes.shipped import module_of, recipes


def import_target(target: str) -> ModuleType:
    """Imports the module of a dotted name, of the path of a .py file, or of a recipe's name.

    A module of the user's goes before a recipe of its name. Raises ValueError where there is none, and where it fails
    as it is imported: names file, line and reason.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    recipe = _recipe(target)
    if recipe is not None:
        return module_of(recipe)
    remedy = f"give a dotted name, the path of a .py file or a recipe{_nearest(target)}"
    return user_module.import_target(target, remedy)


def _recipe(target: str) -> str | None:
    """Returns the recipe that a target names, as NAME or `experiments.NAME`; None where a module here has that name."""
    name = target.removeprefix("experiments.")
    if name not in recipes():
        return None
    try:
        spec = importlib.util.find_spec(target)
    except ImportError:  # of `experiments`, which a wheel has elsewhere
        spec = None
    return name if spec is None or spec.origin is None else None  # a folder, such as a run's, has no origin


def _nearest(target: str) -> str:
    """Says which recipe may be meant, or how to see them all."""
    found = difflib.get_close_matches(target.removeprefix("experiments."), recipes(), 1)
    return f", such as {found[0]!r}" if found else " (`imagegen list` shows them)"


def import_modules(names: Sequence[str]) -> list[str]:
    """Imports modules, each by its dotted name or the path of its file, and returns the names that they then have."""
    return [import_target(name).__name__ for name in names]


def experiment_of(module: ModuleType) -> Experiment:
    """Returns the `experiment` of a module. Raises ValueError where it has none."""
    found = getattr(module, "experiment", None)
    if not isinstance(found, Experiment):
        kind = "" if found is None else f", but a {type(found).__name__}"
        if found is None and isinstance(table := getattr(module, "experiments", None), dict):
            raise ValueError(f"{module.__name__} has several recipes: name one of {', '.join(table)}")
        raise ValueError(f"{module.__name__} has no `experiment`{kind}: set it to an imagegen_jax.Experiment")
    return found
