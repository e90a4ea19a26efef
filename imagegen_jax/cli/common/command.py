"""What a command is: its options, the request that they make, and the function that does what a request asks.

A request is a frozen dataclass, so that Python asks for the same as the command line does:

    from imagegen_jax.cli import sample
    sample.run(sample.SampleRequest("runs/demo", n=4, out="grid.png"))
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of the command line: it reads words into a request, and runs that."""

    name: str
    about: str  # what it does, without a capital and a full stop
    add_options: Callable[[argparse.ArgumentParser], None]  # each option's name is that of a field of the request
    request: type
    run: Callable[[Any], Any]
    examples: str = ""
    takes_more: bool = False  # words that are no option of its own, such as --model.width 8, are `request.overrides`
    own_help: bool = False  # it answers --help itself
    aliases: tuple[str, ...] = ()

    def add_to(self, commands: Any) -> None:
        """Adds its parser to the subparsers `commands`."""
        parser = commands.add_parser(
            self.name, aliases=self.aliases, help=self.about, epilog=self.examples or None, allow_abbrev=False,
            description=f"{self.about[0].upper()}{self.about[1:]}.", add_help=not self.own_help,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        self.add_options(parser)
        parser.set_defaults(command=self, parser=parser)

    def read(self, options: Mapping[str, Any], more: Sequence[str]) -> Any:
        """Returns the request that parsed options make, with `more` words that none of them took."""
        return from_options(self.request, {**options, "overrides": tuple(more)})


def from_options(cls: Callable[..., T], options: Mapping[str, Any]) -> T:
    """Makes a dataclass of the options that have the names of its fields, lists as tuples."""
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    given = {name: options[name] for name in names if name in options}
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})
