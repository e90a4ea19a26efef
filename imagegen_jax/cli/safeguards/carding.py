"""`imagegen card`: a run's model card, README.md in its folder."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

from imagegen_jax.cli.common.command import Command
from imagegen_jax.cli.common.data_options import add_module_option
from imagegen_jax.cli.common.targets import import_modules
from imagegen_jax.data.pictures.output import check_output
from imagegen_jax.interop.exports.card import Licences, check_licence, write_run_card

EXAMPLES = """examples:
  imagegen card runs/demo --licence cc-by-4.0 --data-licence "CC0 1.0"
  imagegen evaluate runs/demo --metrics fid,shares,membership && imagegen card runs/demo

The card is made of the run's files: its data and their licence, its recipe and the command, how it was trained, its
scores with their intervals, what was looked at (membership, copies, shares of classes), its known limits, and epsilon
where training was private. `imagegen train` writes it at its end, and `imagegen export` to its folder; licences are
kept from one card to the next. A card without its line of `imagegen card`, one of your own, is never written over."""


@dataclasses.dataclass(frozen=True)
class CardRequest:
    """The run whose card to write, and what its files do not say."""

    run: str | pathlib.Path
    _: dataclasses.KW_ONLY
    out: pathlib.Path | None = None  # None: README.md in the run's folder
    licence: str | None = None  # of the weights; None: as the card that is there says
    data_licence: str | None = None  # of the data, likewise
    modules: tuple[str, ...] = ()


def run(request: CardRequest) -> pathlib.Path:
    """Writes a run's card, says where it is and returns that place.

    Raises RunFolderError where there is no run, and ValueError where the card cannot be written there.
    """
    out = None if request.out is None else check_output(request.out, (".md",))
    given = (check_licence(name) if name else "" for name in (request.licence, request.data_licence))
    import_modules(request.modules)
    try:
        written = write_run_card(pathlib.Path(request.run), out, Licences(*given), request.modules)
    except OSError as error:
        raise ValueError(f"the card cannot be written ({error}): name another place with --out") from error
    print(written)
    return written


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `imagegen card`."""
    parser.add_argument("run", type=pathlib.Path, help="the run's folder")
    parser.add_argument("--licence", "--license", metavar="NAME", help="the licence of the weights")
    parser.add_argument("--data-licence", "--data-license", metavar="NAME", help="the licence of the training data")
    parser.add_argument("--out", type=pathlib.Path, help="the .md to write (default: README.md in the run's folder)")
    add_module_option(parser)


COMMAND = Command("card", "write a run's model card, README.md", add_options, CardRequest, run, EXAMPLES)
