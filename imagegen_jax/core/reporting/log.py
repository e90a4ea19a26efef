"""Facts about a run's machine, and how JSON files are written whole."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
from typing import Any

import jax

from imagegen_jax import moved
from imagegen_jax.core.files.regular import whole
from imagegen_jax.core.platform.packages import version
from imagegen_jax.core.platform.target import platform_here

__getattr__ = moved.attributes(__name__)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a JSON file whole or not at all. Raises OSError, naming it."""
    try:
        with whole(path) as partial:
            partial.write_text(json.dumps(value, indent=1) + "\n")
    except OSError as error:
        raise OSError(
            error.errno, f"{path} could not be written: {error.strerror}; make room or make it writable"
        ) from error


def environment() -> dict[str, Any]:
    """Returns the versions, devices and git commit that a run is made with."""
    packages = ("imagegen_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")
    kinds: dict[str, int] = {}
    for device in jax.devices():
        kinds[device.device_kind] = kinds.get(device.device_kind, 0) + 1
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "versions": {name: version(name) for name in packages},
        "backend": platform_here(),
        "devices": kinds,
        "processes": jax.process_count(),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changed_files": (_git("status", "--porcelain", "--untracked-files=no") or "").splitlines(),
    }


def _git(*arguments: str) -> str | None:
    """Returns what git says of the folder that this package lies in; None where that is no checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(pathlib.Path(__file__).parent), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
