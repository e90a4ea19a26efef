"""The command `imagegen`: list, train, sweep, compare, sample, edit, evaluate, judge, encode, report, play, ..."""

from __future__ import annotations

import argparse
import sys
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
    report,
    sample,
    train,
)
from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.errors import readable_errors
from imagegen_jax.cli.pages import judging, playing
from imagegen_jax.cli.safeguards import provenance, watermarking
from imagegen_jax.cli.studies import comparing, sweeping
from imagegen_jax.cli.train_options import target_first
from imagegen_jax.core.reporting.log import version
from imagegen_jax.data.remedy import nowhere, remedies_spelled

COMMANDS: tuple[Command, ...] = (  # in the order of `imagegen --help`
    listing.COMMAND, train.COMMAND, sweeping.COMMAND, comparing.COMMAND, sample.COMMAND, edit.COMMAND,
    evaluate.COMMAND, judging.COMMAND, encode.COMMAND, report.COMMAND, playing.COMMAND, info.COMMAND,
    importing.COMMAND, exporting.COMMAND, data.COMMAND, provenance.COMMAND,
    watermarking.COMMAND,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the console script `imagegen`; None: with the arguments of the process."""
    words = target_first(sys.argv[1:] if arguments is None else arguments)
    options, more = main_parser(words).parse_known_args(words)
    command: Command = options.command
    if more and not command.takes_more:
        options.parser.error(f"unrecognized arguments: {' '.join(more)}")
    with readable_errors(), remedies_spelled(nowhere):
        request = command.read(vars(options), more)
        if command.own_help and request.wants_help:
            options.parser.print_help()
            raise SystemExit(0 if {"-h", "--help"} & set(more) else 2)
        command.run(request)


def main_parser(words: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Makes the parser of the command line, with a parser below it for each command.

    With the `words` to parse, only a command among them has its options: to make those of all takes time at each call.
    """
    parser = argparse.ArgumentParser(
        prog="imagegen", description="Image generation in JAX and Flax.", allow_abbrev=False,
        epilog="imagegen COMMAND --help shows a command's options and examples.",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"imagegen {version('imagegen_jax') or 'of a checkout'}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands, whole=words is None or not {command.name, *command.aliases}.isdisjoint(words))
    return parser
