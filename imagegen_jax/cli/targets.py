"""Experiments as the command line names them: by a module's dotted name, or by the path of a .py file."""

from __future__ import annotations

from types import ModuleType

from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.user_module import import_target

__all__ = ["experiment_of", "import_target"]


def experiment_of(module: ModuleType) -> Experiment:
    """Returns the `experiment` of a module. Raises ValueError where it has none."""
    found = getattr(module, "experiment", None)
    if not isinstance(found, Experiment):
        kind = "" if found is None else f", but a {type(found).__name__}"
        raise ValueError(f"{module.__name__} has no `experiment`{kind}: set it to an imagegen_jax.Experiment")
    return found
