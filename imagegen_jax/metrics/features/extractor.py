"""Feature extractors: uint8 images in, named vectors out."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8

from imagegen_jax.core.arrays.image import to_float
from imagegen_jax.core.arrays.shard import batch_sharding, replicated
from imagegen_jax.core.compile import jit
from imagegen_jax.core.config.given import check_integer, check_seed
from imagegen_jax.metrics.features.blocks import local_mesh
from imagegen_jax.metrics.features.resize import KINDS, resize

Images = UInt8[np.ndarray | Array, "n h w c"]  # 0..255
Features = Mapping[str, Float[np.ndarray | Array, "n d"]]


@runtime_checkable
class Extractor(Protocol):
    """A feature extractor, as the metrics use it."""

    @property
    def name(self) -> str:
        """The name of the Frechet distance between its features: "FID", "FD-MobileNet"."""

    @property
    def resize(self) -> str:
        """The filter that brings images to its size: one of `imagegen_jax.metrics.features.resize.KINDS`, or words."""

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of all that determines its features: weights, resize, range and taps."""

    def __call__(self, images: Images) -> Features:
        """Extracts features: uint8 [N H W C] in 0..255 -> {"features": float32 [N D], ...}"""


def extract(extractor: Extractor, batches: Iterable[Images]) -> dict[str, Float[np.ndarray, "n d"]]:
    """Returns the features of all images of `batches`, in order: float32 [N D] by name. Raises as `stream` does."""
    found: dict[str, list[np.ndarray]] = {}
    for features in stream(extractor, batches):
        for name, values in features.items():
            found.setdefault(name, []).append(values)
    if not found:
        raise ValueError("there are no images to extract features from")
    return {name: np.concatenate(values) for name, values in found.items()}


def stream(extractor: Extractor, batches: Iterable[Images]) -> Iterator[dict[str, Float[np.ndarray, "n d"]]]:
    """Yields the features of each batch, padded with its last image to the first one's size for extraction.

    The padding's features are cut off. It lets a network be compiled once, and its rows be split over all devices.
    Raises ValueError for a batch that is empty or longer than the first one, and what the extractor raises.
    """
    rows, devices = 0, jax.local_device_count()
    for batch in batches:
        rows = rows or len(batch)
        if not 0 < len(batch) <= rows:
            raise ValueError(f"a batch of {len(batch)} images after one of {rows}: it may hold 1 to {rows}")
        size = -(-rows // devices) * devices
        full = batch if len(batch) == size else batch[np.minimum(np.arange(size), len(batch) - 1)]
        yield {name: np.asarray(values, np.float32)[: len(batch)] for name, values in extractor(full).items()}


# --- extractors ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network for colour images, with fixed weights. Grey images are repeated to three channels.

    Raises ValueError when it is made with an unknown `resize`, and when it is called with anything but uint8 images
    [N H W 1] or [N H W 3].
    """

    name: str
    size: int  # height and width of its inputs; with resize "none" they keep their own
    weights: Any  # a tree of arrays
    forward: Callable[[Any, Float[Array, "n s s 3"]], Features]  # (weights, images in [-1, 1]) -> all features
    taps: tuple[str, ...] = ("features",)  # names of the features to return
    resize: str = "clean"

    def __post_init__(self) -> None:
        if self.resize not in KINDS:
            raise ValueError(f"resize {self.resize!r}: must be one of {', '.join(KINDS)}")

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hashes the name, size, resize, range, taps and every weight, by SHA-256."""
        setting = (self.name, self.size if self.resize != "none" else None, self.resize, "[-1, 1]", self.taps)
        return hash_tree(self.weights, hashlib.sha256(repr(setting).encode()))

    def __call__(self, images: Images) -> Features:
        """Extracts features: uint8 [N H W 1 or 3] in 0..255 -> {tap: float32 [N D]}"""
        check_images(images)
        if images.shape[3] not in (1, 3):
            raise ValueError(f"images of {images.shape[3]} channels: {self.name} takes colour (3) or grey (1)")
        return self._compiled(self._on_devices, split_rows(images))

    @functools.cached_property
    def _on_devices(self) -> Any:
        return jax.device_put(self.weights, replicated(local_mesh()))

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
    size: int = 0  # height and width to resize to; with resize "none" images stay as they are
    resize: str = "none"

    @property
    def fingerprint(self) -> str:
        """Hashes the settings and the range, by SHA-256."""
        return hashlib.sha256(f"{self} [-1, 1]".encode()).hexdigest()

    def __call__(self, images: Images) -> Features:
        """Returns pixels: uint8 [N H W C] in 0..255 -> {"features": float32 [N H*W*C]}.

        Raises ValueError for any other images.
        """
        check_images(images)
        return {"features": to_float(resize(images, self.size, self.resize)).reshape(len(images), -1)}


@dataclasses.dataclass(frozen=True)
class Function:
    """A function of the user's as an extractor."""

    name: str
    function: Callable[[Images], Any]  # uint8 [N H W C] -> [N D], or several of them by name
    version: str  # change it whenever the function gives other numbers: kept features are found by it
    resize: str = "inside the function"

    @property
    def fingerprint(self) -> str:
        """Hashes the name, the version and the resize, by SHA-256; it cannot look into the function."""
        return hashlib.sha256(repr((self.name, self.version, self.resize)).encode()).hexdigest()

    def __call__(self, images: Images) -> Features:
        """Calls the function: uint8 [N H W C] in 0..255 -> {"features": float32 [N D]}, or the function's own names.

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
    """Makes four convolutions with random weights (He et al. 2015), each halving the size, then a mean over pixels.

    A distance between such features (`features`: float32 [N 8*width]) needs no file. It tells apart distributions
    that differ in colour and texture (Naeem et al. 2020, arXiv 2002.09797), but does not see objects.
    """
    check_integer(size, "size")
    check_integer(width, "width")
    generator = np.random.default_rng(check_seed(seed))
    shapes = [(3, 3, width * 2**i // 2 if i else 3, width * 2**i) for i in range(4)]
    kernels = [generator.normal(0, math.sqrt(2 / math.prod(s[:3])), s).astype(np.float32) for s in shapes]

    def forward(kernels: list[Array], x: Float[Array, "n s s 3"]) -> Features:
        layout = ("NHWC", "HWIO", "NHWC")
        for kernel in kernels:
            x = lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=layout, precision="highest")
            x = jax.nn.relu(x)
        return {"features": x.mean((1, 2))}

    return Network("FD-random", size, kernels, forward, resize=resize)


def split_rows(images: Images) -> UInt8[Array, "n h w c"]:
    """Splits images over this process's devices; where their number is no multiple, all go to each device."""
    mesh = local_mesh()
    return jax.device_put(images, replicated(mesh) if len(images) % mesh.size else batch_sharding(mesh))


def check_images(images: Images) -> None:
    """Raises ValueError where these are not one or more uint8 images [N H W C]; says what they are."""
    if images.dtype != np.uint8:
        if np.issubdtype(images.dtype, np.floating) and images.size:
            if not np.isfinite(values := np.asarray(images)).all():
                raise ValueError(f"the images hold NaN or infinity (in {np.mean(~np.isfinite(values)):.2%} of values)")
            held = f"{images.dtype} in [{values.min():.3g}, {values.max():.3g}]"
            remedy = "imagegen_jax.data.to_uint8 converts from [-1, 1]"
            raise ValueError(f"the images are {held}: features are taken of uint8 in 0..255 ({remedy})")
        raise ValueError(f"the images are {images.dtype}: features are taken of uint8 in 0..255")
    if images.ndim != 4 or not images.size:
        raise ValueError(f"the images have shape {list(images.shape)}: must be [n h w c], none of them 0")


def hash_tree(tree: Any, digest: Any = None) -> str:
    """Hashes the names, shapes and bytes of a tree's arrays by SHA-256, continuing `digest`."""
    digest = digest or hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        digest.update(array.data)
    return digest.hexdigest()
