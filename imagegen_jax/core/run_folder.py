"""The folder of a run: one experiment and one set of data for good, and the files that say which."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from imagegen_jax.core.arrays.texts import KeepsTokenizer, Tokenizer, keep_tokenizer, tokenizer_of
from imagegen_jax.core.checkpoints.errors import in_short
from imagegen_jax.core.checkpoints.run_files import load_experiment_dict, read_json
from imagegen_jax.core.checkpoints.stored import Best
from imagegen_jax.core.config.serial import differences, from_dict, renewed, to_dict
from imagegen_jax.core.experiment import Experiment, Rows, row_shapes
from imagegen_jax.core.files.claim import RunFolderError
from imagegen_jax.core.files.identity import contents
from imagegen_jax.core.reporting.log import write_json
from imagegen_jax.core.reporting.metrics_log import read_lines
from imagegen_jax.core.source import Recorded, class_names_of

# Fields that may have other values when a run is resumed (`--resume-with-changes`): the state's arrays depend on none.
MAY_CHANGE = (
    "name", "steps", "optim", "clip_norm", "skip_norm", "microbatches", "augment", "mesh", "log_every", "sample_every",
    "samples", "evaluation", "checkpoint_every", "keep_checkpoints", "snapshots",
)  # fmt: skip
_OF_DRAWING = ".space.decoding."  # likewise, of a model: how much of a grid is decoded at a time

TOKENIZER = "tokenizer"  # the folder of the files of a tokenizer of texts
_OF_TOKENIZER = "data.content.tokenizer"
_OTHER_WORDS = (
    "The tokenizer writes texts as other tokens than those that the model has learned: a vocabulary that is made of "
    "the captions is another one when words come, go or are said more often\n"
)
_OF_ONE_SET = "Epsilon of a private run is of one set of data, and of its number\n"
_SHOWN = 100  # characters of a value that a message shows

Changes = dict[str, tuple[Any, Any]]  # field -> (stored value, new value)


# --- what a run goes on with -----------------------------------------------------------------------------------------


def compare_experiment(folder: pathlib.Path, experiment: Experiment) -> Changes:
    """Returns where `experiment` differs from the one that the folder's run was started with; {} for a new folder.

    Raises RunFolderError, naming each field, where something differs that cannot change within a run. `compare_data`
    decides about the rest, since it knows the data too: a change of steps that is allowed must not let other data in.
    """
    path = folder / "experiment.json"
    if not path.exists():
        return {}
    changed = differences(renewed(load_experiment_dict(folder), experiment), to_dict(experiment))
    knows = "content" in _data_record(folder)
    if fixed := [field for field in changed if not _may_change(field, knows)]:
        _refuse(folder, changed, fixed)
    return changed


def compare_data(folder: pathlib.Path, changed: Changes, dataset: Any, resume_with_changes: bool) -> Changes:
    """Adds to `changed` where the data differ from those that the folder's run was trained on.

    Raises RunFolderError, naming each difference of experiment and data, where one is not allowed. Other settings that
    give the same data, such as the path of a folder that was moved, are allowed.
    """
    found = data_changes(folder, dataset)
    never = ("data.num_classes", _OF_TOKENIZER)  # what the run has learned of codes or tokens goes with its tokenizer
    fixed = [field for field in found if field.startswith("data.rows.") or field in never]
    private = bool(found) and load_experiment_dict(folder).get("private") is not None
    if private:
        fixed = list(found)
    asked = found or any(not _is_of_data(field) for field in changed)
    if fixed or (asked and not resume_with_changes):
        why = _OTHER_WORDS if _OF_TOKENIZER in fixed and tokenizer_of(dataset) is not None else ""
        why = _OF_ONE_SET if private else why
        _refuse(folder, changed | found, fixed, why)
    return changed | found


def check_not_lost(folder: pathlib.Path) -> None:
    """Checks that a run without checkpoints never had any. Raises RunFolderError where its log tells of later steps.

    That is so where the disk of the checkpoints is not mounted: a run that begins anew would overwrite the folder.
    """
    log = folder / "metrics.jsonl"
    last = max((line["step"] for line in read_lines(log)[0]), default=0) if log.is_file() else 0
    every = load_experiment_dict(folder).get("checkpoint_every") if last else None
    if isinstance(every, int) and last > 2 * every:  # the first one is complete before the second is begun
        raise RunFolderError(
            f"{folder / 'checkpoints'} holds no checkpoint, but metrics.jsonl goes on to step {last:,} and there was "
            f"one each {every:,}: bring them back (is their disk mounted?), give another --workdir, or delete "
            "metrics.jsonl to begin anew here"
        )


def in_words(changes: Changes) -> str:
    """Returns the changes in words, each on a new line."""
    return "".join(f"\n  {field}: {_short(old)} there, {_short(now)} now" for field, (old, now) in changes.items())


def _refuse(folder: pathlib.Path, shown: Changes, fixed: Sequence[str], why: str = "") -> NoReturn:
    """Raises RunFolderError, naming the changes that are `shown`; `fixed` ones cannot change at all, as `why` says."""
    of = "data" if all(map(_is_of_data, shown)) else "experiment"
    remedy = "--resume-with-changes to go on with the new values"
    if fixed:
        remedy = f"undo the change ({', '.join(fixed)} cannot change within a run)"
    raise RunFolderError(
        f"{folder} holds a run of {'other data' if of == 'data' else 'another experiment'}:{in_words(shown)}\n{why}"
        f"Give a new --workdir, or {remedy}"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _is_of_data(field: str) -> bool:
    return field.split(".")[0] == "data"


def _may_change(field: str, knows_data: bool) -> bool:
    parts = field.split(".")
    replaces_optimizer = parts[0] == "optim" and (len(parts) == 2 or parts[2:] == ["class"])
    allowed = parts[0] in MAY_CHANGE or (knows_data and _is_of_data(field))
    return (allowed or (parts[0] == "model" and _OF_DRAWING in f"{field}.")) and not replaces_optimizer


def data_changes(folder: pathlib.Path, dataset: Any) -> Changes:
    """Returns where data differ from those that the folder's run was trained on; {} where it does not say."""
    stored, now = _data_record(folder), _record_of(dataset)
    if not stored:
        return {}
    old = {f"data.{name}": value for name, value in _facts(stored).items()}
    new = {f"data.{name}": value for name, value in _facts(now).items()}
    if "content" not in stored:  # written by an earlier version, or of an imported model: the rest is adopted
        old = {name: value for name, value in old.items() if value and name in new}
        new = {name: new[name] for name in old}
    missing = "(absent)"
    names = dict.fromkeys([*old, *new])
    return {n: (old.get(n, missing), new.get(n, missing)) for n in names if old.get(n, missing) != new.get(n, missing)}


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is compared about data, by name."""
    names = list(record.get("class_names", []))
    rows = {f"rows.{name}.{key}": row[key] for name, row in record["rows"].items() for key in ("shape", "dtype")}
    found = {"num_classes": len(names), "class_names": names, "images": record.get("images")}
    digests = {f"content.{name}": digest for name, digest in record.get("content", {}).items()}
    return rows | {name: value for name, value in found.items() if value is not None} | digests


def _record_of(dataset: Any) -> dict[str, Any]:
    record = _rows_record(row_shapes(dataset), class_names_of(dataset))
    number = {"images": len(dataset)} if isinstance(dataset, Recorded) else {}
    return record | number | {"content": contents(dataset)}


def _rows_record(rows: Rows, class_names: Sequence[str]) -> dict[str, Any]:
    found = {name: {"shape": list(row.shape), "dtype": str(row.dtype)} for name, row in rows.items()}
    return {"rows": found, "class_names": list(class_names)}


# --- its files -------------------------------------------------------------------------------------------------------


def store(
    folder: pathlib.Path, experiment: Experiment, changed: Changes, dataset: Any, best: Best | None = None
) -> None:
    """Writes all files that say which run the folder holds; before this, nothing in it was touched."""
    (folder / "samples").mkdir(exist_ok=True)
    store_experiment(folder, experiment, changed)
    store_data(folder, dataset)
    if best is not None:
        store_best(folder, best)


def store_experiment(folder: pathlib.Path, experiment: Experiment, changed: Changes) -> None:
    """Writes experiment.json, and adds to changes.jsonl the fields that have other values in a resumed run."""
    if changed:
        with (folder / "changes.jsonl").open("a") as file:
            file.write(json.dumps(changed) + "\n")
    write_json(folder / "experiment.json", to_dict(experiment))


def store_data(folder: pathlib.Path, dataset: Any) -> None:
    """Writes data.json and the files of a tokenizer of texts: what the data are, and what it takes without them."""
    write_json(folder / "data.json", _record_of(dataset))
    keep_tokenizer(folder / TOKENIZER, tokenizer_of(dataset))


def store_rows(
    folder: pathlib.Path, rows: Rows, class_names: Sequence[str] = (), tokenizer: Tokenizer | None = None
) -> None:
    """Writes data.json, the shapes of a batch's rows and the class names, and the files of a tokenizer of texts."""
    write_json(folder / "data.json", _rows_record(rows, class_names))
    keep_tokenizer(folder / TOKENIZER, tokenizer)


def store_best(folder: pathlib.Path, best: Best) -> None:
    """Writes best.json: the score by which the best checkpoint is chosen."""
    write_json(folder / "best.json", best._asdict())


def load_experiment(folder: pathlib.Path, modules: Sequence[str] = ()) -> Experiment:
    """Rebuilds the experiment of a run from its folder. Raises RunFolderError where it is missing or damaged."""
    tree, path = load_experiment_dict(folder), folder / "experiment.json"
    try:
        found = from_dict(tree, modules)
    except Exception as error:  # whatever the classes that it names raise at the values that it gives
        raise RunFolderError(f"{path} cannot be read: {in_short(error)}") from error
    if not isinstance(found, Experiment):
        raise RunFolderError(f"{path} holds a {type(found).__name__}, not an Experiment: restore it")
    return found


def load_changes(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the changes with which a run was resumed: a dictionary for each time, field -> [old value, new value].

    Raises RunFolderError where changes.jsonl is damaged.
    """
    path, changes = folder / "changes.jsonl", []
    for number, text in enumerate(path.read_text("utf-8", "replace").splitlines() if path.is_file() else [], 1):
        try:
            change = json.loads(text)
        except (ValueError, RecursionError):
            change = None
        if not isinstance(change, dict):
            raise RunFolderError(f"{path} is damaged in line {number}: remove that line, or restore the file")
        changes.append(change)
    return changes


def _data_record(folder: pathlib.Path) -> dict[str, Any]:
    """Reads data.json and checks its form; {} where there is none."""
    path = folder / "data.json"
    if not path.is_file():
        return {}
    found = read_json(path)
    try:
        shapes = [jax.ShapeDtypeStruct(tuple(row["shape"]), np.dtype(row["dtype"])) for row in found["rows"].values()]
        whole = all(type(n) is int and n >= 0 for shape in shapes for n in shape.shape) and len(shapes) > 0
        whole = whole and isinstance(found.get("class_names", []), list) and isinstance(found.get("content", {}), dict)
    except (TypeError, KeyError, AttributeError, ValueError):
        whole = False
    if not whole:
        raise RunFolderError(f"{path} is damaged: it does not say what a row of the data is; restore it, or delete it "
                             "and train on, which writes it anew")  # fmt: skip
    return found


def load_rows(folder: pathlib.Path) -> Rows:
    """Returns shape and dtype of one row of a run's batches. Raises RunFolderError where the folder does not say."""
    stored = _data_record(folder)
    if not stored:
        raise RunFolderError(f"{folder} has no data.json: restore it, or train on, which writes it anew")
    return {name: jax.ShapeDtypeStruct(tuple(row["shape"]), row["dtype"]) for name, row in stored["rows"].items()}


def load_tokenizer(folder: pathlib.Path, source: Any) -> Tokenizer:
    """Reads the tokenizer of texts of a run on data of `source`. Raises RunFolderError where it keeps none."""
    if not isinstance(source, KeepsTokenizer):
        raise RunFolderError(f"{folder} is a run on data without texts, {source}: it has no tokenizer")
    try:
        return source.kept_tokenizer(folder / TOKENIZER)
    except (OSError, ValueError) as error:
        raise RunFolderError(f"the tokenizer of {folder} cannot be read ({error}): restore its files") from error


def load_class_names(folder: pathlib.Path) -> tuple[str, ...]:
    """Returns the names of the classes in a run's data; () where they have none."""
    return tuple(_data_record(folder).get("class_names", ()))


def load_contents(folder: pathlib.Path) -> dict[str, str]:
    """Returns the digests of the data that a run was trained on, by array; {} where the folder does not say."""
    return dict(_data_record(folder).get("content", {}))
