"""The state of a run folder, read for this machine's devices, whatever it was trained on."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Literal

from jax.sharding import Mesh

from imagegen_jax.core import program as programs
from imagegen_jax.core import run_folder as folder
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.checkpoints.errors import CheckpointError, in_short
from imagegen_jax.core.checkpoints.run_files import load_best
from imagegen_jax.core.checkpoints.stored import Restored, Stored
from imagegen_jax.core.experiment import Experiment, Rows, frozen_sources
from imagegen_jax.core.state import State


def stored_state(path: pathlib.Path, experiment: Experiment, step: int | Literal["best"] | None) -> State:
    """Reads the state of the newest good checkpoint, of that of a `step`, or of the one that was found "best".

    Raises CheckpointError where there is no such good checkpoint, and RunFolderError where the folder's files make no
    model.
    """
    rows, mesh = folder.load_rows(path), MeshShape().build()
    best = load_best(path) if step == "best" else None
    stored = Stored(path / "checkpoints", best, frozen_sources(experiment))
    return _restored(path, step, stored, lambda step: _abstract_state(path, experiment, rows, mesh, step)).tree


def _restored(
    path: pathlib.Path, step: int | Literal["best"] | None, stored: Stored, like: Callable[[int], State]
) -> Restored:
    chosen = stored.best_step() if step == "best" else step
    if chosen not in (None, *stored.steps()):
        raise CheckpointError(f"{path} has no checkpoint of step {chosen}; it has {stored.steps()}")
    restored = stored.restore(like, steps=None if chosen is None else [chosen])
    if restored is None and step == "best" and chosen is not None:  # a better one took its place while it was read
        return _restored(path, step, stored, like)
    if restored is None and chosen is not None:
        raise CheckpointError(f"the run that writes to {path} deleted its checkpoint of step {chosen} just now")
    if restored is None:
        raise CheckpointError(f"{path} has no checkpoint yet")
    return restored


def _abstract_state(path: pathlib.Path, experiment: Experiment, rows: Rows, mesh: Mesh, step: int) -> State:
    try:
        return programs.abstract_state(experiment, rows, mesh, step)
    except Exception as error:  # whatever values that the file alone makes possible let a model raise
        raise folder.RunFolderError(
            f"no model can be made of {path / 'experiment.json'} and {path / 'data.json'} ({type(error).__name__}: "
            f"{in_short(error)}): restore both as the training wrote them"
        ) from error
