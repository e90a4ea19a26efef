"""Sides of a comparison, each in a process and a Python of its own that only the one at work wakes up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kept import Kept

LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # memory by 2 MiB, on Linux; else by 4 KiB
SMALL_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}
PARTS = ("forward", "input gradient", "weight gradient")  # of a convolution in a training step
Step = Callable[[], Any]  # does once what is timed, and waits until it is done


class Side:
    """A process that says what it is on its first line, and answers each request with a line of JSON."""

    def __init__(self, command: list[str], environment: Mapping[str, str] | None = None) -> None:
        """Starts it, with these variables besides those that are set, and waits until it is ready."""
        pipe, variables = subprocess.PIPE, {**os.environ, **(environment or {})}
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=variables)
        self.about = self._answer()

    def ask(self, request: object) -> Any:
        """Its answer to one request."""
        print(request, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            command = " ".join(map(str, self.process.args))
            raise SystemExit(f"{command} ended with code {self.process.wait()}; see above")
        return json.loads(line)

    def close(self) -> None:
        """Ends it: there are no more requests."""
        self.process.communicate()


def same_parameters(sides: Mapping[str, Side]) -> Any:
    """How many parameters each side says that it has; ends the program where that differs."""
    first, *others = ((name, side.about.pop("parameters")) for name, side in sides.items())
    for name, count in others:
        if count != first[1]:
            raise SystemExit(f"the networks differ: {name!r} has {count} parameters, {first[0]!r} has {first[1]}")
    return first[1]


def take_turns(
    sides: Mapping[str, Side], cases: Mapping[str, Sequence[str]], rounds: int, steps: int, kept: Kept, part: str = ""
) -> dict[str, dict[str, list[float]]]:
    """Seconds of each case on each of its sides: in every round, `steps` times in a row.

    Each round of a case is a part of `kept`, under the name of the benchmark's own `part`.
    """
    found: dict[str, dict[str, list[float]]] = {case: {name: [] for name in names} for case, names in cases.items()}
    for number in range(1, rounds + 1):
        for case, names in cases.items():

            def turn(case: str = case, names: Sequence[str] = names) -> dict[str, list[float]]:
                return {name: sides[name].ask(f"{steps} {case}") for name in names}

            seconds = kept.part(" ".join(filter(None, (part, case, f"round {number}"))), turn)
            for name in names:
                found[case][name] += seconds[name]
    return found


def tell(answer: object, file: Any = None) -> None:
    """What a side says: a line of JSON."""
    print(json.dumps(answer), file=file or sys.stdout, flush=True)


def respond(about: Mapping[str, Any], ready: Callable[[str], Step]) -> None:
    """Says what this side is, then times a case as often as each line of the standard input asks for: "2 dcgan_64"."""
    tell(about)
    steps: dict[str, Step] = {}
    for line in sys.stdin:
        times, case = line.strip().split(" ", 1)
        if case not in steps:
            steps[case] = ready(case)
            steps[case]()  # the first allocates
        seconds = []
        for _ in range(int(times)):
            start = time.perf_counter()
            steps[case]()
            seconds.append(time.perf_counter() - start)
        tell(seconds)


def same_allocator() -> None:
    """Large pages for every side that is started from here, unless the user has chosen otherwise."""
    for name, value in LARGE_PAGES.items():
        os.environ.setdefault(name, value)


def platform_of(device: str) -> str:
    """What jax calls it."""
    return {"cpu": "cpu", "gpu": "cuda"}[device]


def described(layer: Sequence[int]) -> str:
    """A convolution by the side of its features, channels in and out, kernel and stride."""
    return "{0}x{0}x{1} to {2}, {3}x{3}, stride {4}".format(*layer)
