"""How much sooner the second start of an experiment begins stepping than the first: the compilation cache.

    python benchmarks/second_start.py ddpm_digits ddpm_cifar10

Seconds from the start of the process to the end of its first step; the data were prepared before, the cache of compiled
programs is empty at the first start.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from machine import write_result

ROOT = pathlib.Path(__file__).resolve().parent.parent


def first_step(name: str, compiled: str, options: list[str]) -> float:
    """Seconds until the first line of metrics of a run of one step."""
    with tempfile.TemporaryDirectory() as folder:
        once = ["--steps", "1", "--log-every", "1", "--samples", "1", "--workdir", folder]
        start = time.time()
        subprocess.run(
            [sys.executable, "-m", f"experiments.{name}", *once, *options], cwd=ROOT, check=True, capture_output=True,
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": compiled},
        )  # fmt: skip
        line = (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()[0]
        return json.loads(line)["time"] - start


def measure(name: str, options: list[str]) -> dict[str, float]:
    """The first start, and the median of three more."""
    with tempfile.TemporaryDirectory() as compiled:
        first = first_step(name, compiled, options)
        others = sorted(first_step(name, compiled, options) for _ in range(3))
    return {"first_s": first, "second_s": others[1], "ratio": first / others[1]}


def main() -> None:
    """Measures each experiment named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+")
    options, rest = parser.parse_known_args()
    write_result("second_start", {name: measure(name, rest) for name in options.experiments})


if __name__ == "__main__":
    main()
