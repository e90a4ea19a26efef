"""Image generation in JAX and Flax: every family of models under one contract and one loop."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from imagegen_jax.core.platform.absent import hush_absent_tpus
from imagegen_jax.core.platform.signals import one_line_for_interrupted_imports
from imagegen_jax.core.platform.simulated import give_threads
from imagegen_jax.moved import OldModules

one_line_for_interrupted_imports()
sys.meta_path.append(OldModules())
give_threads()  # before anything below starts jax's devices
# Of XLA's own log only what ends the process: it logs as errors that it is slow, and raises what is one.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from imagegen_jax.core.checkpoints.weights import FromFile, FromRun  # noqa: E402
from imagegen_jax.core.config.override import override  # noqa: E402
from imagegen_jax.core.experiment import Experiment  # noqa: E402
from imagegen_jax.core.program import Program  # noqa: E402
from imagegen_jax.core.run import Run, fit, load, load_network, save_network  # noqa: E402
from imagegen_jax.recipes.shipped import recipe  # noqa: E402

hush_absent_tpus()  # jax is imported by now, and has looked for them


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
    "Experiment", "FromFile", "FromRun", "Program", "Run", "fit", "load", "load_network", "main", "override",
    "recipe", "save_network",
]  # fmt: skip
