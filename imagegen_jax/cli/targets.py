"""Experiments as the command line names them: recipes, modules by their dotted names, and .py files by their paths."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import pathlib
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from types import ModuleType

from imagegen_jax.core.experiment import Experiment
from imagegen_jax.recipes.shipped import module_of, recipes

PACKAGE = pathlib.Path(__file__).resolve().parent.parent


def import_target(target: str) -> ModuleType:
    """Imports the module of a dotted name, of the path of a .py file, or of a recipe's name.

    A module of the user's goes before a recipe of its name.

    Raises ValueError where there is none, and where it fails as it is imported: names file, line and reason.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    path = pathlib.Path(target)
    if path.suffix == ".py" and not path.is_file():
        raise ValueError(f"{target}: no such file")
    if path.suffix != ".py" and not all(part.isidentifier() for part in target.split(".")):
        raise ValueError(f"{target!r} is neither a folder of a run, a dotted name nor the path of a .py file")
    recipe = _recipe(target)
    if recipe is not None:
        return module_of(recipe)
    try:
        return importlib.import_module(target) if path.suffix != ".py" else _import_file(path)
    except ModuleNotFoundError as error:
        if path.suffix != ".py" and error.name and f"{target}.".startswith(f"{error.name}."):
            raise ValueError(
                f"no module {target!r} here: give a dotted name, the path of a .py file or a recipe{_nearest(target)}"
            ) from error
        raise _import_error(target, error) from error
    except (Exception, SystemExit) as error:  # whatever a user's file does
        raise _import_error(target, error) from error


def _recipe(target: str) -> str | None:
    """The recipe that a target names, where no module here has that name; `experiments.NAME` names it as well."""
    name = target.removeprefix("experiments.")
    if name not in recipes():
        return None
    try:
        spec = importlib.util.find_spec(target)
    except ImportError:  # of `experiments`, which a wheel has elsewhere
        spec = None
    return name if spec is None or spec.origin is None else None  # a folder, such as a run's, has no origin


def _nearest(target: str) -> str:
    """Says which recipe was meant, or how to see them all."""
    found = difflib.get_close_matches(target.removeprefix("experiments."), recipes(), 1)
    return f", such as {found[0]!r}" if found else " (`imagegen list` shows them)"


def import_modules(names: Sequence[str]) -> list[str]:
    """Imports modules, each by its dotted name or the path of its file, and returns the names that they then have."""
    return [import_target(name).__name__ for name in names]


def _import_file(path: pathlib.Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.path.remove(str(path.parent.resolve()))
        del sys.modules[path.stem]
        if before is not None:
            sys.modules[path.stem] = before
        raise
    return module


def _import_error(target: str, error: BaseException) -> ValueError:
    """What went wrong in a module, and where: the last line of its own, not of a library that it called."""
    if isinstance(error, SyntaxError):
        return ValueError(f"{error.filename or target}, line {error.lineno}: {type(error).__name__}: {error.msg}")
    libraries = ("<frozen", sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), str(PACKAGE))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(libraries)]
    place = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else target
    text = " ".join(str(error).split())[:500]
    return ValueError(f"{place}: {type(error).__name__}{': ' + text if text else ''}: {target} cannot be imported")


def experiment_of(module: ModuleType) -> Experiment:
    """Returns the `experiment` of a module. Raises ValueError where it has none."""
    found = getattr(module, "experiment", None)
    if not isinstance(found, Experiment):
        kind = "" if found is None else f", but a {type(found).__name__}"
        if found is None and isinstance(table := getattr(module, "experiments", None), dict):
            raise ValueError(f"{module.__name__} has several recipes: name one of {', '.join(table)}")
        raise ValueError(f"{module.__name__} has no `experiment`{kind}: set it to an imagegen_jax.Experiment")
    return found
