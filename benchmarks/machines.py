"""What every full-size recipe takes on TPUs that are not here: one, eight, and 64; compiled, not run.

    python benchmarks/machines.py                                             all, hours: adds to results/machines.jsonl
    python benchmarks/machines.py dcgan_celeb_a64 --machines h200:8 v5e:2x4   some
    python benchmarks/machines.py --table                                     what is there, as Markdown

A row is a process of its own and is written as it comes; the same command goes on with those that are missing. One that
failed is there, too: delete its line to try it again. A recipe that does not fit is tried again with its state split
over all devices (`fsdp`), and then with smaller batches. A batch that the devices do not divide is raised to the next
that they do.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "machines.jsonl"
MACHINES = ("v5p:1x1x1", "v5p:2x2x2", "v5p:4x4x4")
sys.path.insert(0, str(ROOT))

from imagegen_jax import override  # noqa: E402
from imagegen_jax.machines.described import check_compiler  # noqa: E402
from imagegen_jax.machines.examine import examine  # noqa: E402
from imagegen_jax.machines.machines import parse_machine  # noqa: E402
from imagegen_jax.recipes.shipped import recipe, recipes  # noqa: E402


def full_size() -> list[str]:
    """The recipes for more than digits."""
    return [name for name, shipped in recipes().items() if shipped.data not in ("digits", "mnist")]


def report_of(name: str, machine: str) -> dict[str, Any]:
    """What comes of one recipe on one machine, with the changes that it takes to fit there."""
    experiment, place = recipe(name), parse_machine(machine)
    parts = place.devices * experiment.microbatches
    batch = -(-experiment.batch_size // parts) * parts
    found: dict[str, Any] = {}
    for fsdp in dict.fromkeys((1, place.devices)):
        changed = override(experiment, {"batch_size": batch, "mesh.fsdp": fsdp})
        found = examine(changed, place, chunk=None, search=fsdp == place.devices).as_json()
        if all(program["fits"] or program["error"] for program in found["programs"]):
            break
    return found


def row(name: str, machine: str, limit: float) -> dict[str, Any]:
    """One row, made in a process of its own: a report, or why there is none."""
    start = time.monotonic()
    command = [sys.executable, __file__, name, "--machines", machine, "--one"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        made = (
            {"report": json.loads(done.stdout.splitlines()[-1])}
            if done.returncode == 0
            else {"error": last(done.stderr)}
        )
    except subprocess.TimeoutExpired:
        made = {"error": f"it takes more than {limit:.0f} s to compile"}
    return {"recipe": name, "machine": machine, "seconds": round(time.monotonic() - start, 1), **made}


def last(text: str) -> str:
    """The last line of what a process has said."""
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def rows() -> Iterator[dict[str, Any]]:
    """The rows that are there."""
    yield from map(json.loads, RESULTS.read_text().splitlines() if RESULTS.exists() else [])


def table() -> str:
    """The rows as a table in Markdown."""
    head = (
        "recipe", "machine", "batch", "fsdp", "state, peak a device", "TFLOP a step", "memory traffic a device",
        "sent by a device",
        "at least, bound by", "images/s at 40 %", "days at 40 %",
    )  # fmt: skip
    lines = [head, ["---"] * len(head), *(cells(one) for one in rows())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cells(one: dict[str, Any]) -> list[str]:
    """One row as words: of several training steps the largest memory, and means over the run."""
    if "error" in one:
        return [f"`{one['recipe']}`", one["machine"], "", "", one["error"], *[""] * 6]
    report = one["report"]
    steps = [program for program in report["programs"] if program["steps"]]
    first = [f"`{one['recipe']}`", one["machine"], f"{report['batch_size']:,}", str(report["mesh"]["fsdp"])]
    failed = next((step["error"] for step in steps if step["error"]), None)
    if failed:
        return [*first, f"does not compile: {failed[:80]}", *[""] * 6]
    memory = max((step["memory"] for step in steps), key=lambda memory: memory["peak"])
    used = f"{memory['state'] / 2**30:.2f}, {memory['peak'] / 2**30:.2f} GiB"
    if not all(step["fits"] for step in steps):
        most = report["fitting_batch"]
        return [*first, f"{used}: does not fit; {f'batch {most:,} would' if most else 'no batch does'}", *[""] * 6]

    def mean(value: Any) -> float:
        return sum(step["steps"] * value(step) for step in steps) / report["steps"]

    slowest = max(steps, key=lambda step: step["steps"] * step["bound"]["seconds"])
    usual = report["at_usual_share"]
    return [
        *first,
        used,
        f"{mean(lambda step: step['flops']) / 1e12:.3g}",
        f"{mean(lambda step: step['memory_bytes']) / 1e9:.3g} GB",
        f"{mean(lambda step: sum(c['sent'] for c in step['collectives'])) / 1e6:.3g} MB",
        f"{mean(lambda step: step['bound']['seconds']) * 1e3:.3g} ms, {slowest['bound']['by']}",
        f"{usual['images_per_second']:,.0f}",
        f"{usual['days']:.3g}",
    ]


def main() -> None:
    """Adds the rows that are missing, or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", help="default: all but those for digits")
    parser.add_argument("--machines", nargs="+", default=MACHINES)
    parser.add_argument("--limit", type=float, default=5400, help="seconds that a row may take")
    parser.add_argument("--table", action="store_true", help="print what is there")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.table:
        print(table())
        return
    if options.one:
        print(json.dumps(report_of(options.recipes[0], options.machines[0])))
        return
    for name in options.recipes:
        recipe(name)
    for machine in options.machines:
        check_compiler(parse_machine(machine))  # or each row would be an error, which is not tried again
    os.nice(10)
    there = {(one["recipe"], one["machine"]) for one in rows()}
    for machine in options.machines:
        for name in options.recipes or full_size():
            if (name, machine) not in there:
                made = row(name, machine, options.limit)
                with open(RESULTS, "a") as file:
                    file.write(json.dumps(made) + "\n")
                print(f"{name} on {machine}: {made.get('error') or 'done'}, {made['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
