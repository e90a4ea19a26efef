"""The one reader of files of weights: .npz, .safetensors and what torch saved, as arrays by name."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from imagegen_jax.core.files.npz import read_arrays
from imagegen_jax.core.files.regular import Path, open_regular
from imagegen_jax.core.files.torch_files import read_torch

SUFFIXES = (".npz", ".safetensors", ".pt", ".pth", ".bin", ".ckpt")

Arrays = dict[str, np.ndarray]  # by the names of the file; of mappings inside others, with "/" between


class WeightFile(NamedTuple):
    """What a file of weights holds."""

    arrays: Arrays
    metadata: Mapping[str, Any] = {}  # what a .safetensors says of itself; numbers and texts among torch's tensors


def read_weight_file(path: Path) -> WeightFile:
    """Reads the arrays of an .npz, of a .safetensors, or of a mapping of tensors that torch saved (any other suffix).

    Nothing in the file is executed. Values of 16 bits, which float32 holds exactly, become float32; other types stay.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, or holds anything else.
    """
    place = pathlib.Path(path).expanduser()
    if not place.exists():
        raise FileNotFoundError(f"no weights at {place}")
    with open_regular(place) as file:
        try:
            if place.suffix == ".npz":
                found = WeightFile(read_arrays(place, "is not an .npz of weights"))
            elif place.suffix == ".safetensors":
                found = _read_safetensors(place)
            else:
                found = _flattened(read_torch(file))
            if not found.arrays:
                raise ValueError("it holds no arrays")
        except Exception as error:  # parsers of damaged files raise errors of every kind
            raise ValueError(f"{place}: truncated, or not a file of weights ({error})") from error
    return found._replace(arrays={name: _widened(array) for name, array in found.arrays.items()})


def with_prefix(arrays: Arrays, prefix: str, place: Path) -> Arrays:
    """Returns the arrays below a prefix by the rest of their names: for "encoder", "encoder.a" and "encoder/a" as "a".

    Raises ValueError, naming the file's first parts of names, where there are none.
    """
    found = {name[len(prefix) + 1 :]: x for name, x in arrays.items() if name.startswith((f"{prefix}.", f"{prefix}/"))}
    if not found:
        there = ", ".join(sorted({name.replace("/", ".").split(".")[0] for name in arrays})[:10])
        raise ValueError(f"{place} has no weights below {prefix!r}; the names in it begin with: {there}")
    return found


def _read_safetensors(path: pathlib.Path) -> WeightFile:
    import ml_dtypes  # noqa: F401  (tells NumPy of bfloat16)
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return WeightFile(arrays, file.metadata() or {})


def _flattened(tree: Any) -> WeightFile:
    leaves = list(_leaves(tree, "", set())) if isinstance(tree, dict) else []
    arrays = {name: np.array(value) for name, value in leaves if isinstance(value, np.ndarray)}
    if not arrays:
        raise ValueError("not a state dict, which is a mapping from names to tensors")
    return WeightFile(arrays, {name: value for name, value in leaves if name not in arrays})


def _leaves(node: Mapping[Any, Any], path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    if id(node) in seen:  # a few mappings, each many times in the next, would make it endless
        raise ValueError("a mapping that is there twice")
    seen.add(id(node))
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}/", seen)
        else:
            yield f"{path}{key}", value


def _widened(array: np.ndarray) -> np.ndarray:
    half = array.dtype == np.float16 or array.dtype.name == "bfloat16"
    return array.astype(np.float32) if half else array
