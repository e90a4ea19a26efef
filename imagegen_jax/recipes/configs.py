"""Experiments from YAML files: `load_config("run.yaml")` and `save_config(experiment, "run.yaml")`."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from imagegen_jax.core.config.config_file import read_config, save_config
from imagegen_jax.core.config.user_module import import_target
from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.files.regular import Path
from imagegen_jax.core.run_folder import load_experiment
from imagegen_jax.recipes.shipped import recipe, recipes

__all__ = ["load_config", "save_config"]


def load_config(path: Path, modules: Sequence[str] = ()) -> Experiment:
    """Reads an experiment from a YAML file: a whole one as `save_config` writes it, or a recipe with changes.

    Its `recipe` is one that `imagegen list` names, the folder of a run, or a .py file with an `experiment`. `modules`
    are those outside this package that its classes may come from. Raises ValueError, naming the file and the place,
    where it is no experiment, and TypeError for a value of the wrong type.
    """
    found = read_config(path, modules, lambda name: _base(name, pathlib.Path(path).parent, modules))
    if not isinstance(found, Experiment):
        raise ValueError(f"{path}: it holds a {type(found).__name__}, not an Experiment")
    return found


def _base(name: str, beside: pathlib.Path, modules: Sequence[str]) -> Experiment:
    """Returns the experiment that a file names as its recipe; paths are those from the file or from here."""
    if name in recipes():
        found = recipe(name)
        assert isinstance(found, Experiment)
        return found
    for place in (beside / name, pathlib.Path(name)):
        if (place / "experiment.json").is_file():
            return load_experiment(place, modules)
        if place.suffix == ".py" and place.is_file():
            experiment = getattr(import_target(str(place), "give a recipe"), "experiment", None)
            if isinstance(experiment, Experiment):
                return experiment
            raise ValueError(f"recipe: {name} has no `experiment`: set it to an imagegen_jax.Experiment")
    found = recipe(name)  # whose error names the nearest
    assert isinstance(found, Experiment)
    return found
