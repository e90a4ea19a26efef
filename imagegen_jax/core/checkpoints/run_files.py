"""The JSON files of a run folder, read as they are, without a look for the classes that they name."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING, Any

from imagegen_jax.core.checkpoints.errors import in_short
from imagegen_jax.core.files.claim import RunFolderError

if TYPE_CHECKING:
    from imagegen_jax.core.checkpoints.stored import Best


def load_experiment_dict(folder: pathlib.Path) -> dict[str, Any]:
    """Reads the stored experiment of a run folder, as JSON has it. Raises RunFolderError where there is none."""
    path = folder / "experiment.json"
    if not path.is_file():
        raise RunFolderError(f"{folder} is no run folder: it has no experiment.json")
    found = read_json(path)
    if not (isinstance(found, dict) and isinstance(found.get("class"), str)):
        raise RunFolderError(f'{path} is damaged: it is no object with a "class"; restore it as the training wrote it')
    return found


def load_best(folder: pathlib.Path) -> Best:
    """Reads which score the run's best checkpoint is chosen by. Raises RunFolderError where it has no evaluation."""
    from imagegen_jax.core.checkpoints.stored import Best  # which reads arrays: the rest here is read without jax

    path = folder / "best.json"
    if not path.is_file():
        raise RunFolderError(f"{folder} has no best checkpoint: its experiment has no evaluation (`evaluation`)")
    match read_json(path):
        case {"name": str(name), "higher": bool(higher)}:
            return Best(name, higher)
    raise RunFolderError(f'{path} is damaged: it is not of the form {{"name": "FID", "higher": false}}; restore it')


def read_json(path: pathlib.Path) -> Any:
    """Reads a JSON file. Raises RunFolderError where it is damaged."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} is damaged: {in_short(error)}; restore it as the training wrote it") from error
