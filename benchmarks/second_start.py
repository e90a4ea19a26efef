"""How much sooner the second start of an experiment begins stepping than the first: the compilation cache.

    python benchmarks/second_start.py ddpm_digits ddpm_cifar10

Seconds from the start of the process until training begins: its state made, its step compiled, the process then ended.
The data were prepared before; the cache of compiled programs is empty at the first start.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from machine import write_result

ROOT = pathlib.Path(__file__).resolve().parent.parent


def begin(name: str, compiled: str, options: list[str]) -> float:
    """Seconds until a new run says that its training begins."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", f"experiments.{name}", "--workdir", folder, *options]
        start = time.perf_counter()
        run = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": compiled},
            stderr=subprocess.PIPE,
            text=True,
        )
        with run:
            assert run.stderr is not None
            said = []
            try:
                for line in run.stderr:
                    said.append(line)
                    if line.startswith("training begins"):
                        return time.perf_counter() - start
            finally:
                run.kill()
    raise RuntimeError(f"{' '.join(command)} ended before training began:\n{''.join(said)}")


def measure(name: str, options: list[str], repeats: int = 3) -> dict[str, float]:
    """Medians over pairs of a first start, with an empty cache, and a second one."""
    pairs = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as compiled:
            pairs.append((begin(name, compiled, options), begin(name, compiled, options)))
    first, second = (statistics.median(times) for times in zip(*pairs, strict=True))
    return {"first_s": first, "second_s": second, "ratio": first / second}


def main() -> None:
    """Measures each experiment named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+")
    options, rest = parser.parse_known_args()
    write_result("second_start", {name: measure(name, rest) for name in options.experiments})


if __name__ == "__main__":
    main()
