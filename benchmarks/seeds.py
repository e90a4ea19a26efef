"""The reduced recipes by three seeds each: measures what is missing, one run at a time, and stores each as it is done.

    python benchmarks/seeds.py digits --minutes 60          (and again, until nothing is missing)
    python benchmarks/seeds.py mnist cifar10 --seeds 3

Runs come in the order of their cost, the first seed of all before the second of any, so that what is there at any time
compares all families. A run that was cut short is taken up again where its last checkpoint is. Each is an entry of
benchmarks/results/ledger_runs.jsonl, as by `benchmarks/reproduce.py`; `make ledger` makes the table and the figure.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [place for place in (str(ROOT), str(ROOT / "benchmarks")) if place not in sys.path]

from evidence import entries  # noqa: E402
from evidence.summary import REDUCED, SEEDS  # noqa: E402
from reproduce import reproduce  # noqa: E402

from imagegen_jax.recipes.shipped import recipes  # noqa: E402


def missing(data: Sequence[str], seeds: int, folder: pathlib.Path = entries.FOLDER) -> Iterator[tuple[str, int]]:
    """Yields each recipe and seed that no entry is of as the recipe is now."""
    names = [name for of in data for name in REDUCED[of] if name in recipes()]
    found = {name: {entry["seed"] for entry in entries.of_experiment(name, folder=folder)} for name in names}
    for seed in range(seeds):
        for name in names:
            if seed not in found[name]:
                yield name, seed


def main() -> None:
    """Measures until all are there, or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", choices=tuple(REDUCED))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no run is begun")
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/ledger"))
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    todo = list(missing(options.data, options.seeds))
    print(f"{len(todo)} runs are missing: {', '.join(f'{name} {seed}' for name, seed in todo)}", flush=True)
    for name, seed in todo:
        if time.monotonic() > end:
            break
        reproduce(name, seed, options.workdir)


if __name__ == "__main__":
    main()
