"""What the loop costs over calling the bare compiled step on the same batches.

    python benchmarks/loop_overhead.py dcgan_mnist ddpm_digits

The loop reads batches, moves them to the device, looks at signals and writes metrics; the bare step gets batches that
are on the device already. Both take turns in one process; medians over blocks of steps.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

import jax

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from machine import write_result  # noqa: E402

from imagegen_jax import Experiment, Program, override  # noqa: E402
from imagegen_jax.core.loop import train  # noqa: E402


def bare(program: Program, state: Any, batches: list[Any], blocks: int) -> list[float]:
    """Seconds a step of the compiled step alone, for each block of as many steps as there are batches."""
    seconds = []
    for _ in range(blocks):
        start = time.perf_counter()
        for step, batch in enumerate(batches):
            state, metrics = program.advance(state, step, batch)
        jax.block_until_ready((state, metrics))
        seconds.append((time.perf_counter() - start) / len(batches))
    return seconds


def looped(experiment: Experiment, blocks: int) -> list[float]:
    """Seconds a step of the loop between two lines of metrics; the first, which has the start, is left out."""
    value = dataclasses.replace(experiment, steps=(blocks + 1) * experiment.log_every, sample_every=0, samples=1)
    with tempfile.TemporaryDirectory() as folder:
        train(value, pathlib.Path(folder), quiet=True)
        lines = [json.loads(line) for line in (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [value.batch_size / line["images_per_second"] for line in lines[1:]]


def measure(experiment: Experiment, steps: int, blocks: int, rounds: int) -> dict[str, float]:
    """Medians of both for one experiment, and their ratio."""
    experiment = dataclasses.replace(experiment, log_every=steps, checkpoint_every=10**9)
    program = Program(experiment)
    batches = [program.batch(step) for step in range(steps)]
    bare(program, program.init(), batches, 1)
    alone, loop = [], []
    for _ in range(rounds):
        alone += bare(program, program.init(), batches, blocks)
        loop += looped(experiment, blocks)
    a, b = statistics.median(alone), statistics.median(loop)
    return {
        "bare_step_ms": 1e3 * a,
        "loop_step_ms": 1e3 * b,
        "overhead_percent": 100 * (b / a - 1),
        "blocks": len(alone),
    }


def main() -> None:
    """Measures each experiment named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+")
    parser.add_argument("--steps", type=int, default=20, help="steps in a block")
    parser.add_argument("--blocks", type=int, default=5, help="blocks in a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="an override (a string)")
    options = parser.parse_args()
    changes = dict(change.split("=", 1) for change in options.set)
    turns = (options.steps, options.blocks, options.rounds)
    found = {}
    for name in options.experiments:
        experiment = importlib.import_module(f"experiments.{name}").experiment
        found[name] = measure(override(experiment, changes), *turns)
    write_result("loop_overhead", found)


if __name__ == "__main__":
    main()
