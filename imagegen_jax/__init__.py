"""Image generation in JAX and Flax: every family of models under one contract and one loop."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from imagegen_jax.core.platform.absent import hush_absent_tpus_with_jax
from imagegen_jax.core.platform.signals import one_line_for_interrupted_imports
from imagegen_jax.core.platform.simulated import give_threads
from imagegen_jax.moved import OldModules

one_line_for_interrupted_imports()
sys.meta_path.append(OldModules())
give_threads()  # before anything starts jax's devices
hush_absent_tpus_with_jax()
# Of XLA's own log only what ends the process: it logs as errors that it is slow, and raises what is one.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

if TYPE_CHECKING:
    from imagegen_jax.core.checkpoints.weights import FromFile, FromRun
    from imagegen_jax.core.config.override import override
    from imagegen_jax.core.experiment import Experiment
    from imagegen_jax.core.program import Program
    from imagegen_jax.core.run import Run, fit, load, load_network, save_network
    from imagegen_jax.recipes.configs import load_config, save_config
    from imagegen_jax.recipes.shipped import recipe
    from imagegen_jax.studies.comparing import compare
    from imagegen_jax.studies.sweep import load_study, sweep

# Name -> the module that has it, imported when it is asked for: jax and what is built on it take seconds, and pages
# and help texts come before them.
_WHEN_ASKED = {
    "Experiment": "imagegen_jax.core.experiment",
    "FromFile": "imagegen_jax.core.checkpoints.weights",
    "FromRun": "imagegen_jax.core.checkpoints.weights",
    "Program": "imagegen_jax.core.program",
    "Run": "imagegen_jax.core.run",
    "compare": "imagegen_jax.studies.comparing",
    "fit": "imagegen_jax.core.run",
    "load": "imagegen_jax.core.run",
    "load_config": "imagegen_jax.recipes.configs",
    "load_network": "imagegen_jax.core.run",
    "load_study": "imagegen_jax.studies.sweep",
    "override": "imagegen_jax.core.config.override",
    "recipe": "imagegen_jax.recipes.shipped",
    "save_config": "imagegen_jax.recipes.configs",
    "save_network": "imagegen_jax.core.run",
    "sweep": "imagegen_jax.studies.sweep",
}
_FOLDERS = ("core", "data")  # `imagegen_jax.data.Digits()`, without an import of its own


def __getattr__(name: str) -> Any:
    """Imports what the package offers when it is asked for."""
    if name in _FOLDERS:
        return importlib.import_module(f"imagegen_jax.{name}")
    if name not in _WHEN_ASKED:
        raise AttributeError(f"module 'imagegen_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHEN_ASKED[name]), name)


def main(
    experiment: Experiment,
    smoke: Mapping[str, Any] | None = None,
    arguments: Sequence[str] | None = None,
    prog: str | None = None,
) -> None:
    """Trains `experiment` as the command line asks, with each field as an option: see `cli.train.main`.

    The command line is imported when it is called for: who takes the experiment of a recipe does without it.
    """
    from imagegen_jax.cli import train

    train.main(experiment, smoke, arguments, prog)


__all__ = [
    "Experiment", "FromFile", "FromRun", "Program", "Run", "compare", "fit", "load", "load_config", "load_network",
    "load_study", "main", "override", "recipe", "save_config", "save_network", "sweep",
]  # fmt: skip
