"""Versions and devices: what all other numbers depend on."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import jax
from machine import machine

from imagegen_jax.core.platform.packages import version
from on_accelerator.parts import Settings, Tell
from on_accelerator.prediction import chip

PACKAGES = (
    "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "libtpu", "optax",
    "numpy", "torch", "diffusers",
)  # fmt: skip
ASKED = "name,driver_version,memory.total,power.limit,clocks.max.sm,clocks.max.memory"


def measure(settings: Settings, tell: Tell) -> None:
    """Tells what there is, and that a program runs on it."""
    devices = jax.devices()
    about = {"version": jax.__version__, "file": jax.__file__, "platform": devices[0].platform}
    tell({"jax": about | {"devices": [device.device_kind for device in devices]}})
    published = chip(devices[0].device_kind)
    memory = devices[0].memory_stats() or {}
    tell(
        {
            "machine": machine() | {"memory_bytes": memory_of_host()},
            "packages": {name: found for name in PACKAGES if (found := version(name))},
            "runtime": devices[0].client.platform_version,
            "nvidia_smi": nvidia_smi(),
            "device_memory_bytes": memory.get("bytes_limit"),
            "published_peak_flops": published and published.peak_flops,
            "settings": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(("XLA_", "JAX_"))},
        }
    )
    tell({"one_and_one": float(jax.jit(lambda x: x + x)(1.0))})


def memory_of_host() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def nvidia_smi() -> list[dict[str, Any]] | None:
    """What NVIDIA's driver says of each GPU; None where there is none."""
    command = ["nvidia-smi", f"--query-gpu={ASKED}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return [
        dict(zip(ASKED.split(","), line.split(", "), strict=True)) for line in done.stdout.splitlines() if line.strip()
    ]
