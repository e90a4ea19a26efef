"""The weights of published networks, read from files without executing anything in them."""

from __future__ import annotations

import functools
import hashlib
import math
import pathlib
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from imagegen_jax.core.files import open_regular
from imagegen_jax.core.npz import read_arrays

Weights = Mapping[str, np.ndarray]  # by the names of the file that they were published in


def read_weights(path: str | pathlib.Path, sha256: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`, or of a state dict that torch saved (zip files and the older format), by name.

    Nothing in the file is executed: a pickle may name only OrderedDict, torch's storages and the functions that
    rebuild tensors, for which functions of this module stand in.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file's SHA-256 is not `sha256` (where given), or the file is truncated or holds anything else.
    """
    path = pathlib.Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"no weights at {path}")
    with open_regular(path) as file:
        if sha256 and (found := hashlib.file_digest(file, "sha256").hexdigest()) != sha256:
            raise ValueError(f"{path} ({path.stat().st_size:,} bytes) has SHA-256 {found}, expected {sha256}")
        file.seek(0)
        try:
            if path.suffix == ".npz":
                return read_arrays(path, "is not an .npz of weights")
            tensors = _read_zip(file) if zipfile.is_zipfile(file) else _read_older(file)
        except Exception as error:  # parsers of damaged files raise errors of every kind
            raise ValueError(f"{path}: truncated, or not a file of weights ({error})") from error
    if not isinstance(tensors, dict) or not all(isinstance(array, np.ndarray) for array in tensors.values()):
        raise ValueError(f"{path}: not a state dict, which is a mapping from names to tensors")
    return {str(name): array.copy() for name, array in tensors.items()}


def select(weights: Weights, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The weights named in `shapes`, as float32. Raises ValueError naming those that are absent or of another shape."""
    wrong = [
        f"{name} {list(weights[name].shape) if name in weights else 'absent'}, expected {list(shape)}"
        for name, shape in shapes.items()
        if name not in weights or weights[name].shape != tuple(shape)
    ]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"these weights are not those of this network: {'; '.join(wrong[:3])}{more}")
    return {name: np.asarray(weights[name], np.float32) for name in shapes}


_OLDER_MAGIC, _OLDER_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8"}


def _view(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    """A tensor as a view of its storage; torch's `_rebuild_tensor` and `_rebuild_tensor_v2`."""
    if storage.ndim != 1 or not storage.flags.c_contiguous:  # a tensor in its place would break the bounds below
        raise ValueError("a tensor whose storage is none")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    count = math.prod(size)
    if min((offset, *size, *stride)) < 0 or count > len(storage) or (count and last >= len(storage)):
        raise ValueError(f"a tensor of size {size}, stride {stride} at {offset} in a storage of {len(storage)} values")
    strides = [s * storage.itemsize for s in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False)


def _parameter(tensor: np.ndarray, *_: Any) -> np.ndarray:
    """The tensor of torch's `_rebuild_parameter`."""
    return tensor


class _Unpickler(pickle.Unpickler):
    """Knows the few names that a state dict needs; any other is an error."""

    def __init__(self, file: Any, storage: Callable[[str, str, int], np.ndarray]) -> None:
        super().__init__(file, encoding="utf-8")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2":
                return functools.partial(_view)  # a new object each time: a pickle may set attributes of what it names
            case "torch._utils", "_rebuild_parameter":
                return functools.partial(_parameter)
        raise pickle.UnpicklingError(f"refused: it names {module}.{name}, which no state dict needs")

    def persistent_load(self, pid: Any) -> np.ndarray:
        _, kind, key, _, length, *view = pid
        if kind not in _STORAGES.values() or view not in ([], [None]):
            raise pickle.UnpicklingError("a storage of another kind, or a part of another one")
        return self._storage(kind, str(key), int(length))


def _read_zip(file: BinaryIO) -> Any:
    """torch 1.6 and newer: a zip with `data.pkl` and one uncompressed member a storage."""
    with zipfile.ZipFile(file) as members:
        root = next(name for name in [*members.namelist(), "data.pkl"] if name.endswith("data.pkl"))[: -len("data.pkl")]
        if f"{root}byteorder" in members.namelist() and members.read(f"{root}byteorder") != b"little":
            raise ValueError("its byte order is not little-endian")

        def storage(kind: str, key: str, length: int) -> np.ndarray:
            return np.frombuffer(members.read(f"{root}data/{key}"), kind, length)

        with members.open(f"{root}data.pkl") as pickled:
            return _Unpickler(pickled, storage).load()


def _read_older(file: BinaryIO) -> Any:
    """torch before 1.6: five pickles (magic, protocol, system, tensors, keys), then each storage after its length."""
    storages: dict[str, np.ndarray] = {}

    def storage(kind: str, key: str, length: int) -> np.ndarray:
        if length * np.dtype(kind).itemsize > size:
            raise ValueError("a storage larger than the file")
        return storages.setdefault(key, np.zeros(length, kind))

    size = file.seek(0, 2)
    file.seek(0)
    if [_Unpickler(file, storage).load() for _ in range(2)] != [_OLDER_MAGIC, _OLDER_PROTOCOL]:
        raise ValueError("it does not start as a state dict does")
    if not _Unpickler(file, storage).load()["little_endian"]:
        raise ValueError("its byte order is not little-endian")
    tensors = _Unpickler(file, storage).load()
    for key in _Unpickler(file, storage).load():
        values = storages[str(key)]
        if int.from_bytes(file.read(8), "little") != len(values):
            raise ValueError(f"storage {key} does not have {len(values)} values")
        values[:] = np.frombuffer(file.read(values.nbytes), values.dtype, len(values))
    return tensors
