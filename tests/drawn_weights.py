"""Random weights that follow from their names alone: torch and the tests draw the same ones, and no file holds them."""

from __future__ import annotations

import json
import pathlib
import re
import zlib

import numpy as np

_COPY = re.compile(r"transformer_blocks\.\d+\.norm1\.emb\.")


def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns N(0, 1) in float64; NumPy promises that `RandomState` draws the same forever."""
    return np.asarray(np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape))


def weight(name: str, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """Returns the weight of that name: N(0, scale^2), or for a variance a number above it."""
    drawn = scale * normal(name, shape)
    return scale + np.abs(drawn) if name.endswith("_var") else drawn


def direction(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the direction in which the gradient of that weight is compared."""
    return normal(f"{name}, direction", shape)


def drawn_file(place: pathlib.Path, head: bytes) -> None:
    """Writes a .safetensors of which only the head was kept, with the weights of make_diffusers_folder.py.

    What each block of DiT has a copy of is drawn by the name that it has in the first block.
    """
    entries = {name: entry for name, entry in json.loads(head[8:]).items() if name != "__metadata__"}
    with place.open("wb") as file:
        file.write(head)
        for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
            shape = entry["shape"]
            scale = 1.0 if len(shape) == 1 and "norm" in name and name.endswith("weight") else 0.0
            drawn = normal(_COPY.sub("transformer_blocks.0.norm1.emb.", name), shape) / np.sqrt(np.prod(shape[1:]))
            file.write((scale + 0.5 * drawn).astype("<f4").tobytes())
