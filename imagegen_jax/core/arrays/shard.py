"""Where arrays live: a mesh of two axes, one rule for the state, and batches over both axes.

Everything is written for one array over all devices, under `jit`; how it is split changes speed and memory, never the
result beyond float rounding. No `pmean`, no `axis_index`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from imagegen_jax.core.config.bounds import Count, Range
from imagegen_jax.core.config.given import LARGEST
from imagegen_jax.core.platform import target

FSDP_MIN_SIZE = 4_096  # arrays with fewer elements are kept whole on every device: gathering them costs more


@dataclasses.dataclass(frozen=True)
class MeshShape:
    """How many devices the batch (`data`) and, beside the batch, the state (`fsdp`) are split over."""

    data: Annotated[int, Range(-1, LARGEST)] = -1  # -1: all devices that `fsdp` leaves
    fsdp: Count = 1  # every large array of the state is split over this many devices

    def __post_init__(self) -> None:
        if self.fsdp < 1 or (self.data < 1 and self.data != -1):
            raise ValueError(
                f"mesh.data={self.data}, mesh.fsdp={self.fsdp}: must be at least 1 (data: -1 for the rest)"
            )

    def build(self) -> Mesh:
        """Builds the mesh over the devices that programs are made for: this run's, of all its processes.

        Raises ValueError where there are too few, or where a process would have none.
        """
        devices = target.devices()
        data = len(devices) // self.fsdp if self.data == -1 else self.data
        wanted = data * self.fsdp
        if wanted == 0 or wanted > len(devices) or (self.data == -1 and wanted != len(devices)):
            raise ValueError(
                f"mesh.data={self.data}, mesh.fsdp={self.fsdp} does not fit {len(devices)} devices: "
                "data x fsdp must be their number, or with both given at most that"
            )
        chosen = devices[:wanted]
        if {d.process_index for d in chosen} != {d.process_index for d in devices}:
            raise ValueError(f"mesh of {wanted} devices leaves a process without any: use all {len(devices)}")
        return Mesh(np.array(chosen).reshape(data, self.fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def mesh_of(tree: Any) -> Mesh:
    """Returns the mesh that arrays, or shapes, have their places on; one over all devices where they have none."""
    placed = (leaf.sharding for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct))
    named = next((sharding for sharding in placed if isinstance(sharding, NamedSharding)), None)
    return named.mesh if named is not None and isinstance(named.mesh, Mesh) else MeshShape().build()


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that keeps an array whole on every device."""
    return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that splits rows over all devices."""
    return NamedSharding(mesh, P(("data", "fsdp")))


def state_sharding(mesh: Mesh, state: Any) -> Any:
    """Returns a sharding for each array of `state` (arrays or shapes): along its largest axis that `fsdp` divides."""

    def rule(leaf: Any) -> NamedSharding:
        fsdp = mesh.shape["fsdp"]
        axes = [i for i, n in enumerate(leaf.shape) if n % fsdp == 0]
        if fsdp == 1 or not axes or np.prod(leaf.shape) < FSDP_MIN_SIZE:
            return replicated(mesh)
        largest = max(axes, key=lambda i: leaf.shape[i])
        return NamedSharding(mesh, P(*(("fsdp" if i == largest else None) for i in range(len(leaf.shape)))))

    return jax.tree.map(rule, state)


def check_batch_size(batch_size: int, microbatches: int, mesh: Mesh) -> None:
    """Raises ValueError where a batch cannot be split evenly over microbatches and devices."""
    if batch_size < 1 or microbatches < 1:
        raise ValueError(f"batch_size={batch_size}, microbatches={microbatches}: both must be at least 1")
    parts = microbatches * mesh.size
    if batch_size % parts:
        lower = batch_size // parts * parts
        nearest = ", ".join(str(n) for n in (lower, lower + parts) if n)
        what = f"{mesh.size} devices" + (f" x {microbatches} microbatches" if microbatches > 1 else "")
        raise ValueError(f"batch_size={batch_size} is not divisible by {what}; the nearest that are: {nearest}")


def put_batch(dataset: Any, step: int, n: int, seed: int, mesh: Mesh) -> dict[str, jax.Array]:
    """Puts batch `step` of `n` rows on the devices; each process reads only the rows that its own devices hold.

    `dataset.batch(step, n, seed, rows)` returns those rows, as NumPy arrays.
    """
    sharding = batch_sharding(mesh)
    slices: Mapping[Any, Any] = sharding.addressable_devices_indices_map((n,))
    parts: dict[str, list[jax.Array]] = {}
    for device, (rows,) in slices.items():
        for name, placed in dataset.batch(step, n, seed, rows).items():
            parts.setdefault(name, []).append(jax.device_put(placed, device))
    return {
        name: jax.make_array_from_single_device_arrays((n, *arrays[0].shape[1:]), sharding, arrays)
        for name, arrays in parts.items()
    }


def bytes_per_device(tree: Any) -> int:
    """Returns how many bytes of `tree` the fullest device of this process holds, from the arrays' shards."""
    held: dict[Any, int] = {}
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            held[shard.device] = held.get(shard.device, 0) + shard.data.nbytes
    return max(held.values(), default=0)
