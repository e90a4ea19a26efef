"""What a TPU's compiler plans for a program, read before it writes the machine's code.

That code takes about nineteen twentieths of the time. The plan is there before it: every operation in its order, and
the place of every array. So traffic, collectives and memory are those of the finished program, but for the size of the
code itself and for some MiB that it works in.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import tempfile
import threading
import time

from imagegen_jax.machines import fit
from imagegen_jax.machines.machines import Machine
from imagegen_jax.machines.programs import Traced

PLAN, MEMORY = "*.after_optimizations_after_buffer_assignment.txt", "*.after_optimizations-memory-usage-report.txt"
POLL = 0.2  # seconds


@dataclasses.dataclass(frozen=True)
class Plan:
    """The text of a planned program, in the place of a compiled one."""

    text: str

    def as_text(self) -> str:
        """Returns the text."""
        return self.text


def attempt(traced: Traced, machine: Machine) -> fit.Attempt:
    """Has a program planned for a TPU, and says what it takes there; as `fit.attempt` where it does not compile.

    The compiler cannot be stopped: it goes on beside, until the process ends. So do this once in a process, and end it
    by `os._exit`.
    """
    found: list[fit.Attempt] = []
    lowered = traced.program.lower()  # here: what is set for this machine is set for this thread
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = pathlib.Path(name)

        def compile_it() -> None:
            try:
                found.append(fit.attempt(traced, machine, lowered, {"xla_dump_to": name}))
            except Exception as error:  # nobody else would see it in a thread
                found.append(fit.Attempt(error=f"{type(error).__name__}: {error}"))

        threading.Thread(target=compile_it, daemon=True).start()
        text = _whole(folder, found)
        if found:
            return found[0]
        report = next(folder.glob(MEMORY)).read_text()
    state, arguments = fit.device_bytes(traced.state), fit.device_bytes(traced.arguments)
    peak = planned_bytes(report)
    memory = fit.Memory(state, arguments, peak - arguments, peak, machine.chip.memory_bytes, fits=True)
    return fit.Attempt(Plan(text), memory)


def _whole(folder: pathlib.Path, found: list[fit.Attempt]) -> str:
    """Waits for the plan's file until it is written to its end, or for what the compiler says in its place."""
    size = 0
    while not found:
        time.sleep(POLL)
        place = next(folder.glob(PLAN), None)
        before, size = size, place.stat().st_size if place else 0
        if place and size and size == before:
            text = place.read_text()
            if text.rstrip().endswith("}") and "\nENTRY " in text:
                return text
    return ""


def planned_bytes(report: str) -> int:
    """Reads the bytes of a device's large memory from a compiler's report. Raises ValueError where it does not say."""
    found = re.search(r"Memory Space: default.*\nTotal bytes: (\d+)", report)
    if found is None:
        raise ValueError("this report of a compiler does not say how much of the large memory is taken")
    return int(found[1])
