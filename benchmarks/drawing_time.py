"""How long runs take to draw so many images: the shortest of several calls, taken in turn, once all are compiled.

python benchmarks/drawing_time.py runs/edm_digits runs/latent_digits

Weights do not matter: a run of a few steps takes as long as a finished one.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from machine import write_result

import imagegen_jax as ig


def main() -> None:
    """Draws by each run, in turn, and writes the shortest wall time and the shortest processor time of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--name", default="drawing_time", help="of the result")
    options = parser.parse_args()
    runs, labels = {name: ig.load(name) for name in options.runs}, np.arange(options.n) % 10
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for repeat in range(options.repeats + 1):
        for name, run in runs.items():
            wall, processor = time.perf_counter(), time.process_time()
            run.sample(options.n, labels, seed=repeat)
            if repeat:  # the first one compiles
                times[name].append((time.perf_counter() - wall, time.process_time() - processor))
    seconds = {
        run.experiment.name: dict(
            zip(("wall", "processor"), np.min(times[name], axis=0).round(4).tolist(), strict=True)
        )
        for name, run in runs.items()
    }
    write_result(options.name, {"images": options.n, "repeats": options.repeats, "shortest_seconds": seconds})


if __name__ == "__main__":
    main()
