"""Files that torch saved, read without torch: their tensors become arrays, and nothing in them is executed."""

from __future__ import annotations

import functools
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO

import ml_dtypes  # noqa: F401  (tells NumPy of bfloat16)
import numpy as np

_OLDER_MAGIC, _OLDER_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip


def read_torch(file: BinaryIO) -> Any:
    """Reads what `torch.save` wrote, with an array in place of each tensor: zip files and the older format.

    A pickle may name only OrderedDict, torch's storages and the functions that rebuild tensors, for which functions of
    this module stand in. Raises errors of every kind for a damaged file, and UnpicklingError for any other name.
    """
    return _read_zip(file) if zipfile.is_zipfile(file) else _read_older(file)


def _view(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    """Makes a tensor as a view of its storage, for torch's `_rebuild_tensor` and `_rebuild_tensor_v2`."""
    if storage.ndim != 1 or not storage.flags.c_contiguous:  # a tensor in its place would break the bounds below
        raise ValueError("a tensor whose storage is none")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    count = math.prod(size)
    if min((offset, *size, *stride)) < 0 or count > len(storage) or (count and last >= len(storage)):
        raise ValueError(f"a tensor of size {size}, stride {stride} at {offset} in a storage of {len(storage)} values")
    strides = [s * storage.itemsize for s in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False)


def _parameter(tensor: np.ndarray, *_: Any) -> np.ndarray:
    """Returns the tensor itself, for torch's `_rebuild_parameter`."""
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
    """Reads the format of torch 1.6 and newer: a zip with `data.pkl` and one uncompressed member a storage."""
    with zipfile.ZipFile(file) as members:
        root = next(name for name in [*members.namelist(), "data.pkl"] if name.endswith("data.pkl"))[: -len("data.pkl")]
        if f"{root}byteorder" in members.namelist() and members.read(f"{root}byteorder") != b"little":
            raise ValueError("its byte order is not little-endian")

        @functools.cache  # of a storage that several tensors share
        def storage(kind: str, key: str, length: int) -> np.ndarray:
            member = members.getinfo(f"{root}data/{key}")
            if member.file_size != member.compress_size:
                raise ValueError(f"storage {key} is compressed, which torch never does")
            return np.frombuffer(members.read(member), kind, length)

        with members.open(f"{root}data.pkl") as pickled:
            return _Unpickler(pickled, storage).load()


def _read_older(file: BinaryIO) -> Any:
    """Reads the format of torch before 1.6.

    Five pickles (magic, protocol, system, tensors, keys), then each storage after its length.
    """
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
