"""How long what trains takes to import, beside what it cannot do without, jax, flax.linen and optax.

    python -m benchmarks.imports

Each in fresh processes by turns, in seconds of processors; the least of some, since others only disturb. The ratio
should stay below 1.2.
"""

from __future__ import annotations

import os
import subprocess
import sys

TURNS = 7
IMPORTS = {
    "jax, flax.linen, optax": "import jax, flax.linen, optax",
    "imagegen_jax": "import imagegen_jax as ig; ig.Experiment, ig.fit, ig.recipe",
}


def seconds(statement: str) -> float:
    """Seconds of processors that a statement takes in a fresh process."""
    code = f"import time; begin = time.process_time(); {statement}; print(time.process_time() - begin)"
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return float(subprocess.check_output([sys.executable, "-c", code], text=True, env=compiled))


def main() -> None:
    """Prints both and their ratio."""
    turns = [[seconds(statement) for statement in IMPORTS.values()] for _ in range(TURNS)]
    least = [min(turn[i] for turn in turns) for i in range(len(IMPORTS))]
    for name, took in zip(IMPORTS, least, strict=True):
        print(f"import {name:24} {took:5.2f} s")
    print(f"ratio {least[1] / least[0]:.2f}")


if __name__ == "__main__":
    main()
