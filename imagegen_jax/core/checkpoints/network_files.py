"""One network by itself: read from a run or a file, and written to a file."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from imagegen_jax.core.checkpoints.weights import Weights, weights_of

Path = str | os.PathLike[str]


def load_network(source: Path | Weights, network: str) -> Mapping[str, Any]:
    """Reads the collections of one network, as sampling sees them, from a run folder or a file of `save_network`.

    `source` is anything that `Experiment.pretrained` takes, such as "runs/a:encoder" where the network has another
    name there. Raises ValueError where it has no such network or is no such file, and NonFiniteError where it holds
    NaN.
    """
    found = weights_of(source).read(network)
    if found is None:
        raise ValueError(f"{source!r} holds no weights to load")
    return found


def save_network(path: Path, variables: Mapping[str, Any]) -> None:
    """Writes the collections of one network to a file, with each array under its path ("params/Conv_0/kernel").

    Writes a .safetensors where `path` ends so, and else an .npz.
    """
    leaves = jax.tree.leaves_with_path(dict(variables))
    arrays: dict[str, Any] = {jax.tree_util.keystr(at, simple=True, separator="/"): np.asarray(x) for at, x in leaves}
    if pathlib.Path(path).suffix == ".safetensors":
        from safetensors.numpy import save_file

        return save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    np.savez(path, **arrays)
