"""Files that torch saved, read without torch: what they hold of tensors, and nothing in them is executed."""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import ml_dtypes  # noqa: F401  (tells NumPy of bfloat16)
import numpy as np

from imagegen_jax.core.files.pickles import Known, Opaque, checked_key, fill, read_pickle

_OLDER_MAGIC, _OLDER_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": "bfloat16",
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?", "ComplexFloatStorage": "c8", "ComplexDoubleStorage": "c16", "UntypedStorage": "u1",
}  # fmt: skip
_LATER_TYPES = (
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "uint16", "uint32",
    "uint64",
)  # fmt: skip
_MAPPINGS = (
    "collections.OrderedDict", "collections.defaultdict", "collections.Counter", "dnnlib.EasyDict",
    "dnnlib.util.EasyDict",
)  # fmt: skip
ZIP = b"PK\3\4"  # what zips start with
_TENSORS = "torch._utils._rebuild_"
_DIMENSIONS = 64  # of an array of NumPy


@dataclasses.dataclass(eq=False)
class Storage:
    """The values that one or more tensors are views of."""

    kind: str  # of NumPy
    length: int
    load: Callable[[int], bytes] | None  # reads so many bytes; None: not known yet where they lie
    big: bool = False  # of its bytes, the highest comes first
    views: int = 0  # tensors that share it
    kept: bytes | None = None

    @property
    def size(self) -> int:
        """Returns the number of bytes."""
        return self.length * np.dtype(self.kind).itemsize

    def content(self) -> bytes:
        """Reads the bytes, once for all who share them. Raises ValueError where they are fewer than declared."""
        found = self.kept if self.kept is not None else self.load(self.size) if self.load else b""
        if len(found) < self.size:
            raise ValueError(f"a storage of {self.size:,} bytes, of which {len(found):,} are there")
        if self.views > 1:
            self.kept = found
        return found

    def raw(self, dtype: np.dtype[Any]) -> np.ndarray:
        """Returns the bytes of values of this type, as this machine has them."""
        found = np.frombuffer(self.content(), "u1", self.size)
        if self.big:
            width = dtype.itemsize // (2 if dtype.kind == "c" else 1)
            found = found.reshape(-1, width)[:, ::-1].reshape(-1)
        return found


@dataclasses.dataclass(eq=False)
class Tensor:
    """A view of a storage, as torch's `_rebuild_tensor_v2` and others make it; its values are read by `array`."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in values
    kind: str

    def __post_init__(self) -> None:
        if not isinstance(self.storage, Storage):
            raise ValueError("a tensor whose storage is none")
        if max(len(self.shape), len(self.strides)) > _DIMENSIONS:
            raise ValueError(f"a tensor of more than {_DIMENSIONS} dimensions")
        if not all(type(n) is int for n in (self.offset, *self.shape, *self.strides)):
            raise ValueError("a tensor whose size is no numbers")  # nor said here: what it is may be without end
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        length = self.storage.size // np.dtype(self.kind).itemsize
        if min((self.offset, *self.shape, *self.strides)) < 0 or (0 not in self.shape and last >= length):
            raise ValueError(
                f"a tensor of size {self.shape}, stride {self.strides} at {self.offset} in a storage of {length} values"
            )
        self.storage.views += 1

    @property
    def size(self) -> int:
        """Returns the number of bytes of its values, also of those that are the same in memory."""
        return math.prod(self.shape) * np.dtype(self.kind).itemsize

    def array(self) -> np.ndarray:
        """Reads the values, as an array of its own."""
        if 0 in self.shape:
            return np.zeros(self.shape, self.kind)
        dtype, strides = np.dtype(self.kind), [n * np.dtype(self.kind).itemsize for n in self.strides]
        raw = self.storage.raw(dtype)
        view: np.ndarray = np.ndarray(self.shape, dtype, raw.data, self.offset * dtype.itemsize, strides)
        return np.array(view, order="C")


def read_torch(file: BinaryIO) -> Any:
    """Reads what `torch.save` or `pickle.dump` wrote, with a `Tensor` in place of each of torch's.

    These are zip files, the format before torch 1.6, and pickles whose tensors have theirs inside. `file` stays open
    until all tensors are read. Raises errors of every kind for a damaged file.
    """
    return _read(file, embedded=True)


def _read(file: BinaryIO, embedded: bool) -> Any:
    size = file.seek(0, 2)
    known = _known(size, embedded)
    file.seek(0)
    return (_read_zip if file.read(4) == ZIP else _read_pickles)(file, size, known)


def _known(size: int, embedded: bool) -> Known:
    """Returns what is made of calls in a file of `size` bytes; of what these copy, only as much as the file has."""
    left = {"texts": size, "storages": size, "items": size}

    def spend(what: str, count: int) -> None:
        left[what] -= count
        if left[what] < 0:
            raise ValueError(f"more {what} than a file of {size:,} bytes can have")

    def encoded(text: str, encoding: str) -> bytes:
        spend("texts", len(text))
        if encoding not in ("latin1", "latin-1"):
            raise ValueError("bytes in another encoding than Latin-1")
        return text.encode("latin-1")

    def inside(content: bytes) -> Any:
        spend("storages", len(content))
        return _read(io.BytesIO(content), embedded=False)

    def pairs(*arguments: Any) -> dict[Any, Any]:  # of a mapping; a factory of its defaults is left out
        given = arguments[-1] if arguments and isinstance(arguments[-1], (dict, list, tuple)) else ()
        spend("items", len(given))
        return given if isinstance(given, dict) else fill({}, given)

    def members(values: Any = ()) -> set[Any]:
        spend("items", len(values))
        return set(map(checked_key, values))

    known: dict[str, Callable[..., Any]] = dict.fromkeys(_MAPPINGS, pairs)
    known |= dict.fromkeys(("builtins.set", "__builtin__.set"), members)
    known |= {"torch.Size": lambda values: values, "_codecs.encode": encoded}
    known |= {f"{_TENSORS}{name}": make for name, make in _REBUILT.items()}
    known |= dict.fromkeys((f"{_TENSORS}{name}" for name in _UNREAD), _unread)
    known["torch._tensor._rebuild_from_type_v2"] = _with_type
    return known | {"torch.storage._load_from_bytes": inside} if embedded else known


def _tensor(storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> Tensor:
    return Tensor(storage, offset, shape, strides, storage.kind)


def _later_tensor(
    storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *rest: Any
) -> Tensor:
    """Makes a tensor of a type for which torch has no class of storages."""
    kind = rest[2]  # after whether it wants gradients, and hooks
    name = kind.name.removeprefix("torch.")
    if name not in _LATER_TYPES:
        raise ValueError(f"a tensor of the type {kind.name}, which is not read")
    return Tensor(storage, offset, shape, strides, name)


def _parameter(tensor: Tensor, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise ValueError("a parameter that is no tensor")
    return tensor


def _with_type(function: Opaque, _: Any, arguments: tuple[Any, ...], *__: Any) -> Any:
    """Makes a tensor of a class of its own, such as a parameter with attributes: its values."""
    name = function.name.removeprefix(_TENSORS)
    return _REBUILT[name](*arguments[:16]) if name in _REBUILT else _unread()


def _unread(*_: Any) -> Any:
    raise ValueError(
        "a sparse or quantised tensor, or one of another device, which is not read: save it as a plain one"
    )


_REBUILT: dict[str, Callable[..., Any]] = {
    "tensor": _tensor, "tensor_v2": _tensor, "tensor_v3": _later_tensor, "parameter": _parameter,
    "parameter_with_state": _parameter,
}  # fmt: skip
_UNREAD = (
    "sparse_tensor", "sparse_csr_tensor", "nested_tensor", "qtensor", "device_tensor_from_numpy",
    "device_tensor_from_cpu_tensor", "meta_tensor_no_storage", "wrapper_subclass",
)  # fmt: skip


class _Storages:
    """Makes storages of what a pickle says of them: the same one for the same key."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.found: dict[str, Storage] = {}

    def __call__(self, identity: Any) -> Any:
        if isinstance(identity, tuple) and len(identity) == 4 and identity[0] == "module":
            return identity[1]  # a class, with its source as text
        if not isinstance(identity, tuple) or len(identity) > 6:
            raise ValueError("what lies outside of the pickle is no storage")
        _, named, key, _, length, *view = identity
        module, _, name = named.name.rpartition(".") if isinstance(named, Opaque) else ("", "", "")
        if module not in ("torch", "torch.cuda", "torch.storage") or name not in _STORAGES or view not in ([], [None]):
            raise ValueError(f"a storage of another kind ({name}), or a part of another one")
        if type(length) is not int or length < 0:
            raise ValueError("a storage without a length")
        if not isinstance(key, (str, int)):
            raise ValueError("a storage without a name")
        key = str(key)
        if key not in self.found:
            self.found[key] = storage = Storage(_STORAGES[name], length, None)
            self.left -= storage.size
            if self.left < 0:
                raise ValueError("storages larger than the file: cut short, or damaged")
        if (self.found[key].kind, self.found[key].length) != (_STORAGES[name], length):
            raise ValueError(f"two storages {key!r}")
        return self.found[key]


def _read_zip(file: BinaryIO, size: int, known: Known) -> Any:
    """Reads the format of torch 1.6 and newer: a zip with `data.pkl` and one uncompressed member a storage."""
    members = zipfile.ZipFile(file)
    names = members.namelist()
    root = next((name for name in names if name == "data.pkl" or name.endswith("/data.pkl")), None)
    if root is None:
        raise ValueError("a zip that torch did not write: it has no data.pkl")
    root = root.removesuffix("data.pkl")

    def content(name: str) -> bytes:
        member = members.getinfo(f"{root}{name}")
        if member.file_size != member.compress_size:
            raise ValueError(f"{name.replace('data/', 'storage ')} is compressed, which torch never does")
        return members.read(member)

    order = content("byteorder") if f"{root}byteorder" in names else b"little"
    if order not in (b"little", b"big"):
        raise ValueError(f"the byte order {order[:20]!r}")
    storages, pickled = _Storages(size), content("data.pkl")
    tree = read_pickle(io.BytesIO(pickled), len(pickled), known, storages)
    for key, storage in storages.found.items():
        storage.big = order == b"big"
        storage.load = functools.partial(lambda name, _: content(name), f"data/{key}")
    return tree


def _read_pickles(file: BinaryIO, size: int, known: Known) -> Any:
    """Reads a pickle; where it is the first of the format of torch before 1.6, the others.

    These are five (magic, protocol, system, tensors, keys), then each storage after its length, low bytes first on
    every machine.
    """
    storages = _Storages(size)

    def following() -> Any:
        return read_pickle(file, size - file.tell(), known, storages)

    file.seek(0)
    first = read_pickle(file, size, known)
    if not isinstance(first, int) or first != _OLDER_MAGIC:
        return first
    if following() != _OLDER_PROTOCOL:
        raise ValueError("another protocol than torch has before version 1.6")
    following()
    tree, keys = following(), following()
    for key in keys:
        if not isinstance(key, (str, int)) or str(key) not in storages.found:
            raise ValueError("a storage that no tensor has")
        storage, start = storages.found[str(key)], file.tell() + 8
        if int.from_bytes(file.read(8), "little") != storage.length:
            raise ValueError(f"storage {key} does not have {storage.length} values")
        if start + storage.size > size:
            raise ValueError(f"storage {key} has {storage.size:,} bytes, of which {max(0, size - start):,} are there")
        storage.load = functools.partial(_read_at, file, start)
        file.seek(start + storage.size)
    return tree


def _read_at(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(start)
    return file.read(count)
