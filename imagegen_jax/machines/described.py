"""Devices that are not there, described to the compilers that know them: XLA's for TPUs and its for GPUs."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
from typing import Any

from imagegen_jax.core.platform.absent import look_for_no_tpus
from imagegen_jax.machines.machines import Machine, example

_PACKAGES = {"tpu": ("libtpu",), "gpu": ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")}
_EXTRAS = {"tpu": "tpu", "gpu": "cuda"}


class CompilerMissing(ValueError):
    """The compiler for a machine is not installed here."""


@dataclasses.dataclass(frozen=True)
class Multiprocessor:
    """What the GPU compiler asks about a chip beside what its maker publishes, from XLA's own descriptions of GPUs."""

    count: int  # of multiprocessors (SM)
    clock_ghz: float
    lanes: int  # float32 operations at a time
    shared_memory: int  # bytes of each
    capability: tuple[int, int]  # CUDA's, major and minor
    cache: int  # bytes of the second level
    links: int  # of NVLink


_GPUS = {
    "a100": Multiprocessor(108, 1.41, 64, 167_936, (8, 0), 41_943_040, 12),
    "h100": Multiprocessor(132, 1.98, 128, 233_472, (9, 0), 52_428_800, 18),
    "h200": Multiprocessor(132, 1.98, 128, 233_472, (9, 0), 52_428_800, 18),
    "b200": Multiprocessor(148, 1.965, 128, 233_472, (10, 0), 132_644_864, 18),
}


@functools.cache
def described_devices(machine: Machine) -> tuple[Any, ...]:
    """Returns the devices of a machine that is not here, in its order, for a mesh to compile for.

    Raises CompilerMissing where the machine's compiler is not installed, and ValueError for a shape that it refuses.
    """
    check_compiler(machine)
    import jax
    from jax.experimental import topologies

    try:
        if machine.chip.platform == "gpu":
            os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # of a driver
            found = topologies.get_topology_desc(
                str(machine), "cuda", target_config=gpu_text(machine), topology=f"1x1x{machine.devices}"
            )
        else:
            look_for_no_tpus()
            found = topologies.get_topology_desc(str(machine), "tpu", **_topology_options(machine))
    except NotImplementedError:  # jax has looked for a GPU before, found none and given the compiler up
        raise ValueError(f"--machine {machine}: jax has started without its compiler: set JAX_PLATFORMS=cpu") from None
    except jax.errors.JaxRuntimeError as error:
        remedy = f"name another, such as {example(machine.chip.kind)}"
        raise ValueError(f"--machine {machine}: its compiler knows no such shape, {remedy}: {error}") from None
    return tuple(found.devices)


def _topology_options(machine: Machine) -> dict[str, Any]:
    options: dict[str, Any] = {"chip_config_name": "megacore"} if machine.chip.kind == "v4" else {}  # a device a chip
    return options | ({"chips_per_host_bounds": (1, 1, 1)} if machine.devices == 1 else {})


def check_compiler(machine: Machine) -> None:
    """Raises CompilerMissing, which says what to install, where a machine's compiler is not here."""
    platform = machine.chip.platform
    if not any(_is_installed(package) for package in _PACKAGES[platform]):
        raise CompilerMissing(
            f"--machine {machine}: the compiler for {platform.upper()}s is not installed: "
            f'pip install "imagegen_jax[{_EXTRAS[platform]}]" (no {platform.upper()} is needed)'
        )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of the folder that it would be in
        return False


def gpu_text(machine: Machine) -> str:
    """Describes a GPU as the compiler reads it: a text of the message `GpuTargetConfigProto`."""
    chip, core = machine.chip, _GPUS[machine.chip.kind]
    major, minor = core.capability
    accelerated = "ACCELERATED_FEATURES" if major >= 9 else "NONE"
    name = f"NVIDIA {chip.kind.upper()}"
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: {core.shared_memory}
  shared_memory_per_block_optin: {core.shared_memory - 1024}
  core_count: {core.count} fpus_per_core: {core.lanes} clock_rate_ghz: {core.clock_ghz}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: {chip.memory_rate:.0f} device_memory_size: {chip.memory_bytes} l2_cache_size: {core.cache}
  cuda_compute_capability {{ major: {major} minor: {minor} feature_extension: {accelerated} }}
  device_interconnect_info {{ active_links: {core.links} }}
  name: "{name}" dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{name}"
"""
