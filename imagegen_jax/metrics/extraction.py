"""Features of a set of images, extracted once and kept: an interrupted extraction goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import pathlib

import numpy as np

from imagegen_jax.core.files.regular import cache_root
from imagegen_jax.core.reporting.log import write_json
from imagegen_jax.core.reporting.progress import Progress
from imagegen_jax.data.cache import lock
from imagegen_jax.metrics.features.extractor import Extractor, extract, stream
from imagegen_jax.metrics.sets import ArraySet, ImageSet

BATCH = 256


def features_of(images: ImageSet, extractor: Extractor, quiet: bool = False) -> dict[str, np.ndarray]:
    """Returns the named features of all images, float32 [n d], from the cache for sets that are kept.

    The cache is written batch by batch with a count of the rows on the disk, so that a killed process loses one batch.
    A second process that wants the same features waits for the first. Raises what the extractor raises.
    """
    if isinstance(images, ArraySet) and not images.keep:
        return extract(extractor, images.batches(BATCH))
    key = hashlib.sha256(f"{images.fingerprint} {extractor.fingerprint} {len(images)}".encode()).hexdigest()[:20]
    folder = cache_root() / "features" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder, f"another process extracts the features of {images.name}: waiting for it"):
        folder.mkdir(exist_ok=True)
        progress = folder / "progress.json"
        done = json.loads(progress.read_text())["rows"] if progress.exists() else 0
        if done < len(images):
            _extract(folder, done, images, extractor, quiet)
        return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}


def _extract(folder: pathlib.Path, done: int, images: ImageSet, extractor: Extractor, quiet: bool) -> None:
    maps = {path.stem: np.load(path, mmap_mode="r+") for path in folder.glob("*.npy")} if done else {}
    with Progress(f"{extractor.name} of {images.name}", len(images), "images", done, quiet) as shown:
        for found in stream(extractor, images.batches(BATCH, done)):
            for name, values in found.items():
                if name not in maps:
                    shape = (len(images), *values.shape[1:])
                    maps[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, shape)
                maps[name][done : done + len(values)] = values
                maps[name].flush()
            done += len(values)
            write_json(folder / "progress.json", {"rows": done, "images": images.name, "extractor": extractor.name})
            shown.add(len(values))
