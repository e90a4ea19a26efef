"""What every benchmark says of the machine that it ran on, and how it writes its result."""

from __future__ import annotations

import json
import os
import pathlib
import platform
from typing import Any

import jax

from imagegen_jax.core.platform.packages import version
from imagegen_jax.core.reporting.log import write_json

RESULTS = pathlib.Path(__file__).resolve().parent / "results"


def machine() -> dict[str, Any]:
    """The processor, the devices, the allocator's settings and the versions that timings depend on."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "allocator": os.environ.get("GLIBC_TUNABLES", "defaults"),
        "devices": [device.device_kind for device in jax.devices()],
        "python": platform.python_version(),
        "jax": version("jax"),
        "flax": version("flax"),
    }


def write_result(name: str, result: dict[str, Any], folder: pathlib.Path = RESULTS) -> None:
    """Prints a result and stores it in a folder, benchmarks/results/ where none is given, with the machine."""
    result = {**result, "machine": machine()}
    folder.mkdir(exist_ok=True)
    write_json(folder / f"{name}.json", result)
    print(json.dumps(result, indent=1))
