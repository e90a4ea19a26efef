"""How long a training step of several seeds takes side by side (`ig.sweep(..., together=N)`), and one after the other.

    python -m benchmarks.seeds_side_by_side RECIPE [FIELD=VALUE ...] --seeds 4 --steps 20 --out FILE

Both are compiled before they are measured, and take turns, since others may use the machine; the least of the turns
counts. Milliseconds a step of one seed: of the clock, and of all processors. With --out a line of JSON is added; with
--digits SIZE the data are scikit-learn's digits, enlarged to this size, which need no download.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax

import imagegen_jax as ig
from imagegen_jax.core.training.side_by_side import SeedsProgram
from imagegen_jax.data import Digits

TURNS = 3


def alone(programs: list[ig.Program]) -> Callable[[int, int], None]:
    """Makes a function that takes steps of each program, one program after the other."""
    states = [program.init() for program in programs]

    def take(step: int, count: int) -> None:
        for index, program in enumerate(programs):
            for at in range(step, step + count):
                states[index], _ = program.advance(states[index], at, program.batch(at))
        jax.block_until_ready(states)

    return take


def together(programs: list[ig.Program]) -> Callable[[int, int], None]:
    """Makes a function that takes steps of all programs by the one that is mapped over them."""
    mapped = SeedsProgram(programs)
    state = [mapped.stacked([program.init() for program in programs])]

    def take(step: int, count: int) -> None:
        for at in range(step, step + count):
            state[0], _ = mapped.advance(state[0], at, mapped.batch(at))
        jax.block_until_ready(state[0])

    return take


def measured(take: Callable[[int, int], None], step: int, count: int) -> tuple[float, float]:
    """Seconds of the clock and of all processors that steps take."""
    clock, processors = time.perf_counter(), time.process_time()
    take(step, count)
    return time.perf_counter() - clock, time.process_time() - processors


def main() -> None:
    """Measures, prints a line, and keeps it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("fields", nargs="*", metavar="FIELD=VALUE")
    parser.add_argument("--digits", type=int, metavar="SIZE")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=pathlib.Path)
    given = parser.parse_args()
    changes: dict[str, Any] = dict(field.split("=", 1) for field in given.fields)
    experiment = ig.override(ig.recipe(given.recipe), {name: json.loads(value) for name, value in changes.items()})
    if given.digits:
        experiment = dataclasses.replace(experiment, data=Digits(size=given.digits))
    data = experiment.data.open()
    programs = [ig.Program(dataclasses.replace(experiment, seed=seed), data) for seed in range(given.seeds)]
    ways = {"alone": alone(programs), "together": together(programs)}
    for take in ways.values():
        take(0, 1)  # compiles
    turns = [
        {name: measured(take, 1 + turn * given.steps, given.steps) for name, take in ways.items()}
        for turn in range(TURNS)
    ]
    scale = 1e3 / given.steps / given.seeds
    found: dict[str, Any] = {"recipe": given.recipe, **changes, "seeds": given.seeds, "steps": given.steps}
    for index, kind in enumerate(("ms", "processor_ms")):
        found |= {f"{name}_{kind}": round(min(turn[name][index] for turn in turns) * scale, 2) for name in ways}
    found |= {"cores": os.cpu_count(), "device": jax.devices()[0].device_kind, "jax": jax.__version__}
    print(json.dumps(found))
    if given.out:
        with given.out.open("a") as file:
            file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
