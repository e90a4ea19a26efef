"""What a compiled program moves: bytes of each device's memory, and bytes between devices, by kind of collective.

Operations are told by what they do. A collective that is spread over several fused operations has one channel, and
counts once, though collectives that are not alike may share a channel; a reduction of which each device keeps its own
part at once is a reduce-scatter, whatever it is called.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping

from imagegen_jax.machines.hlo import Instruction, Module, Run, parse, total

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
_SLICES = ("dynamic-slice", "slice", "gather")
_NO_TRAFFIC = {  # names, views, and the ends of what was counted at its start
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional", "after-all",
    "partition-id", "replica-id", "opt-barrier", "async-update", "iota",
}  # fmt: skip
_NO_CALLS = ("AllocateBuffer", "AssumeGatherIndicesInBound", "ConcatBitcast")  # custom calls without work


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of one kind in a call of a program, on one device."""

    kind: str
    number: int
    bytes: int  # of the whole arrays that they gather, reduce or exchange, all together
    sent: float  # bytes that a device sends to others, as in a ring


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What one call of a compiled program moves, on one device."""

    memory_bytes: int
    collectives: tuple[Collective, ...]
    unknown_loops: int  # that count as one turn

    @property
    def sent(self) -> float:
        """The bytes that it sends to others."""
        return math.fsum(one.sent for one in self.collectives)


def traffic_of(text: str) -> Traffic:
    """Reads the text of a compiled program. Raises ValueError where it has no entry."""
    module = parse(text)
    return Traffic(memory_bytes(module), tuple(collectives(module)), module.loops_of_unknown_length())


def collectives(module: Module) -> list[Collective]:
    """Adds up the collectives that one call of a program runs, by kind."""
    found: dict[str, tuple[str, int, int, float]] = {}
    for run in module.runs():
        kind = _kind(module, run)
        if kind:
            name = _channel(run, kind)
            size, sent = _moved(module, run, kind)
            before = found.get(name, (kind, run.times, 0, 0.0))
            best = kind if kind == "reduce-scatter" else before[0]
            # One that begins before a loop and ends after it goes on in each of its turns, and is one.
            found[name] = (best, min(before[1], run.times), max(before[2], size), max(before[3], sent))
    return [
        Collective(
            kind, sum(n for _, n, _, _ in same), sum(n * size for _, n, size, _ in same),
            math.fsum(n * sent for _, n, _, sent in same),
        )
        for kind in KINDS
        if (same := [one for one in found.values() if one[0] == kind])
    ]  # fmt: skip


def _kind(module: Module, run: Run) -> str | None:
    opcode = run.instruction.opcode.removesuffix("-start")
    opcode = "all-to-all" if opcode == "ragged-all-to-all" else opcode
    if opcode not in KINDS or group_size(run.instruction.rest) == 1:
        return None
    if opcode == "all-reduce" and run.fused and _keeps_a_part(module.computations[run.computation], run.instruction):
        return "reduce-scatter"
    return opcode


def _keeps_a_part(inside: Mapping[str, Instruction], reduction: Instruction) -> bool:
    """Tells whether all that is read of a fused reduction is one device's part of it."""
    readers = _readers(inside, reduction)
    return bool(readers) and all(line.opcode == "dynamic-slice" for line in readers)


def _readers(inside: Mapping[str, Instruction], made: Instruction) -> list[Instruction]:
    """Returns what reads an instruction's results, each of several by itself."""
    readers = [line for line in inside.values() if made.name in line.operands]
    parts = [line for line in readers if line.opcode == "get-tuple-element"]
    return [line for line in readers if line not in parts] + [one for part in parts for one in _readers(inside, part)]


def _moved(module: Module, run: Run, kind: str) -> tuple[int, float]:
    """Returns the bytes of the whole array of a collective, and those that a device sends of it."""
    operands, n = _operand_bytes(module, run), group_size(run.instruction.rest)
    if kind == "all-gather":
        return operands * n, operands * (n - 1.0)
    if kind in ("collective-permute", "collective-broadcast"):
        return operands, float(operands)
    return operands, operands * (n - 1) / n * (2 if kind == "all-reduce" else 1)


def _channel(run: Run, kind: str) -> str:
    """Returns a name that the parts of one collective share: of those in fused operations their kind and channel."""
    channel = re.search(r"channel_id=(\d+)", run.instruction.rest)
    if channel is None or not run.fused:
        return f"{run.computation} {run.instruction.name}"
    return f"{'reduction' if kind in ('all-reduce', 'reduce-scatter') else kind} {channel[1]}"


def _operand_bytes(module: Module, run: Run) -> int:
    inside = module.computations[run.computation]
    return sum(total(inside[name].results) for name in run.instruction.operands if name in inside)


def group_size(rest: str) -> int:
    """Counts the devices that take part in a collective. The text says it in three ways:

        replica_groups={{0,1},{2,3}}    replica_groups=[4,2]<=[8]    replica_groups=mesh['data'=4,'fsdp'=2] {'fsdp'}

    A permutation has a pair for each device that sends: 2 stands for any.
    """
    axes = re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", rest)
    if axes:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", axes[1]))
        return math.prod(int(sizes[name]) for name in re.findall(r"'(\w+)'", axes[2]))
    counted = re.search(r"replica_groups=\[(\d+),(\d+)\]<=", rest)
    if counted:
        return int(counted[2])
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", rest)
    if listed:
        return len(listed[1].split(","))
    return 2


def memory_bytes(module: Module) -> int:
    """Adds up what one call reads and writes of a device's large memory, operation by operation.

    A value that stays in a fused operation, or in a memory of the chip's own, takes nothing; a slice that is read of an
    array, or written into it, takes its own size.
    """
    fused: dict[str, tuple[int, int]] = {}
    moved = 0
    for run in module.runs():
        if not run.fused:
            moved += run.times * _traffic(module, run)
        elif kind := _kind(module, run):
            name, size = _channel(run, kind), _operand_bytes(module, run) + _large(run.instruction)
            fused[name] = (min(run.times, fused.get(name, (run.times, 0))[0]), size)
    return moved + sum(times * size for times, size in fused.values())


def _traffic(module: Module, run: Run) -> int:
    instruction, inside = run.instruction, module.computations[run.computation]
    opcode = instruction.opcode
    if opcode in _NO_TRAFFIC or opcode.endswith("-done") or any(name in instruction.rest for name in _NO_CALLS):
        return 0
    sizes = [_large(inside[name]) if name in inside else 0 for name in instruction.operands]
    if opcode == "fusion":
        return _fusion_traffic(module.computations.get(instruction.called[0], {}), instruction, sizes)
    if opcode in _SLICES:
        return 2 * _large(instruction)
    if opcode == "dynamic-update-slice":
        return 2 * sizes[1]
    if opcode in ("slice-start", "dynamic-slice-start"):  # ((whole), part, ...)
        part = instruction.results[1]
        return part.bytes * (1 if part.space else 2)
    if opcode == "copy-start":
        return sum(array.bytes for array in instruction.results[:2] if not array.space)
    moved, made = sum(sizes), _large(instruction)
    return made if opcode.endswith("-start") and made > moved else moved + made  # its results name its operands too


def _fusion_traffic(body: Mapping[str, Instruction], fusion: Instruction, sizes: list[int]) -> int:
    """Returns what a fused operation moves: less than its operands where it reads, or writes, a slice of them.

    What only goes through, or belongs to a collective in it, takes nothing here.
    """
    root = next((line for line in body.values() if line.is_root), None)
    written = [0 if array.space else array.bytes for array in fusion.results]
    results = root.operands if root is not None and root.opcode == "tuple" else (root.name if root else "",)
    if root is not None and _passes(root) and root.opcode == "custom-call":
        written = []
    for place, name in enumerate(results[: len(written)]):
        if name in body and _passes(body[name]):
            written[place] = 0
    parameters = {int(line.rest): line.name for line in body.values() if line.opcode == "parameter"}
    for number, size in enumerate(sizes):
        name = parameters.get(number, "")
        readers = [line for line in body.values() if name in line.operands and not _passes(line)]
        if all(line.opcode in _SLICES for line in readers):
            sizes[number] = min(size, sum(total(line.results) for line in readers))
        elif all(line.opcode == "dynamic-update-slice" and line.operands[0] == name for line in readers):
            parts = [total(body[line.operands[1]].results) for line in readers]
            place = next((i for i, result in enumerate(results) if result == readers[0].name), -1)
            sizes[number] = 0
            if 0 <= place < len(written):
                written[place] = min(written[place], sum(parts))
    return sum(sizes) + sum(written)


def _passes(line: Instruction) -> bool:
    """Tells whether an instruction within a fused operation only names values, or is a collective."""
    names = line.opcode in ("parameter", "tuple", "get-tuple-element") or "AsyncCollective" in line.rest
    return names or line.opcode in KINDS


def _large(instruction: Instruction) -> int:
    return sum(array.bytes for array in instruction.results if not array.space)
