"""The folder of a run: one live run at a time, one experiment for good."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Sequence
from typing import IO, Any

import jax

from imagegen_jax.core.checkpoint import Best
from imagegen_jax.core.experiment import Experiment, Rows, rows_of
from imagegen_jax.core.log import write_json
from imagegen_jax.core.serial import differences, from_dict, to_dict, with_defaults

# What a run may be resumed with other values of (`--resume-with-changes`): nothing that the state's arrays are made of.
MAY_CHANGE = (
    "name", "steps", "optim", "clip_norm", "microbatches", "augment", "mesh", "log_every", "sample_every", "samples",
    "evaluation", "checkpoint_every", "keep_checkpoints", "snapshots",
)  # fmt: skip


class RunFolderError(RuntimeError):
    """A run folder that cannot be used as asked."""


class LiveRunError(RunFolderError):
    """A run folder that another process writes to now."""


class Lock:
    """Held while a run writes to a folder; the kernel releases it when the process ends, however it ends."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Raises LiveRunError where another process holds it."""
        path = folder / "lock"
        self._file: IO[str] = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise LiveRunError(
                f"a live run ({holder}) writes to {folder}: wait for it, end it, or give another --workdir"
            ) from None
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
        self._file.flush()

    def release(self) -> None:
        """Lets another run have the folder."""
        self._file.close()


def make_folder(folder: pathlib.Path) -> None:
    """Makes the folder of a run, and sees that it can be written to; raises RunFolderError where not."""
    try:
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise RunFolderError(f"cannot write to the run folder {folder}: {error}; give another --workdir") from error


def compare_experiment(folder: pathlib.Path, experiment: Experiment, resume_with_changes: bool) -> dict[str, Any]:
    """Field -> (stored value, new value) where the folder holds a run of another experiment; {} for a new folder.

    Raises RunFolderError, naming each field, where they differ and that is not allowed.
    """
    path = folder / "experiment.json"
    stored = with_defaults(read_json(path), experiment) if path.exists() else {}
    changed = differences(stored, to_dict(experiment)) if path.exists() else {}
    fixed = [field for field in changed if not _may_change(field)]
    if fixed or (changed and not resume_with_changes):
        lines = "".join(f"\n  {field}: {old!r} there, {now!r} now" for field, (old, now) in changed.items())
        remedy = "--resume-with-changes to go on with the new values"
        if fixed:
            remedy = f"undo the change ({', '.join(fixed)} cannot change within a run)"
        raise RunFolderError(f"{folder} holds a run of another experiment:{lines}\nGive a new --workdir, or {remedy}")
    return changed


def store_experiment(folder: pathlib.Path, experiment: Experiment, changed: dict[str, Any]) -> None:
    """Writes experiment.json, and notes in changes.jsonl what a resumed run goes on with other values of."""
    if changed:
        with (folder / "changes.jsonl").open("a") as file:
            file.write(json.dumps(changed) + "\n")
    write_json(folder / "experiment.json", to_dict(experiment))


def _may_change(field: str) -> bool:
    parts = field.split(".")
    replaces_optimizer = parts[0] == "optim" and (len(parts) == 2 or parts[2:] == ["class"])
    return parts[0] in MAY_CHANGE and not replaces_optimizer


def load_experiment_dict(folder: pathlib.Path) -> dict[str, Any]:
    """The stored experiment as it lies in a run folder. Raises RunFolderError where there is none."""
    path = folder / "experiment.json"
    if not path.is_file():
        raise RunFolderError(f"{folder} is no run folder: it has no experiment.json")
    return read_json(path)


def load_experiment(folder: pathlib.Path, modules: Sequence[str] = ()) -> Experiment:
    """The experiment of a run, rebuilt from its folder. Raises RunFolderError where there is none."""
    return from_dict(load_experiment_dict(folder), modules)


def read_json(path: pathlib.Path) -> Any:
    """A JSON file. Raises RunFolderError where it is damaged."""
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise RunFolderError(f"{path} is damaged: {error}") from error


def store_data(folder: pathlib.Path, dataset: Any) -> None:
    """Writes data.json: what is needed of the data to open the run where they are not at hand."""
    store_rows(folder, rows_of(dataset), getattr(dataset, "class_names", ()))


def store_rows(folder: pathlib.Path, rows: Rows, class_names: Sequence[str] = ()) -> None:
    """Writes data.json from what a row of a batch looks like."""
    found = {name: {"shape": list(row.shape), "dtype": str(row.dtype)} for name, row in rows.items()}
    write_json(folder / "data.json", {"rows": found, "class_names": list(class_names)})


def store_best(folder: pathlib.Path, best: Best) -> None:
    """Writes best.json: by which score the best checkpoint is kept."""
    write_json(folder / "best.json", best._asdict())


def load_best(folder: pathlib.Path) -> Best:
    """What `store_best` wrote. Raises RunFolderError where the run has no evaluation."""
    path = folder / "best.json"
    if not path.is_file():
        raise RunFolderError(f"{folder} has no best checkpoint: its experiment has no evaluation (`evaluation`)")
    return Best(**read_json(path))


def load_rows(folder: pathlib.Path) -> Rows:
    """What one row of a run's batches looks like."""
    stored = read_json(folder / "data.json")["rows"]
    return {name: jax.ShapeDtypeStruct(tuple(row["shape"]), row["dtype"]) for name, row in stored.items()}


def load_class_names(folder: pathlib.Path) -> tuple[str, ...]:
    """Returns the names of the classes that a run was trained on; () where its data have none."""
    return tuple(read_json(folder / "data.json").get("class_names", ()))
