"""Files of weights that follow from their names, as make_diffusers_folder has them: only their heads are kept."""

from __future__ import annotations

import json
import pathlib
import zlib

import numpy as np


def drawn_file(place: pathlib.Path, head: bytes) -> None:
    """Writes a .safetensors of float32 with that head."""
    entries = {name: entry for name, entry in json.loads(head[8:]).items() if name != "__metadata__"}
    with place.open("wb") as file:
        file.write(head)
        for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
            shape = entry["shape"]
            scale = 1.0 if len(shape) == 1 and "norm" in name and name.endswith("weight") else 0.0
            drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape) / np.sqrt(
                np.prod(shape[1:])
            )
            file.write((scale + 0.5 * drawn).astype("<f4").tobytes())
