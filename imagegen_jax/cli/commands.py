"""The command `imagegen`: list, train, sweep, compare, sample, edit, evaluate, judge, encode, report, play, ..."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.errors import readable_errors
from imagegen_jax.cli.train_options import target_first
from imagegen_jax.core.platform.packages import version

if TYPE_CHECKING:  # what `Named.load` imports by name, so that readers of imports see it
    from imagegen_jax.cli import (  # noqa: F401
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
    )  # fmt: skip
    from imagegen_jax.cli.pages import judging, playing  # noqa: F401
    from imagegen_jax.cli.safeguards import carding, provenance, signing, watermarking  # noqa: F401
    from imagegen_jax.cli.studies import comparing, sweeping  # noqa: F401


class Named(NamedTuple):
    """A command by its name: the module that has it, and what `imagegen --help` says of it before that is imported."""

    name: str
    module: str
    about: str

    def load(self) -> Command:
        """Imports the command."""
        found: Command = importlib.import_module(f"imagegen_jax.cli.{self.module}").COMMAND
        return found


COMMANDS = (  # in the order of `imagegen --help`
    Named("list", "listing", "list the recipes: family, data, cost and expected score"),
    Named("train", "train", "train a recipe, an experiment of your own, or on your own images"),
    Named(
        "sweep", "studies.sweeping", "train an experiment with other values of some fields, and several seeds of each"
    ),
    Named("compare", "studies.comparing", "compare runs: curves with bands over seeds, what differs, and tests of it"),
    Named("sample", "sample", "draw images from a run"),
    Named(
        "edit", "edit",
        "edit what a model makes: mix, truncate, ...; inpaint, redraw, enlarge, ...; style, texture without one",
    ),
    Named("evaluate", "evaluate", "compare images with a data set, by the metrics of the field"),
    Named("judge", "pages.judging", "have people compare pictures by eye, in the browser"),
    Named("encode", "encode", "write the codes or latents that a tokenizer or an autoencoder makes of a data set"),
    Named("report", "report", "write a run's report.html"),
    Named("card", "safeguards.carding", "write a run's model card, README.md"),
    Named("play", "pages.playing", "play with models in the browser"),
    Named(
        "info", "info",
        "parameter counts and memory of an experiment or a run; what a machine that is not here would take",
    ),
    Named("import", "importing", "make a run of a model that was trained elsewhere"),
    Named("export", "exporting", "write a run as files that others read"),
    Named("data", "data", "look at a data set, or prepare it"),
    Named("provenance", "safeguards.provenance", "read by which run a picture was made, and draw it again"),
    Named("sign", "safeguards.signing", "sign a picture's Content Credentials"),
    Named("watermark", "safeguards.watermarking", "put a faint mark on any picture, and find it again"),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the console script `imagegen`; None: with the arguments of the process."""
    words = target_first(sys.argv[1:] if arguments is None else arguments)
    options, more = main_parser(words).parse_known_args(words)
    command: Command = options.command
    if more and not command.takes_more:
        options.parser.error(f"unrecognized arguments: {' '.join(more)}")
    with readable_errors():
        try:
            request = command.read(vars(options), more)
            if command.own_help and request.wants_help:
                options.parser.print_help()
                raise SystemExit(0 if {"-h", "--help"} & set(more) else 2)
            command.run(request)
        except ValueError:
            from imagegen_jax.data.remedy import nowhere, remedies_spelled  # with all that reads data

            with remedies_spelled(nowhere):
                raise


def main_parser(words: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Makes the parser of the command line, with a parser below it for each command.

    With the `words` to parse, only a command among them is imported and has its options: all take seconds.
    """
    parser = argparse.ArgumentParser(
        prog="imagegen", description="Image generation in JAX and Flax.", allow_abbrev=False,
        epilog="imagegen COMMAND --help shows a command's options and examples.",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"imagegen {version('imagegen_jax') or 'of a checkout'}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        if words is None or command.name in words:
            command.load().add_to(commands)
        else:
            commands.add_parser(command.name, help=command.about)
    return parser
