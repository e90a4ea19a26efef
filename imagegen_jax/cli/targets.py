"""Experiments as the command line names them: by a module's dotted name, or by the path of a .py file."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.user_module import import_target

__all__ = ["experiment_of", "import_modules", "import_target"]


def import_modules(names: Sequence[str]) -> list[str]:
    """Imports modules, each by its dotted name or the path of its file, and returns the names that they then have."""
    return [import_target(name).__name__ for name in names]


def experiment_of(module: ModuleType) -> Experiment:
    """Returns the `experiment` of a module. Raises ValueError where it has none."""
    found = getattr(module, "experiment", None)
    if not isinstance(found, Experiment):
        kind = "" if found is None else f", but a {type(found).__name__}"
        raise ValueError(f"{module.__name__} has no `experiment`{kind}: set it to an imagegen_jax.Experiment")
    return found
