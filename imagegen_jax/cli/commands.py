"""The command `imagegen`: list, train, sample, edit, evaluate, encode, report, play, info, import, export, data."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from imagegen_jax.cli import (
    data,
    edit,
    encode,
    evaluate,
    exporting,
    importing,
    info,
    listing,
    playing,
    report,
    sample,
    train,
)
from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.errors import readable_errors
from imagegen_jax.core.reporting.log import version
from imagegen_jax.data.remedy import nowhere, remedies_spelled

COMMANDS: tuple[Command, ...] = (  # in the order of `imagegen --help`
    listing.COMMAND, train.COMMAND, sample.COMMAND, edit.COMMAND, evaluate.COMMAND, encode.COMMAND, report.COMMAND,
    playing.COMMAND, info.COMMAND, importing.COMMAND, exporting.COMMAND, data.COMMAND,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the console script `imagegen`; None: with the arguments of the process."""
    options, more = main_parser().parse_known_args(arguments)
    command: Command = options.command
    if more and not command.takes_more:
        options.parser.error(f"unrecognized arguments: {' '.join(more)}")
    with readable_errors(), remedies_spelled(nowhere):
        request = command.read(vars(options), more)
        if command.own_help and request.wants_help:
            options.parser.print_help()
            raise SystemExit(0 if {"-h", "--help"} & set(more) else 2)
        command.run(request)


def main_parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line, with a parser below it for each command."""
    parser = argparse.ArgumentParser(
        prog="imagegen", description="Image generation in JAX and Flax.", allow_abbrev=False,
        epilog="imagegen COMMAND --help shows a command's options and examples.",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"imagegen {version('imagegen_jax') or 'of a checkout'}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    return parser
