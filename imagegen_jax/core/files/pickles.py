"""Read pickles and execute nothing in them: plain values as they are, all else as names of what it would be.

Python's `pickle` calls what a file names. Here the opcodes of protocols 0 to 5 move values about and no more: a class
or a function is an `Opaque`, a call of it is an `Opaque` with arguments. Only functions of this package that the caller
hands in are called. Memory and time follow from the size of the file: a value that is declared longer than what is
left of the file is refused before it is read.
"""

from __future__ import annotations

import codecs
import dataclasses
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

_STEPS = 4_000_000  # opcodes of a pickle; a checkpoint of 1,000 tensors has about 40,000
_MARKS = 1_000  # lists and tuples begun and not ended
_LINE = 1_000  # bytes of a name or of a number in decimals; the longest names of classes have about 100
_INTEGER = 255  # bytes of an integer: Python computes hashes of long ones anew each time
_KEY = 16  # values of a tuple that is a key, for the same reason
_ARGUMENTS = 16  # of a call
_SCALARS = (str, bytes, int, float, complex, bool, type(None))

Known = Mapping[str, Callable[..., Any]]  # by "module.name": what makes a value of the arguments of a call


@dataclasses.dataclass(eq=False, slots=True)
class Opaque:
    """A class or function that a pickle names, or what a call of it would make. It is never imported nor called."""

    name: str  # "collections.OrderedDict"
    arguments: tuple[Any, ...] | None = None  # of the call; None: the class or function itself
    state: Any = None  # what the pickle would set on it: mostly its attributes, by name
    items: dict[Any, Any] | None = None  # what the pickle would set in it, if it is a mapping


def read_pickle(file: BinaryIO, size: int, known: Known, persistent: Callable[[Any], Any] | None = None) -> Any:
    """Reads one pickle from where `file` stands, of at most `size` bytes, and stops behind its last opcode.

    `known` makes values of calls of these names, `persistent` of identities of values that lie outside the pickle.
    Raises ValueError, with the place of the opcode, for all that is damaged, too large or too deep.
    """
    machine = _Machine(file, size, known, persistent)
    try:
        return machine.run()
    except Exception as error:  # of a damaged pickle, errors of every kind
        reason = str(error) or type(error).__name__
        raise ValueError(f"its pickle is damaged or refused at byte {size - machine.left:,}: {reason}") from error


class _Machine:
    """The stack and the memory of a pickle that is read."""

    def __init__(self, file: BinaryIO, size: int, known: Known, persistent: Callable[[Any], Any] | None) -> None:
        self.file, self.left, self.known, self.persistent = file, size, known, persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # of each mark, the stack under it
        self.memory: dict[int, Any] = {}

    def run(self) -> Any:
        """Follows opcodes to the one that ends the pickle."""
        for _ in range(_STEPS):
            code = self.take(1)[0]
            if code == ord("."):
                return self.stack.pop()
            if code not in _ACTIONS:
                raise ValueError(f"opcode {code}")
            _ACTIONS[code](self)
        raise ValueError(f"more than {_STEPS:,} opcodes")

    def take(self, count: int) -> bytes:
        """Reads so many bytes."""
        if count > self.left:
            raise ValueError(f"{count:,} bytes are declared and {self.left:,} left: cut short, or damaged")
        found = self.file.read(count)
        self.left -= len(found)
        if len(found) < count:
            raise ValueError("it ends too early")
        return found

    def number(self, width: int) -> int:
        """Reads an unsigned number of so many bytes."""
        return int.from_bytes(self.take(width), "little")

    def line(self) -> bytes:
        """Reads up to the end of a line."""
        found = self.file.readline(min(_LINE, self.left))
        self.left -= len(found)
        if not found.endswith(b"\n"):
            raise ValueError("a line without end")
        return found[:-1]

    def mark(self) -> None:
        """Begins a list of values that another opcode takes at once."""
        if len(self.below) == _MARKS:
            raise ValueError(f"more than {_MARKS:,} values inside others")
        self.below.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        """Takes the values since the last mark."""
        found, self.stack = self.stack, self.below.pop()
        return found

    def popped(self, count: int) -> list[Any]:
        """Takes so many values."""
        if count > len(self.stack):
            raise ValueError("too few values")
        found = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return found

    def recalled(self, place: int) -> Any:
        """Returns what was kept before at this place of the memory."""
        if place not in self.memory:
            raise ValueError(f"nothing is kept at {place:,}")
        return self.memory[place]

    def name(self, module: Any, name: Any) -> None:
        """Pushes the class or function of this name, as a name."""
        if not (isinstance(module, str) and isinstance(name, str) and len(module) + len(name) < _LINE):
            raise ValueError("a name that is none")
        self.stack.append(Opaque(f"{module}.{name}"))

    def call(self, function: Any, arguments: Any) -> None:
        """Pushes what a function of the caller makes of arguments, or else what stands for the call."""
        if not isinstance(function, Opaque) or not isinstance(arguments, tuple):
            raise ValueError("a call of what is no function")
        make = self.known.get(function.name) if function.arguments is None else None
        if make and len(arguments) > _ARGUMENTS:
            raise ValueError(f"{function.name} of {len(arguments):,} arguments")
        self.stack.append(make(*arguments) if make else Opaque(function.name, arguments))

    def identity(self, identity: Any) -> None:
        """Pushes a value that lies outside of the pickle."""
        if self.persistent is None:
            raise ValueError("a value outside of the pickle, where there are none")
        self.stack.append(self.persistent(identity))

    def build(self) -> None:
        """Gives a value its state; a dict stays what it is, since what it has beside its items is of no use here."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], Opaque):
            self.stack[-1].state = state
        elif not isinstance(self.stack[-1], dict):
            raise ValueError("a state of what has none")

    def set_items(self, items: list[Any]) -> None:
        """Puts keys and values, one after the other, into the mapping on the stack."""
        target = self.stack[-1]
        if isinstance(target, Opaque):
            target.items = mapping = target.items if target.items is not None else {}
        elif isinstance(target, dict):
            mapping = target
        else:
            raise ValueError("items of what is no mapping")
        fill(mapping, zip(items[::2], items[1::2], strict=True))

    def append(self, values: list[Any]) -> None:
        """Puts values into the list or set on the stack; what stands for an object forgets them."""
        target = self.stack[-1]
        if isinstance(target, set):
            target.update(map(checked_key, values))
        elif isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Opaque):
            raise ValueError("values in what is no list")


def checked_key(key: Any) -> Any:
    """Returns a key of a mapping or set. Raises ValueError for values whose hashes may take without end."""
    flat = key if isinstance(key, tuple) and len(key) <= _KEY else (key,)
    if not all(isinstance(value, (*_SCALARS, Opaque)) for value in flat):
        raise ValueError(f"a key that is a {type(key).__name__}")
    return key


def fill(mapping: dict[Any, Any], pairs: Any) -> dict[Any, Any]:
    """Puts pairs of keys and values into a mapping. Raises ValueError as `checked_key` does."""
    for key, value in pairs:
        mapping[checked_key(key)] = value
    return mapping


def _integer(content: bytes) -> int:
    if len(content) > _INTEGER:
        raise ValueError(f"an integer of {len(content):,} bytes")
    return int.from_bytes(content, "little", signed=True)


def _decimal(line: bytes) -> int | bool:
    """Reads a line's integer; protocol 0 writes booleans as 00 and 01."""
    return line == b"01" if line in (b"00", b"01") else int(line.removesuffix(b"L"))


def _quoted(line: bytes) -> str:
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError("a text without quotes")
    return codecs.escape_decode(line[1:-1])[0].decode("latin-1")


def _utf8(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")


def _latin(content: bytes) -> str:
    return content.decode("latin-1")  # texts of Python 2, which may be bytes: each stays what it is


def _protocol(machine: _Machine) -> None:
    if machine.number(1) > 5:
        raise ValueError("a protocol newer than 5")


def _frame(machine: _Machine) -> None:
    if machine.number(8) > machine.left:
        raise ValueError("a frame longer than what is left: cut short, or damaged")


def _set(machine: _Machine, place: int) -> None:
    machine.memory[place] = machine.stack[-1]


def _object(machine: _Machine) -> None:
    kind, *arguments = machine.marked()
    machine.call(kind, tuple(arguments))


def _instance(machine: _Machine) -> None:
    module, name = _utf8(machine.line()), _utf8(machine.line())
    arguments = tuple(machine.marked())
    machine.name(module, name)
    machine.call(machine.stack.pop(), arguments)


def _keyword_object(machine: _Machine) -> None:
    kind, arguments, _ = machine.popped(3)  # what is named by keywords, no value here takes
    machine.call(kind, arguments)


def _push(make: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    def action(machine: _Machine) -> None:
        value = make(machine)  # before the stack is named, since to take what is marked changes it
        machine.stack.append(value)

    return action


def _counted(width: int, read: Callable[[bytes], Any]) -> Callable[[_Machine], None]:
    return _push(lambda machine: read(machine.take(machine.number(width))))


def _packed(form: str) -> Callable[[_Machine], None]:
    return _push(lambda machine: struct.unpack(form, machine.take(struct.calcsize(form)))[0])


def _grouped(count: int) -> Callable[[_Machine], None]:
    return _push(lambda machine: tuple(machine.popped(count)))


_ACTIONS: dict[int, Callable[[_Machine], None]] = {
    ord(code): action
    for code, action in {
        # constants, numbers and texts
        "N": _push(lambda m: None), "\x88": _push(lambda m: True), "\x89": _push(lambda m: False),
        "K": _packed("<B"), "M": _packed("<H"), "J": _packed("<i"), "G": _packed(">d"),
        "I": _push(lambda m: _decimal(m.line())), "L": _push(lambda m: int(m.line().removesuffix(b"L"))),
        "F": _push(lambda m: float(m.line())), "\x8a": _counted(1, _integer), "\x8b": _counted(4, _integer),
        "S": _push(lambda m: _quoted(m.line())), "V": _push(lambda m: m.line().decode("raw-unicode-escape")),
        "U": _counted(1, _latin), "T": _counted(4, _latin), "\x8c": _counted(1, _utf8), "X": _counted(4, _utf8),
        "\x8d": _counted(8, _utf8), "C": _counted(1, bytes), "B": _counted(4, bytes), "\x8e": _counted(8, bytes),
        "\x96": _counted(8, bytes),
        # containers
        "]": _push(lambda m: []), "}": _push(lambda m: {}), ")": _push(lambda m: ()), "\x8f": _push(lambda m: set()),
        "l": _push(lambda m: m.marked()), "t": _push(lambda m: tuple(m.marked())),
        "d": _push(lambda m: (lambda found: fill({}, zip(found[::2], found[1::2], strict=True)))(m.marked())),
        "\x91": _push(lambda m: frozenset(map(checked_key, m.marked()))),
        "\x85": _grouped(1), "\x86": _grouped(2), "\x87": _grouped(3),
        "a": lambda m: m.append(m.popped(1)), "e": lambda m: m.append(m.marked()),
        "\x90": lambda m: m.append(m.marked()),
        "s": lambda m: m.set_items(m.popped(2)), "u": lambda m: m.set_items(m.marked()),
        # the stack and the memory
        "(": _Machine.mark, "1": lambda m: m.marked(), "0": lambda m: m.stack.pop() if m.stack else m.marked(),
        "2": _push(lambda m: m.stack[-1]),
        "p": lambda m: _set(m, int(m.line())), "q": lambda m: _set(m, m.number(1)),
        "r": lambda m: _set(m, m.number(4)), "\x94": lambda m: _set(m, len(m.memory)),
        "g": _push(lambda m: m.recalled(int(m.line()))), "h": _push(lambda m: m.recalled(m.number(1))),
        "j": _push(lambda m: m.recalled(m.number(4))),
        # names, calls, and what frames a pickle
        "c": lambda m: m.name(_utf8(m.line()), _utf8(m.line())), "\x93": lambda m: m.name(*m.popped(2)),
        "R": lambda m: m.call(*m.popped(2)), "\x81": lambda m: m.call(*m.popped(2)), "\x92": _keyword_object,
        "o": _object, "i": _instance, "b": _Machine.build,
        "P": lambda m: m.identity(_utf8(m.line())), "Q": lambda m: m.identity(m.stack.pop()),
        "\x80": _protocol, "\x95": _frame,
    }.items()
}  # fmt: skip
