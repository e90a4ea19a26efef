"""Where the weights of a network come from: another run, a file, or nowhere. The values of `Experiment.pretrained`."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import flax.traverse_util
import numpy as np

from imagegen_jax.core.checkpoints.errors import CheckpointError
from imagegen_jax.core.checkpoints.fingerprint import check_finite
from imagegen_jax.core.checkpoints.run_files import load_best, load_experiment_dict
from imagegen_jax.core.checkpoints.stored import Stored
from imagegen_jax.core.config.bounds import Natural
from imagegen_jax.core.files.claim import RunFolderError
from imagegen_jax.core.files.weight_files import SUFFIXES, read_weight_file, with_prefix
from imagegen_jax.core.model import LabelRows, Variables

FORMS = 'a run folder ("runs/a", or "runs/a:encoder" for its network "encoder"), a file of weights or "random"'

_OF_CLASSES = ("label", "kernel")  # of all denoising networks, what turns a class into an embedding: [classes width]


@runtime_checkable
class Weights(Protocol):
    """Where the weights of a network come from: a frozen dataclass of plain values, like all parts of an experiment."""

    def read(self, network: str) -> Variables | None:
        """Returns the collections for the model's network of this name; None to keep the fresh ones.

        Raises ValueError, FileNotFoundError, RunFolderError or CheckpointError where there are none, and NonFiniteError
        where they hold NaN.
        """
        ...


@dataclasses.dataclass(frozen=True)
class FromRun:
    """The weights of a network of a run, as that run samples from them: averaged where it keeps an average.

    They are read as they lie there. Neither the run's data nor the classes of its model are needed.
    """

    path: str  # the run's folder
    network: str | None = None  # the network's name in that run; None: the same as here
    step: Natural | Literal["best"] | None = None  # which checkpoint; None: the newest good one
    average: str | None = None  # which moving average; "none": the last step's weights; None: the first
    more_classes: Natural = 0  # classes that the model here knows beside the run's: each begins as these are on average
    label_rows: LabelRows = "plain"  # what the network makes of them, where there are more

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", os.fspath(self.path))

    def read(self, network: str) -> Variables:
        """Reads the network of a run. Raises RunFolderError where there is no run, ValueError for no such network."""
        folder, wanted = pathlib.Path(self.path).expanduser(), self.network or network
        average = _average(folder, self.average)
        stored = Stored(folder / "checkpoints", load_best(folder) if self.step == "best" else None)
        step = stored.best_step() if self.step == "best" else self.step
        if step not in (None, *stored.steps()):
            raise CheckpointError(f"{folder} has no checkpoint of step {step}; it has {stored.steps()}")
        found = stored.newest(lambda at: stored.read_network(at, wanted, average), None if step is None else [step])
        if found is None:
            raise CheckpointError(f"{folder} has no checkpoint yet")
        variables, names = found.tree
        if variables is None:
            raise ValueError(
                f"{folder} has no network {wanted!r}; it has {names}: name one of them ({self.path}:{names[0]})"
            )
        remedy = "Choose another checkpoint (step) or average, or train it anew"
        check_finite(variables, f"the network {wanted!r} of {folder} at step {found.step:,}", remedy)
        if not self.more_classes:
            return variables
        return with_more_classes(variables, self.more_classes, self.path, self.label_rows)


@dataclasses.dataclass(frozen=True)
class FromFile:
    """The weights in a file, .npz, .safetensors, torch's or NVIDIA's .pkl, by names as paths: "params/Conv_0/kernel".

    `save_network` writes such files. Arrays are read, nothing in the file is executed; of a network in several files,
    any part or their index stands for all.
    """

    path: str
    network: str | None = None  # what the names of its arrays begin with; None: the file holds this network alone

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", os.fspath(self.path))

    def read(self, network: str) -> Variables:
        """Reads the network in a file. Raises FileNotFoundError, or ValueError for a damaged file or no such names."""
        arrays = read_weight_file(self.path).arrays
        if self.network is not None:
            arrays = with_prefix(arrays, self.network, self.path)
        separator = "/" if any("/" in name for name in arrays) else "."
        collections: dict[str, Any] = {}
        for name, array in arrays.items():
            *parents, leaf = name.split(separator)
            node = collections
            for parent in parents:
                node = node.setdefault(parent, {})
                if not isinstance(node, dict):
                    raise ValueError(f"{self.path} holds no network: {name!r} is below an array")
            if leaf in node:
                raise ValueError(f"{self.path} holds no network: {name!r} is above another array")
            node[leaf] = array
        remedy = "Save them anew from a checkpoint whose weights are finite"
        check_finite(collections, f"the weights in {self.path}", remedy)
        return collections


@dataclasses.dataclass(frozen=True)
class Random:
    """Fresh weights, asked for by name: for smoke runs of a model whose frozen networks want trained ones."""

    def read(self, network: str) -> None:
        """Returns None."""
        return None


def with_more_classes(variables: Variables, more: int, place: str, kind: LabelRows = "plain") -> Variables:
    """Returns a network with rows for more classes in its layer "label", to which its own classes are what they were.

    Each is the mean of those that are there; of columns of unit magnitude, with the mean's sign. `kind` is what the
    network makes of the rows. Raises ValueError for a network without such a layer, which sees no classes, or not so.
    """
    found = dict(flax.traverse_util.flatten_dict(variables))
    paths = [path for path in found if path[-2:] == _OF_CLASSES]
    if not paths:
        raise ValueError(f"{place}: its network has no layer {_OF_CLASSES[0]!r}, so that no class can be added to it")
    for path in paths:
        found[path] = _longer(np.asarray(found[path]), more, kind)
    return flax.traverse_util.unflatten_dict(found)


def _longer(rows: np.ndarray, more: int, kind: LabelRows) -> np.ndarray:
    """Returns the rows of a layer "label" with `more` for new classes; the network sees the others as before."""
    known, last = (rows[:-1], rows[-1:]) if kind == "dropped" else (rows, rows[:0])
    new = known.mean(0, keepdims=True)
    if kind == "unit":  # a row of the root mean square leaves that of each column as it is
        new = np.where(new < 0, -1, 1) * np.sqrt(np.mean(known**2, axis=0, keepdims=True))
    made = np.concatenate([known, np.repeat(new, more, 0), last])
    scale = math.sqrt(len(rows) / len(made)) if kind == "scaled" else 1.0
    return (made * scale).astype(rows.dtype)


def parse(text: str) -> Weights:
    """Reads "random", "runs/a", "runs/a:encoder", "a.npz" or "a.safetensors:encoder" as weights.

    What follows the last colon is the network's name there, unless a file or folder exists whose name has the colon.
    Raises ValueError where nothing is named.
    """
    if text == "random":
        return Random()
    path, colon, network = text.rpartition(":")
    if not colon or "/" in network or pathlib.Path(text).expanduser().exists():
        path, colon, network = text, "", ""
    if not path or (colon and not network):
        raise ValueError(f"{text!r} names no weights: give {FORMS}")
    return (FromFile if path.endswith(SUFFIXES) else FromRun)(path, network or None)


def weights_of(value: str | os.PathLike[str] | Weights) -> Weights:
    """Returns the weights that a text or a path stands for, and weights as they are. Raises ValueError for others."""
    if isinstance(value, Weights):
        return value
    if isinstance(value, (str, os.PathLike)):
        return parse(os.fspath(value))
    raise ValueError(f"{value!r} is no weights: give {FORMS}, or a value with `read`, such as FromRun")


def read_all(pretrained: Mapping[str, str | Weights]) -> dict[str, Variables]:
    """Reads the weights of each network, without those that stay fresh; raises what `Weights.read` does."""
    found = {}
    for network, value in pretrained.items():
        try:
            variables = weights_of(value).read(network)
        except RunFolderError as error:
            raise RunFolderError(
                f"pretrained[{network!r}]: {error}. Train that run first, or name another: --pretrained.{network} RUN"
            ) from error
        if variables is not None:
            found[network] = variables
    return found


def _average(folder: pathlib.Path, name: str | None) -> str | None:
    """Returns the name of the average to read of a run; None for the last step's weights."""
    averages = load_experiment_dict(folder).get("averages")
    kept = list(averages) if isinstance(averages, dict) else []
    if name is None:
        return next(iter(kept), None)
    if name not in (*kept, "none"):
        raise ValueError(f"average {name!r}: {folder} keeps {', '.join(kept) or 'none'}; or say 'none'")
    return None if name == "none" else name
