"""The text of a compiled program, read into its instructions and how often each of them runs."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\](\{[^}]*\})?")
_OPCODE = re.compile(r"\s*([a-z][\w\-]*)\(")
_NAME = re.compile(r"%([\w.\-]+(?:#\d+)?)")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_CALLED_LIST = re.compile(r"(?:branch_computations|called_computations|calls)=\{([^}]*)\}")
_BITS = {"pred": 8, "token": 0, "opaque": 0}
_INSIDE = ("fusion", "call", "conditional", "while")  # what runs other computations; also all that is asynchronous


class Array(NamedTuple):
    """An array that an instruction makes: its size, and which memory of the device it lies in."""

    bytes: int
    space: int  # 0: the device's large memory


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    results: tuple[Array, ...]  # several of a tuple
    operands: tuple[str, ...]
    rest: str  # all that follows the operands
    is_root: bool

    @property
    def called(self) -> list[str]:
        """The computations that it names."""
        listed = [name for names in _CALLED_LIST.findall(self.rest) for name in _NAME.findall(names)]
        return [*_CALLED.findall(self.rest), *listed]


class Run(NamedTuple):
    """An instruction, and how often one call of the program runs it."""

    instruction: Instruction
    computation: str
    times: int
    fused: bool  # inside another operation, so that its own operands and results need not reach memory


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program."""

    computations: Mapping[str, Mapping[str, Instruction]]
    entry: str

    def runs(self) -> Iterator[Run]:
        """Yields each instruction that runs, those of loops with their number of turns."""
        yield from self._runs(self.entry, 1, False)

    def loops_of_unknown_length(self) -> int:
        """Counts the loops whose number of turns the text does not tell; they count as one turn."""
        return sum(run.instruction.opcode == "while" and self.turns(run.instruction) is None for run in self.runs())

    def turns(self, loop: Instruction) -> int | None:
        """Returns how often the body of a loop runs, as its text or the bound of its counter says."""
        known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest)
        if known:
            return int(known[1])
        condition = re.search(r"condition=%?([\w.\-]+)", loop.rest)
        inside = self.computations.get(condition[1], {}) if condition else {}
        root = next((line for line in inside.values() if line.is_root), None)
        if root is None or root.opcode != "compare" or "direction=LT" not in root.rest:
            return None
        bounds = [inside[name].rest for name in root.operands if name in inside and inside[name].opcode == "constant"]
        if len(bounds) != 1 or not bounds[0].isdecimal():
            return None
        counter = next((at for name in root.operands if (at := _place(inside.get(name))) is not None), None)
        return -(-int(bounds[0]) // self._stride(loop, counter))

    def _stride(self, loop: Instruction, counter: int | None) -> int:
        """Returns by how much the counter, at a place of what a loop carries, grows in a turn; 1 where it is not said.

        Turns are written out: a product with a matrix that comes piece by piece does two pieces in one.
        """
        body = re.search(r"body=%?([\w.\-]+)", loop.rest)
        inside = self.computations.get(body[1], {}) if body else {}
        root = next((line for line in inside.values() if line.is_root), None)
        if counter is None or root is None or root.opcode != "tuple" or counter >= len(root.operands):
            return 1
        grown = inside.get(root.operands[counter])
        if grown is None or grown.opcode != "add" or counter not in [_place(inside.get(one)) for one in grown.operands]:
            return 1
        added = [inside[name].rest for name in grown.operands if name in inside and inside[name].opcode == "constant"]
        return int(added[0]) if added and added[0].isdecimal() and int(added[0]) else 1

    def _runs(self, name: str, times: int, fused: bool) -> Iterator[Run]:
        for instruction in self.computations.get(name, {}).values():
            yield Run(instruction, name, times, fused)
            opcode = instruction.opcode
            if opcode in _INSIDE or opcode.startswith("async-start"):
                turns = (self.turns(instruction) or 1) if opcode == "while" else 1
                inside = fused or opcode in ("fusion", "async-start")
                for called in instruction.called:
                    yield from self._runs(called, times * turns, inside)


def parse(text: str) -> Module:
    """Reads the text of a compiled program. Raises ValueError where it has no entry."""
    computations: dict[str, dict[str, Instruction]] = {}
    current: dict[str, Instruction] | None = None
    entry = ""
    for line in text.splitlines():
        if not line.startswith(" "):
            header = _COMPUTATION.match(line)
            current = computations.setdefault(header[2], {}) if header else None
            entry = header[2] if header and header[1] else entry
        elif current is not None and (found := _INSTRUCTION.match(line)):
            instruction = _instruction(found[2], found[3], bool(found[1]))
            if instruction:
                current |= {name: _part(name, current) for name in instruction.operands if "#" in name}
                current[instruction.name] = instruction
    if not entry:
        raise ValueError("this is not the text of a compiled program: it has no ENTRY")
    return Module(computations, entry)


def _instruction(name: str, text: str, is_root: bool) -> Instruction | None:
    kind, after = _split_type(text)
    opcode = _OPCODE.match(after)
    if not opcode:
        return None
    inside = after[opcode.end() - 1 :]
    end = _closing(inside)
    operands = inside[1:end]
    rest = operands if opcode[1] in ("constant", "parameter") else inside[end + 1 :]
    return Instruction(name, opcode[1], arrays_of(kind), tuple(_NAME.findall(operands)), rest, is_root)


def _part(name: str, before: Mapping[str, Instruction]) -> Instruction:
    """Makes the instruction that "fusion.1#0" stands for: a compiler's own files name parts of tuples like that."""
    whole, place = name.split("#")
    results = before[whole].results[int(place) :][:1] if whole in before else ()
    return Instruction(name, "get-tuple-element", results, (whole,), "", False)


def _place(line: Instruction | None) -> int | None:
    """Returns which part of a tuple a line names; None where it names none."""
    if line is None or line.opcode != "get-tuple-element":
        return None
    found = re.search(r"#(\d+)$", line.name) or re.search(r"index=(\d+)", line.rest)
    return int(found[1]) if found else None


def _split_type(text: str) -> tuple[str, str]:
    """Splits a line into its type and the rest."""
    if text.startswith("("):
        end = _closing(text) + 1
    else:
        found = _ARRAY.match(text)
        end = found.end() if found else 0
    return text[:end], text[end:]


def _closing(text: str) -> int:
    """Returns the place of the bracket that closes the first one."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return place
    return len(text)


@functools.lru_cache(maxsize=4096)
def arrays_of(kind: str) -> tuple[Array, ...]:
    """Returns the arrays of a type, such as "(f32[2,3]{1,0}, bf16[8]{0:T(128)S(1)})"."""
    return tuple(
        Array(_size(dtype, dims), int(space[1]) if (space := re.search(r"S\((\d+)\)", layout)) else 0)
        for dtype, dims, layout in _ARRAY.findall(kind)
    )


def _size(dtype: str, dims: str) -> int:
    bits = re.search(r"\d+", dtype)
    width = _BITS.get(dtype, int(bits[0]) if bits else 8)
    return -(-math.prod(int(n) for n in dims.split(",") if n) * width // 8)


def total(arrays: Sequence[Array]) -> int:
    """Adds up the bytes of arrays in any memory."""
    return sum(array.bytes for array in arrays)
