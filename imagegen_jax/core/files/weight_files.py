"""The one reader of files of weights: .npz, .safetensors and what torch saved or pickled, as arrays by name."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from imagegen_jax.core.files.npz import read_arrays
from imagegen_jax.core.files.pickled_trees import named
from imagegen_jax.core.files.regular import Path, check_regular, open_regular
from imagegen_jax.core.files.torch_files import read_torch
from imagegen_jax.core.files.wrong_files import INDEX, check_content, parts_of

_LONGEST = 300  # letters of what an error says
SUFFIXES = (".npz", ".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pkl", INDEX)

Arrays = dict[str, np.ndarray]  # by the names of the file; of mappings inside others, with "/" between


class WeightFile(NamedTuple):
    """What a file of weights holds."""

    arrays: Arrays
    metadata: Mapping[str, Any] = {}  # what a .safetensors says of itself; numbers and texts among torch's tensors


def read_weight_file(path: Path) -> WeightFile:
    """Reads the arrays of an .npz, of a .safetensors, or of what torch saved or pickled (any other suffix).

    Nothing in the file is executed, and of what torch saved all is left out but arrays, numbers and texts. The names of
    a whole module, as in NVIDIA's .pkl, are those of its parameters and buffers. Of a network in several files, given
    by one of them or by their `.index.json`, all are read. Values of 8 and 16 bits, which float32 holds exactly, become
    float32; other types stay.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, holds anything else, or a part is missing.
    """
    place = pathlib.Path(path).expanduser()
    if not place.exists():
        raise FileNotFoundError(f"no weights at {place}: give the name of a file that is there")
    check_regular(place)
    found = [_read_one(part) for part in parts_of(place)]
    arrays = {name: _widened(array) for part in found for name, array in part.arrays.items()}
    return WeightFile(arrays, found[0].metadata)


def _read_one(place: pathlib.Path) -> WeightFile:
    with open_regular(place) as file:
        try:
            check_content(file, place.suffix)
            if place.suffix == ".npz":
                found = WeightFile(read_arrays(place, "is not an .npz of weights"))
            elif place.suffix == ".safetensors":
                found = _read_safetensors(place)
            else:
                found = WeightFile(*named(read_torch(file), file.seek(0, 2)))
            if not found.arrays:
                raise ValueError("it holds no arrays, so it is not a state dict, a mapping from names to tensors")
        except Exception as error:  # parsers of damaged files raise errors of every kind
            text = "".join(c if c.isprintable() else " " for c in str(error)[:_LONGEST])  # names in it are the file's
            reason = text or type(error).__name__
            raise ValueError(f"{place}: truncated, or not a file of weights ({reason})") from error
    return found


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


def _widened(array: np.ndarray) -> np.ndarray:
    small = array.dtype == np.float16 or array.dtype.name.startswith(("bfloat16", "float8"))
    return array.astype(np.float32) if small else array
