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
_TOTAL = re.compile(r"Memory Space: default.*\nTotal bytes: (\d+)(?=\D)")  # of a device's large memory


@dataclasses.dataclass(frozen=True)
class Plan:
    """The text of a planned program, in the place of a compiled one."""

    text: str

    def as_text(self) -> str:
        """Returns the text."""
        return self.text


def attempt(traced: Traced, machine: Machine) -> fit.Attempt:
    """Has a program planned for a TPU, and says what it takes there; as `fit.attempt` where it does not compile.

    It fits where the plan takes no more than the device's memory; the code, and some MiB to work in, are not in it.
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
        text, peak = _whole(folder, found)
        if found:
            return found[0]
    state, arguments = fit.device_bytes(traced.state), fit.device_bytes(traced.arguments)
    available = machine.chip.memory_bytes
    memory = fit.Memory(state, arguments, peak - arguments, peak, available, fits=peak <= available)
    return fit.Attempt(Plan(text), memory)


def _whole(folder: pathlib.Path, found: list[fit.Attempt]) -> tuple[str, int]:
    """Waits until the plan's file is written to its end and the report says its bytes, or for what comes instead."""
    size = 0
    while not found:
        time.sleep(POLL)
        place = next(folder.glob(PLAN), None)
        before, size = size, place.stat().st_size if place else 0
        if place and size and size == before:
            text = place.read_text()
            report = next(folder.glob(MEMORY), None)
            peak = planned_bytes(report.read_text()) if report else None
            if peak is not None and text.rstrip().endswith("}") and "\nENTRY " in text:
                return text, peak
    return "", 0


def planned_bytes(report: str) -> int | None:
    """Reads the bytes of a device's large memory from a compiler's report; None where it does not say, or not yet."""
    found = _TOTAL.search(report)
    return int(found[1]) if found else None
