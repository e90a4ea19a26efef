"""Weights of published networks: read from files with known hashes, and chosen by names and shapes."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Mapping

import numpy as np

from imagegen_jax.core.files.regular import open_regular
from imagegen_jax.core.files.weight_files import read_weight_file


def read_weights(path: str | pathlib.Path, sha256: str | None = None) -> dict[str, np.ndarray]:
    """Reads the arrays of a file of weights, by name, as `core.files.weight_files.read_weight_file` does.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file's SHA-256 is not `sha256` (where given), or the file is truncated or holds anything else.
    """
    place = pathlib.Path(path).expanduser()
    if sha256 and place.exists():
        with open_regular(place) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise ValueError(f"{place} ({place.stat().st_size:,} bytes) has SHA-256 {found}, expected {sha256}")
    return read_weight_file(place).arrays


def select(weights: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Returns the weights named in `shapes`, as float32. Raises ValueError naming missing and misshaped ones."""
    wrong = [
        f"{name} {list(weights[name].shape) if name in weights else 'absent'}, expected {list(shape)}"
        for name, shape in shapes.items()
        if name not in weights or weights[name].shape != tuple(shape)
    ]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"these weights are not those of this network: {'; '.join(wrong[:3])}{more}")
    return {name: np.asarray(weights[name], np.float32) for name in shapes}
