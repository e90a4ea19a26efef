"""The exact bits per dimension that a trained autoregressive model of pixels gives to its data; the cost of sampling.

    python -m experiments.pixelcnn_digits --workdir runs/pixelcnn_digits
    python benchmarks/pixel_nll.py runs/pixelcnn_digits

The likelihood is the model's own, of 8-bit images, given their classes where it knows any: no bound, and nothing is
drawn. The standard error is that of the mean over images. The training split stands beside the test split, to see what
was learned by heart. With `--sampling N`, N images are drawn by caches and by passes over whole images.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import time
from typing import Any

import numpy as np
from machine import write_result

import imagegen_jax as ig
from imagegen_jax.autoregressive.pixelcnn import PixelCNN
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.bits_per_dim import mean_and_standard_error
from imagegen_jax.core.arrays.image import images_to_float
from imagegen_jax.core.drawing.draw import sample
from imagegen_jax.core.run import Run


def bits(run: Run, split: str, images: int, batch: int) -> np.ndarray:
    """Bits per dimension of each of the first images of a split, in the order of seed 0."""
    data = dataclasses.replace(run.experiment.data, split=split).open()
    model, n = run.experiment.model, min(images, len(data))
    rows = data.batch(0, n)
    compiled = compiling.jit(lambda nets, batch: model.bits(nets, images_to_float(batch)))
    found = []
    for start in range(0, n, batch):
        at = np.arange(start, start + batch) % n  # the last batch is filled up, and cut again
        found.append(np.asarray(compiled(run.nets, {name: leaf[at] for name, leaf in rows.items()}))[: n - start])
    return np.concatenate(found)


def sampling(run: Run, n: int) -> dict[str, Any]:
    """Seconds for `n` images by caches and by whole passes, once compiled, and how many pixels differ."""
    model, classes = run.experiment.model, run.experiment.num_classes
    conditions = {"label": np.arange(n) % classes} if classes else {}
    seconds, images = {}, {}
    for name, caches in (("caches", True), ("whole_passes", False)):
        one = dataclasses.replace(model, caches=caches)
        images[name] = sample(one, run.nets, n, 0, conditions, chunk=n)
        start = time.perf_counter()
        sample(one, run.nets, n, 1, conditions, chunk=n)
        seconds[name] = round(time.perf_counter() - start, 3)
    return {
        "images": n,
        "seconds": seconds,
        "speed_up": round(seconds["whole_passes"] / seconds["caches"], 2),
        "share_of_pixels_that_differ": float((images["caches"] != images["whole_passes"]).mean()),
    }


def main() -> None:
    """Loads a run, measures, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("--images", type=int, default=10_000, help="at most, of each split (default: 10,000)")
    parser.add_argument("--batch", type=int, default=100, help="images at a time")
    parser.add_argument("--sampling", type=int, default=0, metavar="N", help="also time the drawing of N images")
    options = parser.parse_args()
    run = ig.load(options.run)
    if not isinstance(run.experiment.model, PixelCNN):
        parser.error(f"{options.run} is a run of {type(run.experiment.model).__name__}, not of a PixelCNN")
    result: dict[str, Any] = {
        "experiment": run.experiment.name,
        "run": pathlib.Path(options.run).name,
        "steps": run.step,
        "given_the_class": run.experiment.num_classes > 0,
    }
    for split in ("test", "train"):
        found = bits(run, split, options.images, options.batch)
        mean, error = mean_and_standard_error(found)
        result[split] = {"images": len(found), "bits_per_dim": round(mean, 4), "standard_error": round(error, 4)}
    if options.sampling:
        result["sampling"] = sampling(run, options.sampling)
    write_result(f"nll_{run.experiment.name}", result)


if __name__ == "__main__":
    main()
