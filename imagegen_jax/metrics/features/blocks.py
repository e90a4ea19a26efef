"""Features cut into blocks of rows, and tiles of pairs that metrics compute distances on, in float64.

Distances are small differences of large sums, which get lost in float32 and in the even shorter products of some
accelerators. A function of tiles is written once, for NumPy's arrays and jax's alike (`__array_namespace__`); a `Place`
says where it runs. On devices, features keep their own dtype until a compiled function makes them float64, so that they
take half the bytes. Blocks are padded to few sizes, so that one compilation serves data of any length; a mask marks the
rows that count. Callers run everything inside `jax.enable_x64()`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, Shaped

from imagegen_jax.core.arrays.shard import batch_sharding, replicated
from imagegen_jax.core.platform.target import platform_here

PAIR_ROWS = 1024  # rows of one device in a tile of pairs
PAIR_COLUMNS = 8192  # columns of a tile: 64 MiB of float64 with the rows above
HOST_ROWS = 1024  # rows and columns of a tile on the host: 8 MiB, which fits a processor's cache


Anywhere = Array | np.ndarray  # on devices or on the host


class Block(NamedTuple):
    """Some rows of features, float64 on the host, on devices in their own dtype."""

    start: int  # the first one's place among all rows
    values: Shaped[Anywhere, "r d"]
    squares: Float[Anywhere, " r"]  # |x|^2
    mask: Bool[Anywhere, " r"]  # false for rows that only fill the block up


@dataclasses.dataclass(frozen=True)
class Place:
    """Where tiles are computed: on the devices of a mesh, or on the host where `mesh` is None."""

    mesh: Mesh | None

    def rows(self, features: np.ndarray, most: int | None = None) -> Iterator[Block]:
        """Yields all rows block by block, each split over the devices with `most` rows on one (default: PAIR_ROWS)."""
        if self.mesh is None:
            return self._on_host(features)
        size = self.mesh.size * _padded(-(-len(features) // self.mesh.size), most or PAIR_ROWS)
        return _on_devices(features, size, batch_sharding(self.mesh))

    def columns(self, features: np.ndarray) -> list[Block]:
        """Returns all rows, whole on every device."""
        if self.mesh is None:
            return list(self._on_host(features))
        return list(_on_devices(features, _padded(len(features), PAIR_COLUMNS), replicated(self.mesh)))

    def pairs(self, features: np.ndarray) -> Iterator[tuple[Block, Block, int]]:
        """Yields tiles that hold all pairs of rows, and how often each counts.

        On the host, a tile counts for its mirror image too.
        """
        columns = self.columns(features)
        if self.mesh is None:
            for i, rows in enumerate(columns):
                yield from ((rows, block, 1 if i == j else 2) for j, block in enumerate(columns[i:], start=i))
        else:
            yield from ((rows, block, 1) for rows in self.rows(features) for block in columns)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function of arrays as it runs here: compiled on devices, as it is on the host."""
        return function if self.mesh is None else jax.jit(function)

    def _on_host(self, features: np.ndarray) -> Iterator[Block]:
        for start in range(0, len(features), HOST_ROWS):
            rows = features[start : start + HOST_ROWS].astype(np.float64)
            yield Block(start, rows, _squares(rows), np.ones(len(rows), bool))


def default_place() -> Place:
    """Returns where to compute: on all devices of this process or, where these are the CPU, in NumPy.

    NumPy's BLAS takes half the time of XLA's products.
    """
    return Place(None if platform_here() == "cpu" else local_mesh())


def local_mesh() -> Mesh:
    """Returns a mesh of this process's devices; each process measures the features that it holds."""
    devices = np.array(jax.local_devices()).reshape(-1, 1)
    return Mesh(devices, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def inner_products(x: Block, y: Block) -> Float[Anywhere, "r c"]:
    """Computes x.y of each pair, float64."""
    return x.values.astype(np.float64, copy=False) @ y.values.astype(np.float64, copy=False).T


def squared_distances(x: Block, y: Block) -> Float[Anywhere, "r c"]:
    """Computes |x|^2 - 2 x.y + |y|^2 of each pair, never below zero."""
    found = x.squares[:, None] + (y.squares - 2 * inner_products(x, y))
    return found.clip(0)


def _on_devices(features: np.ndarray, size: int, sharding: NamedSharding) -> Iterator[Block]:
    for start in range(0, len(features), size):
        rows = features[start : start + size]
        padded = np.pad(rows, ((0, size - len(rows)), (0, 0)))
        arrays = padded, _squares(padded), np.arange(size) < len(rows)
        yield Block(start, *jax.device_put(arrays, sharding))


def _squares(rows: np.ndarray) -> Float[np.ndarray, " r"]:
    return np.einsum("nd,nd->n", rows, rows, dtype=np.float64)


def _padded(length: int, most: int) -> int:
    """Returns a power of two that holds `length`, at most `most`."""
    return min(most, 1 << (length - 1).bit_length())


def checked(features: Shaped[Array, "n d"] | np.ndarray, name: str) -> np.ndarray:
    """Returns the features on the host, float32 or float64. Raises ValueError for what no metric here can use."""
    found = np.asarray(features)
    if found.dtype != np.float64:
        found = found.astype(np.float32, copy=False)
    if found.ndim != 2 or found.shape[1] < 1:
        raise ValueError(f"{name} has shape {found.shape}: give [samples, features]; flatten or pool the other axes")
    if found.shape[0] < 2:
        raise ValueError(f"{name} has {found.shape[0]} samples: a spread needs at least 2; draw more")
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if bad.size:
        raise ValueError(
            f"{name}[{bad[0]}] holds NaN or infinity, as {bad.size} of {len(found)} rows do: "
            "look for what made them; a score without them would hide it"
        )
    return found


def checked_pair(
    a: Shaped[Array, "n d"] | np.ndarray, b: Shaped[Array, "m d"] | np.ndarray, names: tuple[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns two sets of features of equal width. Raises ValueError where `checked` does, and for different widths."""
    found = checked(a, names[0]), checked(b, names[1])
    check_widths(found[0].shape[1], found[1].shape[1], names)
    return found


def check_widths(a: int, b: int, names: tuple[str, str]) -> None:
    """Raises ValueError where features of two widths would be compared."""
    if a != b:
        raise ValueError(
            f"{names[0]} has {a} features and {names[1]} has {b}: compute both with the same extractor and layer"
        )
