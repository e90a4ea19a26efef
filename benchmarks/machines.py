"""What every full-size recipe takes on TPUs that are not here: one, eight, and 64; planned by their compiler, not run.

    python benchmarks/machines.py                                             all: adds to results/machines.jsonl
    python benchmarks/machines.py dcgan_celeb_a64 --machines v5e:1x1 v5e:2x4  some
    python benchmarks/machines.py --table                                     what is there, as Markdown

A row is written as it comes; the same command goes on with those that are missing. One that failed is there, too:
delete its line to try it again. Each training step is planned in a process of its own, which ends before the compiler
has written the machine's code. A recipe that does not fit is tried again with its state split over all devices
(`fsdp`), and then with a half, a quarter and so on of its batch. A batch that the devices do not divide is raised to
the next that they do.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import pathlib
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "machines.jsonl"
MACHINES = ("v5p:1x1x1", "v5p:2x2x2", "v5p:4x4x4")
sys.path.insert(0, str(ROOT))

from imagegen_jax import override  # noqa: E402
from imagegen_jax.machines.described import check_compiler  # noqa: E402
from imagegen_jax.machines.examine import planned_step  # noqa: E402
from imagegen_jax.machines.machines import Machine, parse_machine  # noqa: E402
from imagegen_jax.machines.programs import step_kinds  # noqa: E402
from imagegen_jax.machines.report import MachineReport, ProgramReport  # noqa: E402
from imagegen_jax.recipes.shipped import recipe, recipes  # noqa: E402

SMALL = ("digits", "mnist", "shapes", "emoji", "digits_latents.npz")  # data of recipes that are made for a CPU


class Failed(Exception):
    """A process that planned a step gave no report."""


def full_size() -> list[str]:
    """The recipes that are made for more than a CPU."""
    return [name for name, shipped in recipes().items() if shipped.data not in SMALL]


def report_of(name: str, machine: str, limit: float) -> dict[str, Any]:
    """What comes of one recipe on one machine, with the changes that it takes to fit there."""
    experiment, place = recipe(name), parse_machine(machine)
    parts = place.devices * experiment.microbatches
    batch = -(-experiment.batch_size // parts) * parts
    found = planned(name, place, batch, 1, limit)
    if not fitting(found) and place.devices > 1:
        found = planned(name, place, batch, place.devices, limit)
    smaller = batch
    while not fitting(found) and found.fitting_batch is None:
        smaller = smaller // 2 // parts * parts
        if not smaller or smaller_fits(name, place, smaller, limit):
            found = dataclasses.replace(found, fitting_batch=smaller)
    return found.as_json()


def smaller_fits(name: str, place: Machine, batch: int, limit: float) -> bool:
    """Whether all steps compile for a smaller batch and fit; one without a report does not."""
    try:
        return all(program.fits for program in planned(name, place, batch, place.devices, limit).programs)
    except Failed:
        return False


def fitting(report: MachineReport) -> bool:
    """Whether all its steps fit; one that does not compile is no matter of memory."""
    return all(program.fits or program.error for program in report.programs)


def planned(name: str, machine: Machine, batch: int, fsdp: int, limit: float) -> MachineReport:
    """All training steps of a recipe, each planned in a process of its own. Raises Failed."""
    places = range(len(step_kinds(recipe(name))))
    steps = [child(name, str(machine), batch, fsdp, place, limit) for place in places]
    mesh = {"data": machine.devices // fsdp, "fsdp": fsdp}
    return MachineReport(
        name, str(machine), machine.chip.platform, machine.devices, mesh, batch, recipe(name).steps, tuple(steps)
    )


def child(name: str, machine: str, batch: int, fsdp: int, place: int, limit: float) -> ProgramReport:
    """One step, from a process of its own. Raises Failed."""
    context = multiprocessing.get_context("fork")  # of a process that has imported all and computed nothing
    receives, sends = context.Pipe(duplex=False)
    process = context.Process(target=plan, args=(sends, name, machine, batch, fsdp, place))
    process.start()
    sends.close()
    try:
        if not receives.poll(limit):
            raise Failed(f"a step takes more than {limit:.0f} s to plan")
        found = receives.recv()
    except EOFError:
        raise Failed("its compiler ended the process") from None
    finally:
        process.kill()
        process.join()
    if isinstance(found, str):
        raise Failed(found)
    return found


def plan(sends: Connection, name: str, machine: str, batch: int, fsdp: int, place: int) -> None:
    """Sends one step's report, or why there is none, and ends the process: its compiler would go on for long."""
    try:
        changed = override(recipe(name), {"batch_size": batch, "mesh.fsdp": fsdp})
        sends.send(planned_step(changed, parse_machine(machine), place))
    except Exception as error:
        sends.send(last(f"{type(error).__name__}: {error}"))
    os._exit(0)


def row(name: str, machine: str, limit: float) -> dict[str, Any]:
    """One row: a report, or why there is none."""
    start = time.monotonic()
    try:
        made: dict[str, Any] = {"report": report_of(name, machine, limit)}
    except Failed as error:
        made = {"error": str(error)}
    return {"recipe": name, "machine": machine, "seconds": round(time.monotonic() - start, 1), **made}


def last(text: str) -> str:
    """The last line of a text."""
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
    names = list(recipes())
    found = sorted(rows(), key=lambda one: (names.index(one["recipe"]), parse_machine(one["machine"]).devices))
    lines = [head, ["---"] * len(head), *map(cells, found)]
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
    parser.add_argument("--limit", type=float, default=1800, help="seconds that a step may take")
    parser.add_argument("--table", action="store_true", help="print what is there")
    options = parser.parse_args()
    if options.table:
        print(table())
        return
    for name in options.recipes:
        recipe(name)
    for machine in options.machines:
        check_compiler(parse_machine(machine))  # or each row would be an error, which is not tried again
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
