"""Parameter counts and memory of networks, from arrays or from their shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def parameter_summary(state: Any) -> dict[str, dict[str, Any]]:
    """Counts the trainable parameters of each network.

    Network -> {"count", "bytes", "arrays": [{"name", "shape", "dtype", "count"}]}
    """
    return {network: network_summary(params) for network, params in state.params.items()}


def network_summary(params: Any) -> dict[str, Any]:
    """Counts one network's parameters, in total and array by array."""
    arrays = [
        {
            "name": jax.tree_util.keystr(path, simple=True, separator="/"),
            "shape": list(leaf.shape),
            "dtype": str(leaf.dtype),
            "count": count(leaf),
        }
        for path, leaf in jax.tree.leaves_with_path(params)
    ]
    return {"count": count(params), "bytes": size_in_bytes(params), "arrays": arrays}


def count(tree: Any) -> int:
    """Returns how many numbers the arrays of a tree hold."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def size_in_bytes(tree: Any) -> int:
    """Returns how many bytes the arrays of a tree take."""
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def memory_of(state: Any) -> Mapping[str, int]:
    """Returns how many bytes each part of a state takes."""
    parts = {"parameters": state.params, "statistics": state.stats, "optimizers": state.opt, "averages": state.ema}
    return {name: size_in_bytes(tree) for name, tree in parts.items()}
