"""Feature extractors: uint8 images in, named vectors out; and the weights that they are made of, read from files."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import pathlib
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8

from imagegen_jax.core.compile import jit
from imagegen_jax.data.image import to_float
from imagegen_jax.metrics.resize import KINDS, resize

Images = UInt8[np.ndarray | Array, "n h w c"]  # 0..255
Features = Mapping[str, Float[np.ndarray | Array, "n d"]]
Weights = Mapping[str, np.ndarray]


@runtime_checkable
class Extractor(Protocol):
    """What the metrics ask of an extractor."""

    @property
    def name(self) -> str:
        """The name of the Frechet distance between its features: "FID", "FD-MobileNet"."""

    @property
    def resize(self) -> str:
        """How images come to the size that it takes: one of `imagegen_jax.metrics.resize.KINDS`, or words."""

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of all that its features follow from: weights, resize, range and taps."""

    def __call__(self, images: Images) -> Features:
        """uint8 [N H W C] in 0..255 -> {"features": float32 [N D], ...}"""


def extract(extractor: Extractor, batches: Iterable[Images]) -> dict[str, Float[np.ndarray, "n d"]]:
    """The features of all images of `batches`, in their order: float32 [N D] by name. Errors as `stream` has them."""
    found: dict[str, list[np.ndarray]] = {}
    for features in stream(extractor, batches):
        for name, values in features.items():
            found.setdefault(name, []).append(values)
    if not found:
        raise ValueError("there are no images to extract features from")
    return {name: np.concatenate(values) for name, values in found.items()}


def stream(extractor: Extractor, batches: Iterable[Images]) -> Iterator[dict[str, Float[np.ndarray, "n d"]]]:
    """The features of each batch. A batch shorter than the first is padded with its last image, and the result cut.

    So a network is compiled once. Raises ValueError for a batch that is empty or longer than the first one, and
    what the extractor raises.
    """
    rows = 0
    for batch in batches:
        rows = rows or len(batch)
        if not 0 < len(batch) <= rows:
            raise ValueError(f"a batch of {len(batch)} images after one of {rows}: it may hold 1 to {rows}")
        full = batch if len(batch) == rows else batch[np.minimum(np.arange(rows), len(batch) - 1)]
        yield {name: np.asarray(values, np.float32)[: len(batch)] for name, values in extractor(full).items()}


# --- extractors ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network for colour images at fixed weights. Grey images are repeated to three channels.

    Raises ValueError when it is made with a `resize` that there is none of, and when called with anything but uint8
    images [N H W 1] or [N H W 3].
    """

    name: str
    size: int  # height and width that it is given; with resize "none" that of the images
    weights: Any  # a tree of arrays
    forward: Callable[[Any, Float[Array, "n s s 3"]], Features]  # (weights, images in [-1, 1]) -> all features
    taps: tuple[str, ...] = ("features",)  # which of them to return
    resize: str = "clean"

    def __post_init__(self) -> None:
        if self.resize not in KINDS:
            raise ValueError(f"resize {self.resize!r}: must be one of {', '.join(KINDS)}")

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the name, size, resize, range, taps and every weight."""
        setting = (self.name, self.size if self.resize != "none" else None, self.resize, "[-1, 1]", self.taps)
        digest = hashlib.sha256(repr(setting).encode())
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.weights):
            array = np.ascontiguousarray(leaf)
            digest.update(f"{jax.tree_util.keystr(path)} {array.dtype.str} {array.shape}".encode())
            digest.update(array.data)
        return digest.hexdigest()

    def __call__(self, images: Images) -> Features:
        """uint8 [N H W 1 or 3] in 0..255 -> {tap: float32 [N D]}"""
        check_images(images)
        if images.shape[3] not in (1, 3):
            raise ValueError(f"images of {images.shape[3]} channels: {self.name} takes colour (3) or grey (1)")
        return self._compiled(self._on_device, images)

    @functools.cached_property
    def _on_device(self) -> Any:
        return jax.device_put(self.weights)

    @functools.cached_property
    def _compiled(self) -> Callable[[Any, Images], Features]:
        def features(weights: Any, images: Images) -> Features:
            if images.shape[3] == 1:
                images = jnp.repeat(images, 3, axis=3)
            found = self.forward(weights, to_float(resize(images, self.size, self.resize)))
            if unknown := set(self.taps) - set(found):
                raise ValueError(f"{self.name} has no {sorted(unknown)}; it has {sorted(found)}")
            return {tap: found[tap] for tap in self.taps}

        return jit(features)


@dataclasses.dataclass(frozen=True)
class Pixels:
    """The pixels themselves in [-1, 1], for images of any one shape [H W C]."""

    name: str = "FD-pixels"
    size: int = 0  # height and width that they are resized to; with resize "none" they stay as they are
    resize: str = "none"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the settings and the range."""
        return hashlib.sha256(f"{self} [-1, 1]".encode()).hexdigest()

    def __call__(self, images: Images) -> Features:
        """uint8 [N H W C] in 0..255 -> {"features": float32 [N H*W*C]}. Raises ValueError for any other images."""
        check_images(images)
        return {"features": to_float(resize(images, self.size, self.resize)).reshape(len(images), -1)}


@dataclasses.dataclass(frozen=True)
class Function:
    """A function of the user's as an extractor."""

    name: str
    function: Callable[[Images], Any]  # uint8 [N H W C] -> [N D], or several of them by name
    version: str  # to be changed whenever the function gives other numbers: kept features are found by it
    resize: str = "inside the function"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the name, the version and the resize; it cannot look into the function."""
        return hashlib.sha256(repr((self.name, self.version, self.resize)).encode()).hexdigest()

    def __call__(self, images: Images) -> Features:
        """uint8 [N H W C] in 0..255 -> {"features": float32 [N D]}, or the function's own names.

        Raises ValueError for images that are not uint8 [N H W C], and where the function does not return [N D].
        """
        check_images(images)
        found = self.function(images)
        named = found if isinstance(found, Mapping) else {"features": found}
        found = {name: jnp.asarray(x, jnp.float32) for name, x in named.items()}
        for name, values in found.items():
            if values.ndim != 2 or len(values) != len(images):
                raise ValueError(f"{self.name} returned {name!r} {list(values.shape)}: must be [{len(images)} d]")
        return found


def random_network(seed: int = 0, size: int = 32, resize: str = "clean", width: int = 64) -> Network:
    """Four convolutions with random weights (He et al. 2015), each to half the size, and the mean over all pixels.

    A distance between such features (`features`: float32 [N 8*width]) needs no file, and tells distributions apart
    that differ in colour and texture (Naeem et al. 2020, arXiv 2002.09797); it says nothing of objects.
    """
    generator = np.random.default_rng(seed)
    shapes = [(3, 3, width * 2**i // 2 if i else 3, width * 2**i) for i in range(4)]
    kernels = [generator.normal(0, math.sqrt(2 / math.prod(s[:3])), s).astype(np.float32) for s in shapes]

    def forward(kernels: list[Array], x: Float[Array, "n s s 3"]) -> Features:
        layout = ("NHWC", "HWIO", "NHWC")
        for kernel in kernels:
            x = lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=layout, precision="highest")
            x = jax.nn.relu(x)
        return {"features": x.mean((1, 2))}

    return Network("FD-random", size, kernels, forward, resize=resize)


def check_images(images: Images) -> None:
    """Raises ValueError where these are not one or more uint8 images [N H W C]; says what they are."""
    if images.dtype != np.uint8:
        if np.issubdtype(images.dtype, np.floating) and images.size:
            if not np.isfinite(values := np.asarray(images)).all():
                raise ValueError(f"the images hold NaN or infinity (in {np.mean(~np.isfinite(values)):.2%} of values)")
            held = f"{images.dtype} in [{values.min():.3g}, {values.max():.3g}]"
            remedy = "imagegen_jax.data.image.to_uint8 converts from [-1, 1]"
            raise ValueError(f"the images are {held}: features are taken of uint8 in 0..255 ({remedy})")
        raise ValueError(f"the images are {images.dtype}: features are taken of uint8 in 0..255")
    if images.ndim != 4 or not images.size:
        raise ValueError(f"the images have shape {list(images.shape)}: must be [n h w c], none of them 0")


# --- weights from files ----------------------------------------------------------------------------------------------


def read_weights(path: str | pathlib.Path, sha256: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`, or of a state dict that torch saved (zip files and the older format), by name.

    Nothing in the file is executed: a pickle may name only OrderedDict, torch's storages and the functions that
    rebuild tensors, for which functions of this module stand in.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file's SHA-256 is not `sha256` (where given), or the file is truncated or holds anything else.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    with open(path, "rb") as file:
        if sha256 and (found := hashlib.file_digest(file, "sha256").hexdigest()) != sha256:
            raise ValueError(f"{path} ({path.stat().st_size:,} bytes) has SHA-256 {found}, expected {sha256}")
        file.seek(0)
        try:
            if path.suffix == ".npz":
                with np.load(file, allow_pickle=False) as arrays:
                    return {name: arrays[name] for name in arrays.files}
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
