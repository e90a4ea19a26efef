"""Features on the devices: checked on the host, cut into blocks of rows, each block split over the devices.

Features stay in their own dtype until a compiled function makes them float64, so that they travel and lie in half the
bytes. Blocks are padded to few sizes, so that one compilation serves data of any length; a mask marks the rows that
count. Callers run everything inside `jax.enable_x64()`: the distances are small differences of large sums, which
float32, and the yet shorter products of some accelerators, lose. Only what is called in that scope is in float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh
from jaxtyping import Array, Bool, Shaped

from imagegen_jax.core.shard import batch_sharding, replicated

PAIR_ROWS = 1024  # rows of one device in a tile of pairs
PAIR_COLUMNS = 8192  # columns of a tile: 64 MiB of float64 with the rows above


def local_mesh() -> Mesh:
    """This process's devices; each process measures the features that it holds."""
    devices = np.array(jax.local_devices()).reshape(-1, 1)
    return Mesh(devices, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def checked(features: Shaped[Array, "n d"] | np.ndarray, name: str) -> np.ndarray:
    """The features on the host, float32 or float64. Raises ValueError for what no metric here can use."""
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
    """Two sets of features of equal width. Raises ValueError where `checked` does, and for different widths."""
    found = checked(a, names[0]), checked(b, names[1])
    check_widths(found[0].shape[1], found[1].shape[1], names)
    return found


def check_widths(a: int, b: int, names: tuple[str, str]) -> None:
    """Raises ValueError where features of two widths would be compared."""
    if a != b:
        raise ValueError(
            f"{names[0]} has {a} features and {names[1]} has {b}: compute both with the same extractor and layer"
        )


def _padded(length: int, most: int) -> int:
    """A power of two that holds `length`, or `most`."""
    return min(most, 1 << (length - 1).bit_length())


def row_blocks(
    features: np.ndarray, mesh: Mesh, most: int
) -> Iterator[tuple[int, Shaped[Array, "r d"], Bool[Array, " r"]]]:
    """Start, rows and mask of each block; a device holds at most `most` rows of one."""
    size = mesh.size * _padded(-(-len(features) // mesh.size), most)
    for start in range(0, len(features), size):
        rows = features[start : start + size]
        mask = np.arange(size) < len(rows)
        padded = np.pad(rows, ((0, size - len(rows)), (0, 0)))
        yield start, jax.device_put(padded, batch_sharding(mesh)), jax.device_put(mask, batch_sharding(mesh))


def column_blocks(features: np.ndarray, mesh: Mesh) -> tuple[Shaped[Array, "t c d"], Bool[Array, "t c"]]:
    """All rows as stacked blocks with their mask, whole on every device."""
    size = _padded(len(features), PAIR_COLUMNS)
    blocks = -(-len(features) // size)
    padded = np.pad(features, ((0, blocks * size - len(features)), (0, 0))).reshape(blocks, size, -1)
    mask = (np.arange(blocks * size) < len(features)).reshape(blocks, size)
    return jax.device_put(padded, replicated(mesh)), jax.device_put(mask, replicated(mesh))


def squared_distances(x: Shaped[Array, "r d"], y: Shaped[Array, "c d"]) -> Shaped[Array, "r c"]:
    """|x|^2 - 2 x.y + |y|^2, never below zero."""
    return jnp.maximum(jnp.sum(x**2, axis=1)[:, None] - 2 * x @ y.T + jnp.sum(y**2, axis=1), 0)
