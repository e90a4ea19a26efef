"""How many images a second `Dataset.batch` delivers on one core.

    python benchmarks/data_throughput.py --tfds-dir ~/tensorflow_datasets --out benchmarks/results/data_throughput.json

Each figure is the median over epochs of distinct order, the making of the order included, with the images in the page
cache of the system, as they are from the second epoch on. `imagegen data prepare tfds:mnist` and `... tfds:cifar10`
prepare the sets.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import statistics
import time

import numpy as np

from imagegen_jax.data import TFDS, Dataset

TARGETS = {"mnist": 50_000, "cifar10": 20_000}  # images a second


def images_per_second(dataset: Dataset, batch_size: int, epochs: int) -> float:
    """Of the median epoch. The first, which may read from the disk, is not counted."""
    steps = len(dataset) // batch_size
    seconds = []
    for epoch in range(epochs + 1):
        start = time.perf_counter()
        for step in range(epoch * steps, (epoch + 1) * steps):
            dataset.batch(step, batch_size)
        seconds.append(time.perf_counter() - start)
    return steps * batch_size / statistics.median(seconds[1:])


def open_first(name: str, folders: list[str]) -> Dataset:
    """Data set `name` from the first of `folders` that has it, else the error of the first says how to prepare it."""
    has = [folder for folder in folders if (pathlib.Path(folder).expanduser() / name).is_dir()]
    return TFDS(name, data_dir=(has or folders)[0]).open()


def machine() -> dict[str, str | int | None]:
    """What the figures were measured on."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def main() -> None:
    """Measures, prints JSON and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tfds-dir", nargs="+", default=["~/tensorflow_datasets"], help="where the sets are prepared")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--out", type=pathlib.Path, help="a JSON file to write")
    args = parser.parse_args()
    datasets = {name: open_first(name, args.tfds_dir) for name in TARGETS}
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    results = [
        {
            "dataset": name,
            "images_per_second": round(images_per_second(dataset, args.batch_size, args.epochs)),
            "target": TARGETS[name],
        }
        for name, dataset in datasets.items()
    ]
    report = {"results": results, "batch_size": args.batch_size, "cores_used": 1, "machine": machine()}
    text = json.dumps(report, indent=2)
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
